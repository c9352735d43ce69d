"""Objects from names and options."""

from dataclasses import dataclass

import pytest

from savi.errors import InputError, SettingError
from savi.inner import OPTIMIZERS, InnerOptimizer
from savi.registry import Registry

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
