"""Which way a sweeper searches."""

import enum

import pytest
from omegaconf import OmegaConf

from savi.errors import InputError
from savi.report.metrics import METRICS, SOUGHT, direction
from savi.sweeps.direction import follow_metric


class Direction(enum.Enum):
    """As Optuna's sweeper declares its own."""

    minimize = 1
    maximize = 2


def hydra(way, *overrides):
    return OmegaConf.create({"sweeper": {"direction": way}, "overrides": {"hydra": overrides}})


@pytest.mark.parametrize(
    ("metric", "way"),
    [
        ("val/elbo", "maximize"),
        ("test/nll", "minimize"),
        ("test/bits_per_dim", "minimize"),
        ("test/squared_error", "minimize"),
        ("test/collapse/error", "minimize"),
        ("cost/step_seconds", "minimize"),
        ("cost/peak_memory_mb", "minimize"),
        ("test/gap/amortization", "minimize"),
        ("test/active_units", "maximize"),
        ("test/mutual_information", "maximize"),
        ("test/collapse/pruned_units", "minimize"),
    ],
)
def test_the_direction_follows_the_metric(metric, way):
    assert direction(metric) == way
    # Unset; Optuna's own default; said rightly.
    wrong = "maximize" if way == "minimize" else "minimize"
    for node in (
        hydra(None),
        hydra(Direction.minimize),
        hydra(way, f"hydra.sweeper.direction={way}"),
    ):
        if way == "maximize" or node.sweeper.direction is not Direction.minimize:
            follow_metric(node, metric)
            assert node.sweeper.direction == way
    for given in (wrong, Direction[wrong]):
        with pytest.raises(InputError, match=f"={wrong} searches for the worst {metric}, .*{way}"):
            follow_metric(hydra(given, f"hydra.sweeper.direction={wrong}"), metric)


def test_a_file_that_maximises_what_is_better_low_is_refused():
    with pytest.raises(InputError, match="better lower: leave it out, or set it to minimize"):
        follow_metric(hydra("maximize"), "test/nll")


def test_a_metric_without_a_better_end_needs_a_direction():
    with pytest.raises(InputError, match="neither end of optimized_metric 'test/kl' is better"):
        follow_metric(hydra(Direction.minimize), "test/kl")
    node = hydra("minimize", "hydra.sweeper.direction=minimize")
    follow_metric(node, "test/kl")
    assert node.sweeper.direction == "minimize"


def test_what_is_no_direction_is_refused():
    with pytest.raises(InputError, match="'up': set it to maximize or minimize"):
        follow_metric(hydra("up", "hydra.sweeper.direction=up"), "val/elbo")
    with pytest.raises(InputError, match="2 entries for one optimized_metric"):
        follow_metric(hydra(["maximize", "minimize"]), "val/elbo")
    with pytest.raises(InputError, match="unknown optimized_metric 'foo'"):
        follow_metric(hydra(None), "foo")


def test_a_sweeper_without_a_direction_is_left_alone():
    node = OmegaConf.create({"sweeper": {"max_batch_size": None}, "overrides": {"hydra": []}})
    follow_metric(node, "test/kl")
    assert "direction" not in node.sweeper


def test_the_table_of_directions_names_metrics_without_one():
    assert all(METRICS[name].better is None for name in SOUGHT)
