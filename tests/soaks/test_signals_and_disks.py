import signal

import pytest
from soaks import known, signals
from soaks.signals import KINDS

pytestmark = pytest.mark.slow


@pytest.mark.long
def test_a_signal_is_answered(tmp_path, monkeypatch):
    monkeypatch.setattr(signals, "KINDS", {"a run": KINDS["a run"]})
    tally = known("signals").run(2, 0, tmp_path)
    assert (tally.tried, tally.faults) == (2, [])


@pytest.mark.parametrize(
    ("code", "output", "states", "faulty"),
    [
        (143, "savi: interrupted; to go on: x\n", ("interrupted", "finished"), False),
        (143, "savi: interrupted\n", (), False),
        (0, "Everything is in runs\n", ("finished",), False),
        (-15, "Everything is in runs\n", ("finished",), False),
        (-15, "", (), True),
        (0, "", (), True),
        (143, "savi: interrupted\n", ("running",), True),
        (130, "savi: interrupted\n", ("interrupted",), True),
        (143, "savi: interrupted\nsavi: interrupted\n", ("interrupted",), True),
        (143, "Traceback (most recent call last)\nsavi: interrupted\n", (), True),
    ],
)
def test_an_answer_that_is_not_clean_is_counted(code, output, states, faulty):
    records = [
        {"state": state, "reason": "stopped by SIGTERM" if state == "interrupted" else None}
        for state in states
    ]
    assert bool(signals._faults(code, output, records, signal.SIGTERM)) == faulty


def test_another_signal_in_the_record_is_counted():
    records = [{"state": "interrupted", "reason": "stopped by Ctrl-C"}]
    assert signals._faults(143, "savi: interrupted\n", records, signal.SIGTERM)


@pytest.mark.long
def test_a_full_disk_loses_nothing(tmp_path):
    from savi.errors import InputError

    try:
        tally = known("disks").run(1, 0, tmp_path)
    except InputError as error:
        pytest.skip(str(error))
    assert (tally.tried, tally.faults) == (1, [])
