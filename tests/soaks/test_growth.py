"""The soak of growth in its short form: what stays, and that what does not is found."""

import pytest
from soaks.growth import BACKENDS, OF_A_RUN, grown, growth

from savi.gradients import BACKENDS as REGISTERED


def test_nothing_grows_in_a_short_run(tmp_path):
    tally = growth(1, 0, tmp_path, steps=160, epoch=20)
    assert (tally.tried, tally.faults) == (1, [])
    assert set(BACKENDS) == set(REGISTERED)


@pytest.mark.long
def test_tensors_that_are_kept_are_found(tmp_path):
    (fault,) = (
        fault
        for fault in growth(1, 0, tmp_path, steps=80, epoch=20, leak=3).faults
        if "tensors" in fault
    )
    assert fault.startswith("unrolled: ")
    assert fault.endswith("more tensors over 80")
    assert 200 <= float(fault.split()[1]) <= 400


def test_growth_is_told_from_a_warm_up_and_from_chance():
    flat = [(n, 500.0 + 20.0 * (n < 20) + 0.1 * (n % 3), 239 + (n % 5 == 0), 9) for n in range(80)]
    assert grown(flat, 80, OF_A_RUN) == []
    rising = [(n, 500.0 + 0.1 * n, 239, 9) for n in range(80)]
    assert grown(rising, 80, OF_A_RUN) == ["8.0 more MB of memory over 80"]
    assert grown([(n, 500.0, 239, 4 * n) for n in range(80)], 80, OF_A_RUN) == [
        "320.0 more objects over 80"
    ]
    assert grown(flat[:1], 80, OF_A_RUN) == ["only 1 measurements were made"]
