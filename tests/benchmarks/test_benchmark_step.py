"""Timing outer steps: the order of the calls, and what is left out without a certificate."""

import csv
import math
import shutil

import pytest
import torch
from benchmarks.decoder import decoder_problem
from benchmarks.step import Variant, certificate_share, run_step, variants
from benchmarks.timing import Timing, interleaved

from savi.errors import InputError
from savi.gradients import BACKENDS
from savi.report.table import plain_text

CONFIG = {
    "seed": 0,
    "batch": 4,
    "latent_dim": 2,
    "hidden": 8,
    "depth": 1,
    "activation": "softplus",
    "data_dim": 6,
    "gamma": 0.1,
    "samples": 2,
    "steps": [2, 4],
    "lr": 0.2,
    "momentum": 0.5,
    "newton_steps": 5,
    "rho": 1.0,
    "compile": False,
    "repetitions": 2,
}
BARE = Variant("certificate", "ift without certificate", 5)
FULL = Variant("certificate", "ift", 5)


def read(folder):
    with (folder / "step.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_run(tmp_path):
    tables = run_step(CONFIG, tmp_path)
    backends, certificate = map(plain_text, tables)
    assert [path.name for path in tmp_path.iterdir()] == ["step.csv"]
    rows = read(tmp_path)
    assert len(rows) == (2 * len(BACKENDS) + 3) * 3
    assert all(float(row["seconds"]) > 0 for row in rows)
    for name in BACKENDS:
        (line,) = [line for line in backends.splitlines() if line.strip().startswith(f"{name} ")]
        ours = [row for row in rows if (row["part"], row["name"]) == ("backends", name)]
        assert [int(row["repetition"]) for row in ours] == [0, 1, 2] * 2
        assert len(line.split()) == 5
    assert "K = 5" in certificate
    assert "× the step, at most 0.1" in certificate


def test_without_a_certificate_the_gradient_is_the_same():
    calls = variants(decoder_problem(CONFIG), CONFIG)
    bare, full = calls[BARE](), calls[FULL]()
    assert any((gradient != 0).any() for gradient in full)
    torch.testing.assert_close(bare, full)


def test_without_a_certificate_none_of_its_work_is_done(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the certificate is at work")

    calls = variants(decoder_problem(CONFIG), CONFIG)
    for target in (
        "savi.implicit.adjoint.probe",
        "savi.gradients.implicit.kinks",
        "savi.implicit.adjoint_certificate.Conditions.judge",
        "savi.implicit.adjoint_certificate.AdjointVerdict.report",
        "savi.linear.dense.judge",
        "savi.linear.dense.true_residual",
    ):
        with monkeypatch.context() as patch:
            patch.setattr(target, refuse)
            calls[BARE]()
            with pytest.raises(AssertionError, match="at work"):
                calls[FULL]()


def test_the_others_are_certified_afterwards():
    calls = variants(decoder_problem(CONFIG), CONFIG)
    before = calls[FULL].solve()
    bare = calls[BARE].solve()
    assert before.certificate is not None
    assert bare.certificate is None
    assert calls[FULL].solve().certificate is not None


def test_calls_are_interleaved_and_those_refused_left_out():
    seen, advanced = [], []

    def refuse():
        raise InputError("not here")

    calls = {"a": lambda: seen.append("a"), "no": refuse, "b": lambda: seen.append("b")}
    timings = interleaved(calls, 2, advanced.append)
    assert seen == ["a", "b"] * 3
    assert advanced == ["a", "no", "b"] * 3
    assert [len(timings[name].seconds) for name in calls] == [2, 0, 2]
    assert timings["no"].refusal == "not here"
    assert math.isnan(timings["no"].first)


def test_ratios_are_taken_within_a_round():
    """The second round is slow for both."""
    one, other = Timing(9.0, [2.0, 20.0, 2.2]), Timing(9.0, [1.0, 10.0, 1.0])
    assert one.median == 2.2
    assert one.over(other) == 2.0
    share = certificate_share({BARE: Timing(9.0, [0.9, 8.0]), FULL: Timing(9.0, [1.0, 10.0])})
    assert share.ratio == pytest.approx(0.15)
    assert not share.met


def test_a_machine_that_cannot_compile_is_told_in_the_table(tmp_path, monkeypatch):
    def refuse(*args):
        raise InputError("there is no compiler")

    monkeypatch.setattr("savi.inner.loop.compiled_gradient", refuse)
    *_, table = run_step(CONFIG | {"compile": True, "steps": [2]}, tmp_path)
    text = " ".join(plain_text(table).split())
    assert "ift not compiled: there is no compiler" in text
    assert "unrolled not compiled: there is no compiler" in text
    (row,) = [row for row in read(tmp_path) if (row["part"], row["name"]) == ("compile", "ift")]
    assert row["seconds"] == "nan"


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.skipif(
    shutil.which("c++") is None and shutil.which("g++") is None, reason="no C++ compiler"
)
def test_compiled_steps(tmp_path):
    *_, table = run_step(CONFIG | {"compile": True, "steps": [2]}, tmp_path)
    assert "not compiled" not in plain_text(table)
    rows = [row for row in read(tmp_path) if row["part"] == "compile"]
    assert [row["name"] for row in rows] == ["ift"] * 3 + ["unrolled"] * 3
    # The first call compiles.
    assert float(rows[0]["seconds"]) > 10 * float(rows[1]["seconds"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": []}, r"steps is \[\]: give rising numbers"),
        ({"steps": [0, 5]}, "steps is .*: give rising numbers from 1 on"),
        ({"steps": [5, 2]}, "steps is .*: give rising numbers"),
        ({"newton_steps": 0}, "newton_steps is 0: set it to 1 or more"),
        ({"repetitions": 0}, "repetitions is 0: set it to 1 or more"),
        ({"rho": 0.0}, "rho is 0.0: set it above 0"),
        ({"momentum": 0.0}, "momentum is 0.0: set it above 0"),
        ({"samples": 0}, "samples is 0: set it to 1 or more"),
    ],
)
def test_what_is_out_of_range_is_refused(change, message, tmp_path):
    with pytest.raises(InputError, match=message):
        run_step(CONFIG | change, tmp_path)
    assert list(tmp_path.iterdir()) == []
