"""Which kind of collapse the numbers show."""

from dataclasses import replace

import pytest

from savi.evaluation.verdict import KINDS, Evidence, judge

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
    assert list(KINDS) == ["none", "i", "ii", "iii", "iv", "v"]
    assert judge(BENIGN).name == KINDS["i"]


@pytest.mark.parametrize(
    ("evidence", "kind", "said"),
    [
        (replace(BENIGN, pruned=0), "none", "All 10"),
        # However bad γ and the errors are, dimensions in use are not collapsed.
        (replace(BENIGN, pruned=0, gamma=5.0, error=0.4), "none", "All 10"),
        (BENIGN, "i", "they are superfluous"),
        (replace(BENIGN, autoencoder_error=None), "i", "3 of 10"),
        # γ is too large, and pruned what was needed.
        (replace(BENIGN, gamma=0.3, gamma_optimum=0.15, error=0.14), "ii", "γ is 2 times"),
        (replace(BENIGN, beta=4.0, error=0.14), "ii", "(β = 4) is 4 times"),
        # γ is too large, but the others would have been pruned at any γ.
        (replace(BENIGN, gamma=0.3, gamma_optimum=0.12), "i", "2.5 times its optimum"),
        (COLLAPSED, "v", "did not find it"),
        (replace(COLLAPSED, autoencoder_error=0.49), "v", "inherits it"),
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
