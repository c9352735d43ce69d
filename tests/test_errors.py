"""The sentences that say what is wrong."""

from savi.errors import unknown_option


def test_an_unknown_name_is_told_in_one_line():
    error = unknown_option("gradient", "a\nb", ["stop", "ift"])
    assert str(error) == "unknown gradient 'a\\nb': choose one of ift, stop"
    assert "'γ'" in str(unknown_option("gradient", "γ", ["ift"]))
