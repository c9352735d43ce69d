"""Hypergradient descent against a grid of retrained models, by the functions of the example."""

import importlib.util
import math
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parents[3] / "scripts" / "examples" / "hypergradient.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("hypergradient_example", PATH)
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def models(example):
    """The two VAEs, trained at the start once: by the names that are tuned."""
    made = {}

    def trained(*names):
        solved = "rho" in names
        if solved not in made:
            made[solved] = example.small_vae(solved)
        fixed = {
            name: value
            for name, value in example.DEFAULTS.items()
            if name not in names and (solved or name != "rho")
        }
        return example.Model(made[solved], fixed)

    return trained


@pytest.mark.slow
@pytest.mark.parametrize("solved", [False, True])
def test_it_is_the_slope_of_the_retrained_bound(example, models, solved):
    names = ["gamma", "beta", "weight_decay", *(["rho"] if solved else [])]
    model = models(*names)
    # Beyond the best values, so that no slope is close to 0.
    here = {"gamma": 0.8, "beta": 1.2, "weight_decay": 0.02, "rho": 10.0}
    here = {name: here[name] for name in names}
    assert model.train(here, tolerance=1e-8) < 1e-8
    found = model.hypergradient(here, "cholesky")
    assert found.certificate.relative_stationarity < 1e-7
    assert not found.certificate.failed
    slopes = dict(zip(names, map(float, found.gradients), strict=True))
    # With an inner solve, which takes longer, ρ alone and all together.
    moves = [["rho"], names] if solved else [[name] for name in names]
    step = 1e-2
    for moved in moves:
        bounds = []
        for sign in (1, -1):
            factor = math.exp(sign * step)
            there = here | {name: factor * here[name] for name in moved}
            assert model.train(there, tolerance=1e-6) < 1e-6
            bounds.append(model.bound(there))
        expected = -(bounds[0] - bounds[1]) / (2 * step)
        assert abs(expected) > 0.02
        assert sum(slopes[name] for name in moved) == pytest.approx(expected, rel=5e-3), moved


@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [
        ("gamma",),
        *(pytest.param(names, marks=pytest.mark.long) for names in (("beta",), ("weight_decay",))),
        ("gamma", "beta"),
    ],
)
def test_descent_reaches_the_best_of_the_grid(example, models, names):
    model = models(*names)
    best, bound = example.grid_search(names, model)
    start = {name: example.STARTS[name] for name in names}
    model.train(start)
    assert model.bound(start) < bound - 0.15
    for solver in example.SOLVERS:
        end = example.descend(names, model, solver)[-1]
        assert model.bound(end) > bound - 0.01, solver
        for name in names:
            # A grid is no finer than its steps.
            assert math.log(end[name] / best[name]) == pytest.approx(0.0, abs=0.35), (solver, name)


@pytest.mark.slow
def test_descent_in_rho_reaches_the_best_of_the_grid(example, models, monkeypatch):
    model = models("rho")
    monkeypatch.setitem(example.GRIDS, "rho", (1.5, 2.3, 3.5))
    monkeypatch.setitem(example.STARTS, "rho", 5.0)
    path = example.descend(["rho"], model, "cg")
    reached = model.bound(path[-1])
    best, bound = example.grid_search(["rho"], model)
    assert best == {"rho": 2.3}
    assert reached > bound - 0.002
    assert path[-1]["rho"] == pytest.approx(2.3, abs=0.2)
    # The others see the same slope there, and so would go the same way.
    model.train(path[0])
    slopes = [float(model.hypergradient(path[0], s).gradients[0]) for s in example.SOLVERS]
    assert slopes == pytest.approx([slopes[1]] * 3, rel=0.1)
    assert slopes[1] > 0.02


@pytest.mark.slow
def test_the_example_prints_its_table(example, monkeypatch, capsys):
    monkeypatch.setattr(example, "TUNED", (("gamma",),))
    monkeypatch.setattr(example, "SOLVERS", ("cg",))
    monkeypatch.setattr(example, "quieten_libraries", lambda: None)
    example.main()
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines() if "│" in line]
    bounds = {row[2].strip(): float(row[5]) for row in rows}
    assert [*bounds] == ["start", "cg", "grid of 5"]
    assert bounds["start"] + 0.3 < bounds["grid of 5"] <= bounds["cg"]
