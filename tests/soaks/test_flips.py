import pytest
from soaks import flips, known
from soaks.programs import KINDS

pytestmark = pytest.mark.slow


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(flips, "CONTINUED", 1_000)
    monkeypatch.setitem(KINDS, "replicas", KINDS["savi_ift"])


def test_no_flipped_bit_is_accepted(few, tmp_path):
    tally = known("flips").run(20, 0, tmp_path)
    assert tally.tried == 20
    assert tally.faults == []


def test_what_is_accepted_is_counted(few, tmp_path, monkeypatch):
    monkeypatch.setattr(flips, "read_checkpoint", lambda path: path)
    monkeypatch.setattr(flips, "load", lambda path: path)
    tally = known("flips").run(3, 0, tmp_path)
    assert sum("accepts it" in fault for fault in tally.faults) == 6
