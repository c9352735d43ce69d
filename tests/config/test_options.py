"""Objects from names and options."""

from dataclasses import dataclass

import pytest

from savi.errors import InputError
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
