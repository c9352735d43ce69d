"""Values of a file against the types that dataclasses declare."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from jaxtyping import Float64
from torch import Tensor

from savi.errors import InputError
from savi.typed import check_types, conforms


@pytest.mark.parametrize(
    ("value", "hint", "fits"),
    [
        (1, int, True),
        (True, int, False),
        (1.0, int, False),
        (1, float, True),
        (True, float, False),
        (True, bool, True),
        (0, bool, False),
        (None, int | None, True),
        ("a", int | None, False),
        ("\ud800", str, False),
        ([1, 2], list[int], True),
        ((1, 2), tuple[int, ...], True),
        ([1, "a"], list[int], False),
        ("ab", list[str], False),
        ({"a": 1}, dict[str, float], True),
        ({1: 1}, dict[str, float], False),
        ({"a": "b"}, dict[str, Any], True),
        (torch.zeros(2).double(), Float64[Tensor, " D"], True),
        (torch.zeros(2), Float64[Tensor, " D"], False),
        (torch.zeros(2, 2).double(), Float64[Tensor, " D"], False),
        ([0.0], Float64[Tensor, " D"], False),
    ],
)
def test_a_value_is_of_a_type_or_not(value, hint, fits):
    assert conforms(value, hint) == fits


@dataclass
class Inner:
    rho: float = 1.0


@dataclass
class Outer:
    seed: int
    name: str = "a"
    inner: Inner = field(default_factory=Inner)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"inner": {}}, "it lacks seed"),
        ({"seed": 1}, "it lacks inner"),
        ({"seed": "1", "inner": {}}, "seed is '1'"),
        ({"seed": 1, "inner": 3}, "inner is 3 and no group of keys"),
        ({"seed": 1, "inner": {"rho": []}}, r"inner\.rho is \[\]"),
        ({"seed": 1, "inner": {}, "name": 99 * [1]}, "name is a list"),
        ([], "and no group of keys"),
    ],
)
def test_the_first_that_does_not_fit_is_named(values, told):
    with pytest.raises(InputError, match=told):
        check_types(Outer, values)


def test_what_may_be_missing():
    check_types(Outer, {"seed": 1, "inner": {}, "another": 3})
    check_types(Outer, {"seed": 1}, optional=("inner",))


def test_nothing_else_may_be_in_what_is_exact():
    check_types(Outer, {"seed": 1, "inner": {}}, exact=True)
    for values, told in (
        ({"seed": 1, "inner": {}, "other": 3}, "^'other' is nothing that belongs to it"),
        ({"seed": 1, "inner": {"rh": 1.0}}, r"^inner\.'rh' is nothing that belongs to it"),
    ):
        with pytest.raises(InputError, match=told):
            check_types(Outer, values, exact=True)
