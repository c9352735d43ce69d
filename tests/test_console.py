"""What the commands say on the error stream."""

from savi.console import say
from savi.errors import LONGEST, InputError


def test_a_sentence_is_one_line_however_long_a_word_in_it_is(capsys):
    say("'a\nb' is wrong")
    assert capsys.readouterr().err == "savi: 'a b' is wrong\n"
    say(f"'{'y' * 20_000}' is no number: give one")
    told = capsys.readouterr().err
    assert len(told) < LONGEST + 20
    assert told.startswith("savi: 'yyy")
    assert told.endswith("y' is no number: give one\n")
    assert len(str(InputError(f"'{'y' * 20_000}' is no number: give one"))) < LONGEST + 20
