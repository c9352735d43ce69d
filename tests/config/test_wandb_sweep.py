"""The sweep file for wandb's own agents."""

from itertools import product
from pathlib import Path

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from savi.experiments.check import check
from savi.report.wandb import OBJECTIVE

SWEEP = yaml.safe_load((Path(__file__).parents[2] / "scripts" / "wandb_sweep.yaml").read_text())


def choices(parameter):
    """The values of a parameter, or the ends of its range."""
    if "value" in parameter:
        return [parameter["value"]]
    return parameter.get("values") or [parameter["min"], parameter["max"]]


def settings():
    names = SWEEP["parameters"]
    return [
        dict(zip(names, values, strict=True)) for values in product(*map(choices, names.values()))
    ]


def overrides(setting):
    """The command line that an agent would call, after the program."""
    arguments = create_sweep_command_args({"args": {k: {"value": v} for k, v in setting.items()}})
    command = []
    for word in create_sweep_command(SWEEP["command"]):
        macro = word.removeprefix("${").removesuffix("}")
        command += arguments.get(macro, [word]) if word.startswith("${") else [word]
    return command[command.index("${program}") + 1 :]


def test_it_maximises_what_runs_are_chosen_by():
    assert SWEEP["program"] == "savi-train"
    assert SWEEP["metric"] == {"name": OBJECTIVE, "goal": "maximize"}


def test_an_agent_logs_online():
    assert "logger.mode=online" in overrides(settings()[0])


@pytest.mark.parametrize("setting", [settings()[0], settings()[-1]], ids=["first", "last"])
def test_its_parameters_make_a_config(config, setting, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    values = config(*overrides(setting))
    check(values)
    for key, value in setting.items():
        if key == "experiment":
            continue
        found = values
        for part in key.split("."):
            found = found[part]
        assert found == value
