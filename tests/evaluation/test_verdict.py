"""Which kind of collapse the numbers show."""

from dataclasses import replace

import pytest

from savi.evaluation.advice import Advice
from savi.evaluation.verdict import KINDS, Evidence, HeldOut, judge

#: 3 of 10 dimensions pruned on data with a signal in 7 directions and noise of variance 0.1.
BENIGN = Evidence(
    latent_dim=10,
    dim=100,
    pruned=3,
    gamma=0.1,
    gamma_optimum=0.1,
    floored=0.0,
    beta=1.0,
    variance=0.5,
    error=0.093,
    linear_error=0.09,
    autoencoder_error=0.09,
)
COLLAPSED = replace(BENIGN, pruned=10, gamma=0.5, gamma_optimum=0.5, error=0.5)


def test_the_kinds_are_those_of_the_paper():
    assert list(KINDS) == ["none", "i", "ii", "iii", "iv", "v", "undecided"]
    assert judge(BENIGN).name == KINDS["i"]


@pytest.mark.parametrize(
    ("evidence", "kind", "said"),
    [
        (replace(BENIGN, pruned=0), "none", "All 10"),
        # However bad γ and the errors are, dimensions in use are not collapsed.
        (replace(BENIGN, pruned=0, gamma=5.0, error=0.4), "none", "All 10"),
        (replace(BENIGN, pruned=0, gamma=5.0, error=0.4), "none", "and still the VAE's squared"),
        (BENIGN, "i", "optimum, and superfluous"),
        (replace(BENIGN, autoencoder_error=None), "i", "3 of 10"),
        # γ is too large, and pruned what was needed.
        (replace(BENIGN, gamma=0.3, gamma_optimum=0.15, error=0.14), "ii", "γ is 2 times"),
        (replace(BENIGN, beta=4.0, error=0.14), "ii", "(β = 4) is 4 times"),
        # γ is too large, but the others would have been pruned at any γ.
        (replace(BENIGN, gamma=0.3, gamma_optimum=0.12), "i", "2.5 times its optimum"),
        (COLLAPSED, "v", "did not find it"),
        (replace(COLLAPSED, autoencoder_error=0.49), "undecided", "inherits it"),
        (replace(COLLAPSED, autoencoder_error=None), "v", "another seed"),
        (replace(COLLAPSED, floored=0.2), "iii", "20% of γ is at its floor"),
        # No code of 10 dimensions describes isotropic noise: to collapse is right.
        (replace(COLLAPSED, linear_error=0.45, autoencoder_error=0.46), "i", "10 of 10"),
        # An autoencoder is always somewhat better.
        (replace(BENIGN, error=0.15, gamma_optimum=0.16, gamma=0.16), "i", "0.15"),
    ],
)
def test_the_kind_of_each_pattern(evidence: Evidence, kind: str, said: str):
    verdict = judge(evidence)
    assert verdict.kind == kind
    assert said in verdict.sentence
    assert verdict.sentence.count(". ") == 0
    assert verdict.sentence.endswith(".")


RISING = "val/elbo still rose by 3 nats over its last 5 values"
#: Components that gain on held-out data what the pruned dimensions would have to.
NEEDED = HeldOut(elbo=-30.0, none=-30.0, used=-30.0, most=-20.0, error=0.5)
FEW = replace(COLLAPSED, dim=12)
#: One for 10 dimensions, anything.
MANY = replace(COLLAPSED, dim=10, linear_error=0.0, autoencoder_error=0.02)


