"""Objects from names and options."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from savi.config.options import check_options
from savi.errors import InputError, SettingError
from savi.inference.semi_amortized import SemiAmortizedInference
from savi.inner import OBJECTIVES, OPTIMIZERS, AnchoredObjective, InnerOptimizer
from savi.registry import Registry
from savi.training.outer_optimizers import OUTER_OPTIMIZERS
from savi.vae import DECODERS, ENCODERS, POSTERIORS
from savi.vae.build import build_encoder, build_vae

ANIMALS: Registry[type] = Registry("animal")


@ANIMALS.register("cat")
@dataclass
class Cat:
    lives: int = 9
    name: str = "Tom"


@ANIMALS.register("stone")
@dataclass
class Stone:
    pass


def test_options_that_are_none_are_left_to_the_class():
    assert ANIMALS.build("cat", {"lives": 7, "name": None}) == Cat(7, "Tom")


def test_an_option_too_many_is_named():
    with pytest.raises(InputError, match="animal 'cat' has no option 'wings': it takes lives, nam"):
        ANIMALS.build("cat", {"wings": 2})
    with pytest.raises(InputError, match="animal 'stone' has no option 'wings': it takes no opti"):
        ANIMALS.build("stone", {"wings": 2, "lives": None})


def test_an_unknown_name_lists_the_known():
    with pytest.raises(InputError, match="unknown animal 'dog': choose one of cat, stone"):
        ANIMALS.build("dog", {})


def test_a_name_is_registered_once():
    with pytest.raises(InputError, match="animal 'cat' is registered already"):
        ANIMALS.register("cat")(Cat)


def test_values_have_the_types_of_their_fields():
    assert ANIMALS.check("cat", {"lives": 3}) == {"lives": 3}
    for value in ("abc", True, 1.5):
        with pytest.raises(SettingError, match=f"lives is '{value}': set it to a whole number"):
            ANIMALS.build("cat", {"lives": value})
    with pytest.raises(SettingError, match="name is '3': set it to a word"):
        ANIMALS.build("cat", {"name": 3})


def test_what_is_supplied_is_no_option_and_what_has_no_default_must_be_set():
    tools: Registry = Registry("tool", supplied=1)

    @tools.register("saw")
    def saw(wood: str, *, teeth: int, length: float | None = None) -> tuple:
        return wood, teeth, length

    assert list(tools.options("saw")) == ["teeth", "length"]
    assert tools.build("saw", {"teeth": 9, "length": 2}, "oak") == ("oak", 9, 2.0)
    assert isinstance(tools.check("saw", {"teeth": 9, "length": 2})["length"], float)
    with pytest.raises(SettingError, match="teeth is not set: tool 'saw' has no default for it"):
        tools.build("saw", {}, "oak")


def test_a_class_that_lacks_something_is_told_what():
    optimizers: Registry = Registry("inner.optimizer", base=InnerOptimizer)

    @optimizers.register("stranger")
    class Stranger:
        pass

    @optimizers.register("lacking")
    class Lacking(InnerOptimizer):
        pass

    @optimizers.register("plain")
    class Plain(InnerOptimizer):
        shrink: float = 0.5

        def step(self, objective, point, state, create_graph):
            return point.y, state

    for name, message in (
        ("stranger", "class Stranger is no InnerOptimizer: derive it from that class"),
        ("lacking", "class Lacking lacks step: define it"),
        ("plain", "class Plain declares shrink but is no dataclass: write @dataclass above it"),
    ):
        with pytest.raises(InputError, match=f"inner.optimizer '{name}': {message}"):
            optimizers.build(name, {})
    assert Lacking.name == "lacking"


def test_an_option_that_is_a_key_of_its_group_is_refused():
    @dataclass(frozen=True)
    class Strict(InnerOptimizer):
        rtol: float = 0.1

        def step(self, objective, point, state, create_graph):
            return point.y, state

    message = "inner.optimizer 'strict' has an option 'rtol', which is a key of the group inner"
    with pytest.raises(InputError, match=message):
        OPTIMIZERS.register("strict")(Strict)
    assert "strict" not in OPTIMIZERS
    earlier: Registry = Registry("inner.optimizer", base=InnerOptimizer)
    earlier.register("strict")(Strict)
    with pytest.raises(InputError, match=message):
        earlier.reserve(["atol", "rtol"])


def test_the_choice_of_a_group_takes_its_other_keys():
    assert ANIMALS.chosen({"name": "cat", "lives": 7}) == Cat(7, "Tom")


@pytest.fixture
def registered():
    """Register something for one test."""
    added: list[tuple[Registry, str]] = []

    def register(registry: Registry, name: str, entry: object) -> None:
        registry.register(name)(entry)
        added.append((registry, name))

    yield register
    for registry, name in added:
        del registry._entries[name]


class TestAnOptionThatTwoChoicesTake:
    @pytest.fixture(autouse=True)
    def _choices(self, registered):
        @dataclass(eq=False)
        class Pulled(AnchoredObjective):
            shrink: float = 0.1
            weight: float = 0.1

            def __call__(self, y):
                pull = self.shrink * (y - self.anchor).square().sum(dim=-1)
                return self.base(y) + self.weight * pull

        @dataclass(frozen=True)
        class Shrinking(InnerOptimizer):
            lr: float = 0.05
            shrink: float = 0.5

            def step(self, objective, point, state, create_graph):
                return point.y - self.lr * self.shrink * point.gradient, state

        registered(OBJECTIVES, "pulled", Pulled)
        registered(OPTIMIZERS, "shrinking", Shrinking)

    BOTH = ("inner.objective=pulled", "inner.optimizer=shrinking", "encoder_loss=elbo_at_init")

    def test_is_refused_with_both_classes(self, config):
        values = config("experiment=vae_svi", *self.BOTH, "+inner.shrink=0.5")
        message = (
            r"inner\.shrink is an option of inner\.objective 'pulled' \(Pulled\) and of "
            r"inner\.optimizer 'shrinking' \(Shrinking\).*: rename it"
        )
        with pytest.raises(InputError, match=message):
            check_options(values)
        family = POSTERIORS.build("diagonal_gaussian", {}, 2)
        with pytest.raises(InputError, match=message):
            SemiAmortizedInference(nn.Identity(), family, values["inner"], values["gradient"])

    def test_is_its_default_in_both_where_it_is_not_set(self, config):
        values = config("experiment=vae_svi", *self.BOTH, "+inner.weight=0.3", "+inner.lr=0.01")
        check_options(values)
        family = POSTERIORS.build("diagonal_gaussian", {}, 2)
        inference = SemiAmortizedInference(
            nn.Identity(), family, values["inner"], values["gradient"]
        )
        assert inference.options == {"weight": 0.3}
        assert (inference.optimizer.lr, inference.optimizer.shrink) == (0.01, 0.5)

    def test_goes_to_the_one_that_takes_it_where_the_other_is_not_chosen(self, config):
        alone = ("inner.optimizer=shrinking", "encoder_loss=elbo_at_init", "+inner.shrink=0.2")
        values = config("experiment=vae_svi", *alone)
        check_options(values)
        family = POSTERIORS.build("diagonal_gaussian", {}, 2)
        inference = SemiAmortizedInference(
            nn.Identity(), family, values["inner"], values["gradient"]
        )
        assert inference.optimizer.shrink == 0.2


def test_no_objective_and_optimiser_that_come_with_savi_share_an_option():
    for objective in OBJECTIVES:
        for optimizer in OPTIMIZERS:
            assert not OBJECTIVES.options(objective).keys() & OPTIMIZERS.options(optimizer).keys()


def test_decoder_and_encoder_both_get_a_key_that_both_have(registered):
    class Sloped(nn.Linear):
        def __init__(self, inputs, outputs, *, slope: float = 1.0):
            sizes = [math.prod(n) if isinstance(n, tuple) else n for n in (inputs, outputs)]
            super().__init__(*sizes)
            self.slope = slope

    registered(DECODERS, "sloped", Sloped)
    registered(ENCODERS, "sloped", Sloped)
    model = {
        "latent_dim": 2, "decoder": "sloped", "encoder": "sloped", "slope": 3.0,
        "encoder_hidden": None, "encoder_depth": None,
        "gamma": {"mode": "fixed", "value": 1.0, "floor": 1e-6},
    }  # fmt: skip
    assert build_vae(model, (4,), 1.0).decoder.slope == 3.0
    assert build_encoder(model, (4,), 4).slope == 3.0


def test_an_outer_optimiser_cannot_have_the_option_that_the_schedule_hides():
    def scheduled(parameters, *, lr: float, schedule: str = "mine"):
        return torch.optim.SGD(parameters, lr=lr)

    with pytest.raises(InputError, match="has an option 'schedule', which is a key of the group"):
        OUTER_OPTIMIZERS.register("scheduled")(scheduled)
    assert "scheduled" not in OUTER_OPTIMIZERS
