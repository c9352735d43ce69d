"""The catalogue says of every choice what its class says."""

import json

import catalogue as script
import pytest
from programs import finished_alone

from savi.config.catalogue import FILE, HOMES, catalogued, choices, registry
from savi.config.inner import InnerConfig
from savi.config.schema import WITHOUT_GAUSS_NEWTON, CallbacksConfig, ModelConfig
from savi.errors import InputError
from savi.inference.gradient_check import REFERENCES
from savi.inference.outer_loss import OUTER_OBJECTIVES
from savi.inference.semi_amortized import NOISE
from savi.inner import OBJECTIVES
from savi.inner.loop import JUDGED, TRUSTED
from savi.linear import SOLVERS
from savi.registry import refuse_ambiguous
from savi.settings import bounds_of
from savi.vae.data_fit import LINEAR_HEAD


def test_the_file_is_up_to_date(capsys, monkeypatch):
    """If not: ``python scripts/catalogue.py --write``."""
    assert FILE.read_text("utf-8") == script.described()
    monkeypatch.setattr("sys.argv", ["catalogue.py"])
    assert script.main() == 0
    monkeypatch.setattr(script, "described", lambda: "{}\n")
    assert script.main() == 1
    assert "is out of date" in capsys.readouterr().out


def test_it_holds_every_choice_and_option():
    for kind in HOMES:
        assert list(catalogued()[kind]) == list(registry(kind))
    for kind in ("gradient", "inner.optimizer", "inner.objective", "posterior", "optimizer"):
        for name in registry(kind):
            known, own = catalogued()[kind], registry(kind)
            defaults = {key: option.default for key, option in known.options(name).items()}
            assert defaults == {key: p.default for key, p in own.options(name).items()}
            assert (known.called(name), known.doc(name)) == (own.called(name), own.doc(name))


def test_once_a_registry_is_imported_it_is_asked_itself():
    assert choices("inner.optimizer") is registry("inner.optimizer")


def refusal(call) -> str:
    with pytest.raises(InputError) as refused:
        call()
    return str(refused.value)


@pytest.mark.parametrize(
    ("kind", "name", "options"),
    [
        ("gradient", "nope", {}),
        ("gradient", "ift", {"solver": "nope"}),
        ("gradient", "ift", {"solver": 3}),
        ("gradient", "ift", {"max_steps": 0}),
        ("gradient", "ift", {"certify": 1}),
        ("gradient", "truncated", {"steps": 1.5}),
        ("gradient", "checkpointed", {"every": "nope"}),
        ("gradient", "checkpointed", {"every": 0}),
        ("inner.optimizer", "adam", {"beta1": 1.0}),
        ("inner.optimizer", "adam", {"lr": float("inf")}),
        ("inner.optimizer", "adam", {"lr": float("nan")}),
        ("inner.optimizer", "adam", {"lr": True}),
        ("inner.optimizer", "adam", {"damping": 1.0}),
        ("posterior", "laplace", {"covariance_gradient": 3}),
    ],
)
def test_a_wrong_option_gets_the_sentence_of_its_class(kind, name, options):
    supplied = (2,) if kind == "posterior" else ()
    own = refusal(lambda: registry(kind).build(name, options, *supplied))
    assert refusal(lambda: catalogued()[kind].check(name, options)) == own


def test_a_right_option_is_what_its_class_would_get():
    for kind, name, options in (
        ("gradient", "ift", {"rtol": 1, "max_steps": None, "max_error": float("inf")}),
        ("gradient", "checkpointed", {"every": 3}),
        ("inner.optimizer", "adam", {"lr": 1, "beta1": 0}),
    ):
        checked = catalogued()[kind].check(name, options)
        assert checked == registry(kind).check(name, options)
        own = registry(kind).check(name, options)
        assert [*map(type, checked.values())] == [*map(type, own.values())]


def test_an_option_of_two_choices_is_told_by_the_names_of_their_classes():
    known = catalogued()["inner.optimizer"]
    pairs = (known, "adam"), (known, "gd")
    sentence = refusal(lambda: refuse_ambiguous("inner", {"lr": 0.1}, *pairs))
    assert "inner.optimizer 'adam' (Adam) and of inner.optimizer 'gd' (GradientDescent)" in sentence


def test_the_schema_has_the_names_of_the_code():
    """It cannot import them: they stand beside what they name, which needs PyTorch."""
    inner, callbacks = bounds_of(InnerConfig), bounds_of(CallbacksConfig)
    assert inner["noise"].one_of == tuple(NOISE)
    assert inner["linear_head"].one_of == LINEAR_HEAD
    assert inner["last_step"].one_of == (JUDGED, TRUSTED)
    assert callbacks["gradient_check_reference"].one_of == tuple(REFERENCES)
    assert bounds_of(ModelConfig)["objective"].one_of == OUTER_OBJECTIVES
    without = [name for name, solver in SOLVERS.items() if not solver.needs_gauss_newton]
    assert list(WITHOUT_GAUSS_NEWTON) == without


def test_it_is_json():
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert json.loads(FILE.read_text("utf-8"), parse_constant=refuse).keys() == HOMES.keys()


@pytest.mark.slow
def test_registries_are_whole_whatever_has_been_imported_of_them(tmp_path):
    code, told = finished_alone(
        "import savi.inner; from savi.config.catalogue import choices; "
        "print(sorted(choices('inner.objective')))",
        cwd=tmp_path,
    )
    assert code == 0, told
    assert told == f"{sorted(OBJECTIVES)}\n"