@pytest.mark.parametrize(
    ("evidence", "kind", "said"),
    [
        # A code of 10 dimensions for 12 reconstructs noise as well as a signal.
        (FEW, "undecided", "errors alone do not tell"),
        (replace(FEW, held_out=NEEDED), "v", "is -20 nats, and -30 with only as many"),
        (replace(MANY, held_out=NEEDED), "v", "did not find it"),
        (replace(MANY, held_out=NEEDED, dim=5), "v", "did not find it"),
        (replace(FEW, held_out=replace(NEEDED, most=-29.0)), "i", "optimum, and superfluous"),
        (replace(FEW, held_out=replace(NEEDED, most=-30.0, error=0.0)), "i", "superfluous"),
        # The VAE does well with the dimensions that it uses, if not linearly.
        (replace(FEW, held_out=replace(NEEDED, elbo=-21.0)), "i", "optimum, and superfluous"),
        # A γ that is too large has pruned noise alone, or has not.
        (replace(MANY, gamma=1.0, held_out=NEEDED), "ii", "2 times"),
        (replace(MANY, gamma=1.0, held_out=replace(NEEDED, most=-30.0)), "i", "2 times its"),
        # A training that was not over.
        (replace(COLLAPSED, trend=RISING), "undecided", RISING),
        (replace(COLLAPSED, trend=RISING, floored=0.2), "undecided", RISING),
        (replace(FEW, held_out=NEEDED, trend=RISING), "undecided", RISING),
        # What is superfluous or in use is so, whatever comes.
        (replace(BENIGN, trend=RISING), "i", "superfluous"),
        (replace(BENIGN, pruned=0, trend=RISING), "none", "All 10"),
        # A yardstick that is worse than principal components.
        (replace(COLLAPSED, autoencoder_error=0.2), "undecided", "worse than the principal"),
        (replace(COLLAPSED, autoencoder_error=0.6), "undecided", "worse than the principal"),
        (replace(COLLAPSED, autoencoder_error=0.1), "v", "did not find it"),
    ],
)
def test_what_decides_and_what_does_not(evidence: Evidence, kind: str, said: str):
    verdict = judge(evidence)
    assert (verdict.kind, verdict.name) == (kind, KINDS[kind])
    assert said in verdict.sentence
    assert verdict.sentence.count(". ") == 0
    assert verdict.sentence.endswith(".")


@pytest.mark.parametrize(
    ("evidence", "kind"),
    [
        # As long as the autoencoder that does better, or longer, or nothing is known.
        (replace(COLLAPSED, steps=(2_000, 2_000)), "v"),
        (replace(COLLAPSED, steps=(9_000, 2_000)), "v"),
        (replace(COLLAPSED, steps=None), "v"),
        (replace(COLLAPSED, steps=(60, 2_004)), "undecided"),
        # What is superfluous stays so, and γ is too large whatever comes.
        (replace(BENIGN, steps=(60, 2_004)), "i"),
        (replace(BENIGN, gamma=0.3, gamma_optimum=0.15, error=0.14, steps=(60, 2_004)), "ii"),
    ],
)
def test_a_training_shorter_than_the_yardsticks_is_no_bad_minimum(evidence: Evidence, kind: str):
    verdict = judge(evidence)
    assert verdict.kind == kind
    told = "this training took 60 steps and that autoencoder 2,004, so train for as long"
    assert (told in verdict.sentence) == (kind == "undecided")


@pytest.mark.parametrize("pruned", [0, 1, 10])
@pytest.mark.parametrize("trend", ["", RISING])
def test_without_a_weight_on_the_kl_term_nothing_is_pruned(pruned: int, trend: str):
    evidence = replace(COLLAPSED, pruned=pruned, beta=0.0, trend=trend, floored=1.0)
    verdict = judge(evidence, Advice({"kl": {"weight": 0.0}}))
    assert verdict.kind == "none"
    assert "has no weight (model.kl.weight=0)" in verdict.sentence
    count = {0: "none of 10 latent dimensions have", 1: "1 of 10 latent dimensions has"}
    assert count.get(pruned, "10 of 10 latent dimensions have") in verdict.sentence
    assert "still, the VAE's squared error" in verdict.sentence
    assert ("train for longer" in verdict.sentence) == bool(trend)
    for wrong in ("pruned because", "are pruned", "in use", "warmup", "collapse"):
        assert wrong not in verdict.sentence
    good = judge(replace(evidence, error=0.09))
    assert "squared error" not in good.sentence
    assert "train for longer" not in good.sentence


