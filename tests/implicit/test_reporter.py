"""How certificates speak: every time, and without flooding a loop."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

import savi
from savi.implicit import reporter
from savi.implicit.reporter import Finding, ImplicitGradientWarning, collected, say

SINGULAR = Finding("singular", 1, 4, 0.25)


@pytest.fixture(autouse=True)
def _nothing_heard(monkeypatch):
    monkeypatch.setattr(reporter, "_heard", {})
    monkeypatch.setattr(reporter, "_spoken", {})


def repeated(times, finding=SINGULAR):
    """The texts that a loop shows under Python's default filters."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.resetwarnings()
        warnings.simplefilter("default")
        for _ in range(times):
            say("no derivative", [finding])
    return [str(warning.message) for warning in caught]


def test_the_same_text_from_the_same_line_is_spoken_every_time():
    assert (
        repeated(3) == ["no derivative: singular [1 of 4 examples, estimated error up to 0.25]"] * 3
    )


def test_a_loop_that_goes_on_is_told_at_powers_of_two_with_counts():
    texts = repeated(4 * reporter.MANY + 52)
    assert len(texts) == reporter.MANY + 2
    assert texts[-2].endswith("(the 4,096th time here, 2,047 since the last one told)")
    assert texts[-1].endswith("(the 8,192th time here, 4,095 since the last one told)")


def test_another_kind_has_a_count_of_its_own():
    repeated(reporter.MANY + 1)
    assert len(repeated(1, Finding("indefinite"))) == 1


def test_the_warning_points_at_the_callers_line():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        say("no derivative", [SINGULAR])
    assert caught[0].filename == __file__
    assert caught[0].category is ImplicitGradientWarning


def test_a_script_whose_folder_begins_like_the_package_is_the_callers():
    script = f"{Path(savi.__file__).parent}_of_a_user/train.py"
    code = compile("say('no derivative', [Finding('singular')])", script, "exec")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec(code, {"say": say, "Finding": Finding, "__name__": "train"})
    assert caught[0].filename == script


def test_findings_that_are_collected_are_counted_and_not_spoken():
    with collected() as tally:
        for _ in range(3):
            say("no derivative", [SINGULAR, Finding("indefinite", 2, 4)])
        with collected():
            say("no derivative", [SINGULAR])
    assert tally.lines() == [
        "no derivative: singular [3 of 12 examples, estimated error up to 0.25], 3 times",
        "no derivative: indefinite [6 of 12 examples], 3 times",
    ]
    assert tally.lines() == []


#: How many are spoken in the test below, which is not to solve thousands of problems.
FEW = 8
SCRIPT = """
import torch, savi
from savi.gradients import Implicit
from savi.implicit import reporter
from savi.inner import GradientDescent
reporter.MANY = {many}
c = torch.ones(2, 1, requires_grad=True)
for _ in range({times}):
    solution = savi.minimize(
        lambda y: 0.5 * (y - c).square().sum(-1), torch.zeros(2, 1),
        optimizer=GradientDescent(0.01), max_steps=1, gradient=Implicit(),
    )
    solution.value.sum().backward()
"""


@pytest.mark.slow
@pytest.mark.parametrize("times", [3, FEW + 5])
def test_bad_solves_speak_under_default_filters(times):
    """What was left out is counted at the end of the process."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(times=times, many=FEW)],
        capture_output=True,
        text=True,
        check=True,
    )
    spoken = [line for line in done.stderr.splitlines() if "without its conditions" in line]
    assert len(spoken) == min(times, FEW)
    assert "2 of 2 examples" in spoken[0]
    closing = [line for line in done.stderr.splitlines() if "times in all" in line]
    left = times - FEW
    assert len(closing) == (left > 0)
    assert all(
        f"{times:,} times in all, {left} since the last one told" in line for line in closing
    )


def test_findings_of_one_kind_add_up():
    assert Finding("a", 1, 2, 0.1) + Finding("a", 3, 4, 0.7) == Finding("a", 4, 6, 0.7)
    assert str(Finding("a", error=float("inf"))) == "a"
    assert str(Finding("a", error=float(torch.tensor(0.5)))) == "a [estimated error up to 0.5]"
