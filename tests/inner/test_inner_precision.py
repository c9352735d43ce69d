import pytest
import torch

import savi
from savi.gradients import StopGradient
from savi.inner import GradientDescent
from savi.inner.precision import full_precision


def formats() -> list[str]:
    return [
        switch.fp32_precision
        for switch in (
            torch.backends.cuda.matmul,
            torch.backends.cudnn.conv,
            torch.backends.mkldnn.matmul,
        )
    ]


def test_short_formats_are_off_inside_and_back_afterwards():
    before = formats()
    torch.set_float32_matmul_precision("medium")
    try:
        asked_for = formats()
        assert asked_for != ["ieee"] * 3
        with full_precision("cpu"):
            assert formats() == ["ieee"] * 3
        assert formats() == asked_for
        with pytest.raises(ZeroDivisionError), full_precision("cpu"):
            raise ZeroDivisionError
        assert formats() == asked_for
    finally:
        torch.set_float32_matmul_precision("highest")
    assert formats()[0] == before[0] or formats()[0] == "ieee"


def test_a_solve_runs_in_full_precision():
    seen = []

    def objective(y: torch.Tensor) -> torch.Tensor:
        seen.append(formats())
        return y.square().sum(-1)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        solution = savi.minimize(
            objective,
            torch.ones(2, 3),
            optimizer=GradientDescent(lr=0.1),
            gradient=StopGradient(),
            max_steps=2,
        )
    assert seen
    assert all(each == ["ieee"] * 3 for each in seen)
    assert solution.value.dtype == torch.float32
