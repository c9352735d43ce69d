"""The median of step times, from counts."""

from statistics import median

import pytest
import torch

from savi.training.callbacks import CostMonitor
from savi.training.durations import Durations


def test_the_median_is_right_to_a_thousandth_and_memory_bounded():
    times = torch.randn(3_001).mul(0.3).exp().mul(0.01).tolist()
    durations = Durations()
    for seconds in [*times, *times]:
        durations.add(seconds)
    assert len(durations) == 6_002
    assert durations.median == pytest.approx(median(times), rel=1e-3)
    assert len(durations.counts) < 3_001
    again = Durations()
    again.load_state_dict(durations.state_dict())
    again.add(0.0)
    assert len(again) == 6_003


def test_a_checkpoint_of_an_earlier_version_is_counted_on():
    cost = CostMonitor()
    seconds = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    state = {"evaluations": 6, "examples": 3, "peak_memory_mb": 1.0, "seconds": seconds}
    cost.load_state_dict(state)
    assert cost.metrics()["cost/step_seconds"] == pytest.approx(0.2, rel=1e-3)
    again = CostMonitor()
    again.load_state_dict(cost.state_dict())
    assert again.metrics() == cost.metrics()
