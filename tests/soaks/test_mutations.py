"""The soak of changed inputs, in short."""

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "scripts")]

from soaks.limited import MEMORY, Ended, ended  # noqa: E402
from soaks.mutations import faults, mutations  # noqa: E402


@pytest.mark.slow
def test_changed_inputs_end_in_a_sentence(tmp_path):
    tally = mutations(5, 7, tmp_path)
    assert (tally.tried, tally.faults) == (5, [])


FINE = Ended(2, False, ("", "savi: seed is -1: set it to 0 or more\n"), 1 << 29)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"code": None}, "hangs"),
        ({"code": 3}, "exit code 3"),
        ({"code": 0}, "exit code 0 and 1 sentences"),
        ({"asked": True}, "exit code 2 after SIGTERM"),
        ({"said": ("", "Traceback (most recent call last):\n")}, "a traceback"),
        ({"said": ("", "")}, "exit code 2 and 0 sentences"),
        ({"said": ("", 2 * FINE.said[1])}, "exit code 2 and 2 sentences"),
        ({"said": ("", FINE.said[1] + "usage: savi\n")}, "another line: ['usage: savi']"),
        ({"said": ("", "savi: 'int' object has no attribute 'x'\n")}, "not a sentence for a user"),
        ({"memory": 3 << 30}, "held 3072 MB"),
    ],
)
def test_every_other_end_is_a_fault(change, fault):
    assert faults(FINE) == []
    assert any(
        found.startswith(fault) or fault in found for found in faults(FINE._replace(**change))
    )


@pytest.mark.slow
def test_a_program_gets_no_more_memory_than_it_may(tmp_path):
    (tmp_path / "a").mkdir()
    end = ended(f"bytearray({MEMORY})", [], tmp_path / "a")
    assert end.code == 1
    assert "MemoryError" in end.said[1]