def test_a_variance_that_is_learned_may_still_be_on_its_way():
    evidence = replace(BENIGN, gamma=0.3, gamma_optimum=0.15, error=0.14, trend=RISING)
    kinds = {
        mode: judge(evidence, Advice({"gamma": {"mode": mode}})).kind
        for mode in ("learned", "per_pixel", "fixed", "optimal")
    }
    assert kinds == {
        "learned": "undecided", "per_pixel": "undecided", "fixed": "ii", "optimal": "ii",
    }  # fmt: skip


#: Settings, evidence, what is advised, and what the run has already.
ADVISED = [
    (
        {"gamma": {"mode": "optimal"}, "kl": {"weight": 4.0}},
        replace(BENIGN, beta=4.0, error=0.14),
        "; set model.kl.weight=1.",
        "model.gamma.mode",
    ),
    (
        {"gamma": {"mode": "fixed"}, "kl": {"weight": 1.0}},
        replace(BENIGN, gamma=0.3, gamma_optimum=0.15, error=0.14),
        "; set model.gamma.mode=optimal or lower model.gamma.value.",
        "model.kl.weight",
    ),
    (
        {"gamma": {"mode": "optimal"}, "kl": {"weight": 1.0}},
        replace(BENIGN, gamma=0.3, gamma_optimum=0.15, error=0.14),
        "; train for longer (trainer.max_epochs).",
        "model.gamma.mode",
    ),
    (
        {"gamma": {"mode": "optimal", "floor": 0.01}},
        replace(COLLAPSED, floored=1.0),
        "; raise model.gamma.floor (now 0.01) or dequantise the data (data.dequantise=true).",
        "model.gamma.mode",
    ),
    (
        {"kl": {"warmup_steps": 100}},
        COLLAPSED,
        ": train for longer (trainer.max_epochs) or with another seed.",
        "warmup_steps",
    ),
    (
        {"depth": 4, "activation": "softplus"},
        COLLAPSED,
        "with model.kl.warmup_steps or with model.activation=tanh.",
        "model.depth",
    ),
    ({"depth": 3, "activation": "softplus"}, COLLAPSED, "model.activation=tanh.", "model.depth"),
    ({"depth": 2, "activation": "softplus"}, COLLAPSED, "or with model.kl.warmup_steps.", "tanh"),
    ({"depth": 4, "activation": "relu"}, COLLAPSED, "or with model.kl.warmup_steps.", "tanh"),
    (
        {"depth": 4, "activation": "softplus", "decoder": "residual_mlp"},
        COLLAPSED,
        "or with model.kl.warmup_steps.",
        "tanh",
    ),
    (
        {"depth": 1, "decoder": "mlp"},
        replace(COLLAPSED, autoencoder_error=0.49),
        ": use model.decoder=residual_mlp or train both for longer",
        "model.depth",
    ),
    (
        {"depth": 4, "decoder": "residual_mlp"},
        replace(COLLAPSED, autoencoder_error=0.49),
        ": lower model.depth (now 4) or train both for longer",
        "model.decoder",
    ),
]


@pytest.mark.parametrize(("model", "evidence", "advised", "has"), ADVISED)
def test_nothing_is_advised_that_the_run_has(model, evidence: Evidence, advised: str, has: str):
    sentence = judge(evidence, Advice(model)).sentence
    assert advised in sentence
    assert has not in sentence


def test_data_that_are_dequantised_or_have_no_levels_need_no_more_of_it():
    evidence = replace(COLLAPSED, floored=1.0)
    assert "dequantise" in judge(evidence, Advice(quantised=True)).sentence
    assert "dequantise" not in judge(evidence, Advice(quantised=False)).sentence


def test_ratios():
    assert COLLAPSED.gamma_ratio == 1.0
    assert replace(COLLAPSED, beta=4.0).effective_ratio == 4.0
    assert COLLAPSED.lost_share == pytest.approx(1.0)
    assert replace(BENIGN, autoencoder_error=0.08).reference_error == 0.08
    assert replace(BENIGN, autoencoder_error=0.3).reference_error == 0.09
    # Data without variance, or perfectly described ones.
    still = replace(BENIGN, variance=0.0, error=0.0, linear_error=0.0, autoencoder_error=0.0)
    assert still.lost_share == 0.0
    assert judge(replace(still, gamma_optimum=0.0)).kind == "i"
