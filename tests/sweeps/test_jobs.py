import shlex

import pytest

from savi.sweeps.jobs import LONGEST, again, command, job_folder, setting


def test_a_folder_is_named_by_its_overrides_whatever_their_order():
    assert job_folder(["seed=0", "inner.rho=0.1"]) == "inner.rho-0.1_seed-0"
    assert job_folder(["inner.rho=0.1", "seed=0"]) == "inner.rho-0.1_seed-0"


def test_the_choice_of_the_sweep_and_constant_keys_are_left_out():
    overrides = ["sweep=rho", "debug=quick", "seed=3"]
    assert job_folder(overrides, constant=["debug", "sweep"]) == "seed-3"
    assert job_folder(["sweep=rho"]) == "defaults"


def test_names_are_safe_in_a_shell_and_in_an_override_and_stay_apart():
    names = [
        job_folder([f"data.path={path}"]) for path in ("/a/b", "/a b", "/a,b", "a=b", "x" * 300)
    ]
    assert len(set(names)) == len(names)
    for name in names:
        assert len(name) <= LONGEST
        assert not set(name) & set("/ ,='\"$")


def test_long_numbers_are_rounded_in_names_which_stay_apart():
    drawn = [[f"inner.rho=0.0123456789{last}", "optimizer.lr=-1.23456789e-05"] for last in (1, 2)]
    names = [job_folder(words) for words in drawn]
    assert all(name.startswith("inner.rho-0.0123_optimizer.lr--1.23e-05-") for name in names)
    assert len(set(names)) == 2
    assert job_folder(["inner.rho=0.0003"]) == "inner.rho-0.0003"
    assert job_folder(["imports=[a1.1234567]"]).startswith("imports--a1.1234567-")


def test_a_setting_is_a_job_without_its_seed():
    overrides = ["inner.rho=1", "seed=4", "data.seed=2"]
    assert setting(overrides) == "inner.rho-1"
    assert setting(["seed=1"]) == "defaults"


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["sweep=rho", "inner.rho=1"], "savi-train inner.rho=1"),
        (["data.path=/my data"], "savi-train 'data.path=/my data'"),
    ],
)
def test_the_command_runs_the_job_alone(overrides, line):
    assert command(overrides) == line


@pytest.mark.parametrize(
    ("folder", "word"),
    [
        ("runs/a-1", "hydra.run.dir=runs/a-1"),
        ("/x/my runs/rho=1", "hydra.run.dir='/x/my runs/rho=1'"),
    ],
)
def test_the_command_that_goes_on_with_a_run(folder, word):
    words = shlex.split(again(["seed=1", "resume=old.ckpt", "sweep=rho"], folder))
    assert words == ["savi-train", "seed=1", word, "resume=auto"]
