from dataclasses import replace
from pathlib import Path

from run_folders import CONFIG, merged

from savi.report.runs import Run, flatten
from savi.report.settings import compare, differing, setting_label, show, swept


def run(**changes):
    config = merged(CONFIG, {key.replace("__", "."): value for key, value in changes.items()})
    return Run(Path("run"), "run", "finished", config=config, metrics={"test/elbo": 1.0})


def test_seeds_and_logging_make_no_setting():
    first = run(seed=0)
    second = run(seed=1, data__seed=1, logger__name="other")
    comparison = compare([first, second])
    assert comparison.differing == ()
    assert [len(setting.runs) for setting in comparison.settings] == [2]
    assert comparison.settings[0].label == "savi_ift"
    assert comparison.settings[0].figures("test/elbo") == [1.0, 1.0]


def test_what_follows_from_the_experiment_names_no_setting():
    runs = [
        run(experiment="vae", inner__objective="none", inner__rho=None),
        run(experiment="savi_ift"),
        run(experiment="savi_ift", seed=1),
    ]
    comparison = compare(runs)
    assert comparison.differing == ("experiment", "inner.objective", "inner.rho")
    assert comparison.swept == ("experiment",)
    assert [setting.label for setting in comparison.settings] == ["vae", "savi_ift"]
    assert comparison.setting_of(runs[2]) == 1
    assert comparison.settings[0].values["inner.rho"] is None


def test_numbers_that_differ_in_every_run_are_all_swept():
    configs = [{"lr": 0.1 * i, "rho": 2.0**i, "seed": i} for i in range(5)]
    keys = differing(configs)
    assert keys == ["lr", "rho"]
    assert swept(configs, keys) == ["lr", "rho"]


def test_runs_without_a_config_are_a_setting_of_their_own():
    bare = Run(Path("x"), "x", "unknown")
    comparison = compare([run(), bare])
    assert comparison.differing == ()
    assert [setting.label for setting in comparison.settings] == ["savi_ift", "no config"]
    assert comparison.setting_of(Run(Path("y"), "y", "unknown")) is None


def test_one_and_one_point_zero_are_the_same_value_but_true_is_not():
    assert differing([{"a": 1}, {"a": 1.0}]) == []
    assert differing([{"a": 1}, {"a": True}]) == ["a"]


def test_labels_are_short_and_unambiguous():
    config = {"experiment": "vae", "inner.rho": 0.1, "model.lr": 1, "encoder.lr": 2}
    assert setting_label(config, ["experiment", "inner.rho"]) == "vae, rho=0.1"
    assert setting_label(config, ["model.lr", "encoder.lr"]) == "model.lr=1, encoder.lr=2"
    assert [show(value) for value in (None, True, 1e-5, [1, "é"])] == [
        "—",
        "true",
        "1e-05",
        '[1, "é"]',
    ]


def test_configs_are_flattened_in_order():
    assert list(flatten(CONFIG))[:4] == ["seed", "experiment", "data.name", "data.seed"]


def test_a_seed_that_was_repeated_counts_once():
    runs = [
        replace(run(seed=s), metrics={"test/elbo": e}) for s, e in ((0, 1.0), (0, 3.0), (1, 5.0))
    ]
    (setting,) = compare(runs).settings
    assert setting.figures("test/elbo") == [2.0, 5.0]
