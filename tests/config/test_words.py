"""What is said of words that Hydra cannot read."""

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from savi.config.words import check_words, repeated, unreadable
from savi.errors import InputError


@pytest.mark.parametrize(
    "value", ["a=b.npy", "/tmp/ä ö/x y.npy", "a(b", "a]", "it's", 'say "x', "🎲", "a\\b c"]
)
def test_what_is_to_be_written_instead_is_read_as_it_was_meant(value):
    said = unreadable(f"data.path={value}")
    assert said.startswith(f"cannot read 'data.path={value}': quote the value: ")
    (word,) = shlex.split(said.split("quote the value: ")[1])
    override = OverridesParser.create().parse_override(word)
    assert (override.key_or_group, override.value()) == ("data.path", value)


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("seed", "write KEY=VALUE, such as trainer.max_epochs=10"),
        ("模型=1", "'模型' is no key, so write KEY=VALUE"),
        ("data.path='abc", "the quote ' is not closed"),
        ('data.path="abc', 'the quote " is not closed'),
        ("logger.tags=[a", "the '[' is not closed"),
        ("trainer.vary={a: 1", "the '{' is not closed"),
        ("logger.tags=[a=b]", "quote the texts in it, as in"),
    ],
)
def test_other_words_are_told_what_they_lack(word, told):
    assert unreadable(word).startswith(f"cannot read '{word}': {told}")


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("=", "there is no key before the '='"),
        ("+=3", "there is no key before the '='"),
        ("model=3", r"no name \('model=3'\): write model=NAME"),
        ("gradient=[ift,stop]", "is a list, and a group has one choice: write gradient=NAME"),
        ("logger.name=\udcff", "is no text in UTF-8"),
    ],
)
def test_words_of_which_hydra_would_make_something_else(word, told):
    with pytest.raises(InputError, match=told):
        check_words([word])


def test_words_that_are_right_pass():
    check_words(["-m", "model=mlp", "gradient=ift,stop", "inner={rho: 1}", "seed=3", "data='ü'"])


def test_a_key_that_is_given_twice_is_told():
    words = ["seed=1", "~data", "data=a", "seed=2", "+model.x=1", "model.x=2", "model.x=3", "-m"]
    assert repeated(words) == [
        "seed is given twice, of which the last one counts: seed=2",
        "model.x is given 3 times, of which the last one counts: model.x=3",
    ]
