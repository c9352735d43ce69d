"""The error of an implicit gradient is of order 2, that of the direct one of order 1."""

import csv
import math

import pytest
from benchmarks.order import ErrorCurve, Point, run_order

from savi.errors import InputError
from savi.report.table import plain_text

CONFIG = {
    "seed": 0,
    "backends": ["stop", "ift"],
    "examples": 3,
    "latent_dim": 2,
    "data_dim": 6,
    "hidden": 8,
    "depth": 1,
    "activation": "tanh",
    "gamma": 0.2,
    "samples": 4,
    "levels": [1e-5, 1e-2],
    "points": 4,
    "window": [1e-5, 1e-2],
    "max_steps": 5000,
    "checkpoint": None,
    "data_path": None,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("order")
    (table,) = run_order(CONFIG, folder)
    with (folder / "order.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return folder, plain_text(table), rows


def test_the_slopes(finished):
    _, text, rows = finished
    slopes = {}
    for backend in CONFIG["backends"]:
        points = [
            Point(*(float(row[key]) for key in ("level", "example", "stationarity", "error")))
            for row in rows
            if row["backend"] == backend
        ]
        assert len(points) == 4 * 3
        slopes[backend] = ErrorCurve(points).slope((1e-6, 1e-2))
    assert slopes["stop"] == pytest.approx(1.0, abs=0.1)
    assert slopes["ift"] == pytest.approx(2.0, abs=0.2)
    (line,) = [line for line in text.splitlines() if line.startswith(" slope")]
    printed = dict(zip(CONFIG["backends"], map(float, line.split()[1:]), strict=True))
    assert printed == pytest.approx(slopes, abs=0.2)


def test_the_solves_stop_where_they_were_asked_to(finished):
    for row in finished[2]:
        assert 0.3 * float(row["level"]) < float(row["stationarity"]) <= float(row["level"])


def test_the_files(finished):
    folder = finished[0]
    assert sorted(path.name for path in folder.iterdir()) == ["order.csv", "order.png"]
    assert (folder / "order.png").stat().st_size > 5000


def test_the_same_seed_gives_the_same_file(finished, tmp_path):
    run_order(CONFIG | {"backends": ["stop"]}, tmp_path)
    again = (tmp_path / "order.csv").read_text().splitlines()
    assert again == (finished[0] / "order.csv").read_text().splitlines()[: len(again)]
    assert len(again) == 1 + 4 * 3


def test_a_slope_is_fitted_with_a_constant_for_each_example():
    levels = [1e-1, 1e-2, 1e-3, 1e-4]
    points = [Point(e, b, e, 10.0 ** (3 * b) * e**1.5) for b in (0, 1) for e in levels]
    # What lies outside the window has another slope.
    points.append(Point(1e-5, 0, 1e-5, 1.0))
    curve = ErrorCurve(points)
    assert curve.slope((1e-4, 1e-1)) == pytest.approx(1.5)
    assert curve.slope((1e-5, 1e-1)) < 1.4
    assert math.isnan(curve.slope((0.5, 0.9)))
    assert curve.median_error(1e-2) == pytest.approx(0.5 * (1.0 + 1e3) * 1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backends": ["foo"]}, "unknown gradient 'foo': choose one of"),
        ({"backends": []}, r"backends is \[\]: name at least one"),
        ({"points": 2}, "points is 2: set it to 3 or more"),
        ({"levels": [1e-2, 1e-5]}, "levels is .*: give two numbers"),
        ({"window": [1e-5]}, "window is .*: give two numbers"),
        ({"window": [0.5, 0.9]}, "holds fewer than 3 of the levels"),
        ({"gamma": 0.0}, "gamma is 0.0: set it above 0"),
        ({"hidden": 0}, "hidden is 0: set it to 1 or more"),
        ({"activation": "foo"}, "unknown activation 'foo'"),
    ],
)
def test_what_is_out_of_range_is_refused(change, message, tmp_path):
    with pytest.raises(InputError, match=message):
        run_order(CONFIG | change, tmp_path)
    assert list(tmp_path.iterdir()) == []
