"""``model.likelihood`` in a whole config."""

import pytest

from savi.config.of_likelihood import OTHERS, of_likelihood
from savi.config.options import check_options
from savi.errors import InputError
from savi.experiments.check import check, check_likelihood
from savi.vae import LIKELIHOODS

DATA = ("mnist", "arrays")


@pytest.mark.parametrize("name", ["gaussian", *sorted(OTHERS)])
def test_data_are_prepared_as_the_likelihood_needs(config, name: str):
    for data in DATA:
        made = config(f"model.likelihood={name}", f"data={data}")
        for key in ("dequantise", "centre", "binarise"):
            assert made["data"][key] == of_likelihood(name, key)
        check_options(made)
        check(made)
    binary = LIKELIHOODS[name].support == "binary"
    assert (made["data"]["binarise"] != "none") == binary
    assert made["data"]["centre"] == (LIKELIHOODS[name].support == "real")


def test_every_likelihood_of_other_data_is_known_there():
    own = [cls for cls in LIKELIHOODS.values() if cls.__module__.startswith("savi.")]
    assert {cls.name for cls in own if cls.support != "real"} == set(OTHERS)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data.centre=true"], "'bernoulli' with data.centre, which is for ones and zeros: set"),
        (["data.dequantise=true"], "with data.dequantise.*: set data.dequantise=false"),
        (["data.scale=global"], "with data.scale 'global'.*: set data.scale=none"),
        (["model.gamma.mode=learned"], "model.gamma.mode is learned, but .* has no variance γ"),
        (["model.gamma.value=0.1"], "model.gamma.value is 0.1.*set model.gamma.value=null"),
    ],
)
def test_contradictions_are_refused_before_data_are_read(config, words: list[str], said: str):
    made = config("model.likelihood=bernoulli", *words)
    with pytest.raises(InputError, match=said):
        check_likelihood(made["model"], made["data"])
    with pytest.raises(InputError, match=said):
        check(made)


@pytest.mark.parametrize(
    "word",
    ["data.dequantise=true", "data.centre=true", "data.binarise=static", "data.scale=global"],
)
@pytest.mark.parametrize("name", ["categorical", "logistic_mixture"])
def test_levels_are_left_as_they_are(config, name: str, word: str):
    made, key = config(f"model.likelihood={name}", word), word.partition("=")[0]
    said = rf"'{name}' with {key}.*, which is for whole levels: set {key}="
    with pytest.raises(InputError, match=said):
        check_likelihood(made["model"], made["data"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["experiment=savi_ift"], "'laplace' with gradient 'ift', which needs the Hessian of a"),
        (
            ["experiment=savi_unrolled", "inner.optimizer=newton"],
            "inner.optimizer 'newton'.*set inner.optimizer=levenberg_marquardt",
        ),
    ],
)
def test_what_needs_the_hessian_of_a_bound_with_kinks_is_refused(config, words, said: str):
    with pytest.raises(InputError, match=said):
        check(config("model.likelihood=laplace", *words))
    check(config("model.likelihood=laplace", "experiment=savi_unrolled"))
    check(config("model.likelihood=laplace", "experiment=vae"))


def test_an_unknown_one_lists_the_known(config):
    made = config("model.likelihood=poisson")
    with pytest.raises(
        InputError, match=r"'poisson': choose one of bernoulli, ca.*, co.*, gaussian"
    ):
        check_options(made)


def test_a_hyperparameter_of_another_likelihood_cannot_be_tuned(config):
    made = config(
        "experiment=hypergradient", "model.likelihood=bernoulli", "model.gamma.mode=optimal",
        "model.gamma.value=null",
    )  # fmt: skip
    with pytest.raises(
        InputError, match=r"gamma and model.likelihood 'bernoulli', which alone has"
    ):
        check(made)
