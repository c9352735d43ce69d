import pytest

from savi.config.data_changes import CHANGES, refuse_changes
from savi.errors import InputError

AS_THEY_ARE = dict(CHANGES)
CHANGED = {"dequantise": True, "binarise": "static", "centre": True, "scale": "global"}


def test_what_stays_as_it_is_is_taken():
    refuse_changes("x", AS_THEY_ARE)
    refuse_changes("x", {})


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("dequantise", "x with data.dequantise, a reason: set data.dequantise=false, or y"),
        ("binarise", "x with data.binarise 'static', a reason: set data.binarise=none, or y"),
        ("centre", "x with data.centre, a reason: set data.centre=false, or y"),
        ("scale", "x with data.scale 'global', a reason: set data.scale=none, or y"),
    ],
)
def test_each_change_is_refused_where_it_is_asked_to_be(key, sentence):
    data = AS_THEY_ARE | {key: CHANGED[key]}
    with pytest.raises(InputError) as error:
        refuse_changes("x", data, reason="a reason", otherwise="y")
    assert str(error.value) == sentence
    refuse_changes("x", data, [other for other in CHANGES if other != key])


def test_the_first_one_is_told():
    with pytest.raises(InputError, match=r"^x with data\.centre: set data\.centre=false$"):
        refuse_changes("x", CHANGED, ["centre", "scale"])
