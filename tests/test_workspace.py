"""The dashboard as code."""

import json
import socket
import sys
import warnings

import pytest
import workspace as module
from workspace import PICTURES, main, metric_names, workspace

from savi.errors import InputError
from savi.report.metrics import METRICS, parse
from savi.report.wandb import AXES, CURVES, SPLITS, TRACE_ELBO, TRACE_STATIONARITY

with warnings.catch_warnings():
    # Of its own use of pydantic.
    warnings.simplefilter("ignore")
    pytest.importorskip("wandb_workspaces.workspaces")


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No network and no login."""

    def refuse(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)


def test_every_panel_shows_what_is_logged(offline):
    shown = list(metric_names(workspace("me", "savi")))
    for name, axis in shown:
        if name in (TRACE_ELBO, TRACE_STATIONARITY):
            assert axis == "inner_trace/step"
            continue
        split, quantity = parse(name)
        assert quantity in METRICS, name
        if axis is not None:
            assert axis == AXES[name.partition("/")[0]]
            assert split is None or (split in SPLITS and quantity in CURVES)
    names = [name for name, _ in shown]
    assert {"val/elbo", "train/elbo", "test/elbo", "test/gap/amortization"} <= set(names)
    assert {"inner/steps", "ift/error_bound", "gradient/norm_encoder"} <= set(names)


def test_every_quantity_has_a_panel(offline):
    quantities = {parse(name)[1] for name, _ in metric_names(workspace("me", "savi"))}
    assert set(METRICS) <= quantities


def test_training_is_drawn_over_steps_and_validation_over_epochs(offline):
    axes = {name: axis for name, axis in metric_names(workspace("me", "savi")) if axis}
    assert (axes["train/elbo"], axes["val/elbo"]) == ("trainer/global_step", "epoch")
    assert axes["inner/stationarity"] == "trainer/global_step"


def test_sections(offline):
    sections = [section.name for section in workspace("me", "savi").sections]
    assert (sections[0], sections[-1]) == ("Comparison", "Media")
    wanted = {"Bound", "Gaps", "Inner problem", "Certificate", "Gradient", "Cost"}
    assert wanted <= set(sections)
    assert all(section.panels for section in workspace("me", "savi").sections)


def test_settings_of_the_comparison_are_keys_of_the_config(offline, config):
    for key in module.SETTINGS:
        value = config()
        for part in key.split("."):
            assert part in value, key
            value = value[part]


@pytest.mark.slow
def test_the_pictures_are_those_of_a_run(config, tmp_path):
    from savi.experiments.build import build
    from savi.experiments.media import run_figures

    data, model = build(config("data.limit=24", "model.hidden=8", "model.latent_dim=2"))
    (tmp_path / "metrics.csv").write_text("step,val/elbo\n0,1.0\n")
    assert set(run_figures(model, data, tmp_path / "metrics.csv")) == set(PICTURES)


def test_without_save_the_view_is_printed(offline, capsys):
    assert main(["--project", "mine", "--name", "view"]) == 0
    view = json.loads(capsys.readouterr().out)
    assert (view["project"], view["displayName"]) == ("mine", "view")
    sections = view["spec"]["section"]["panelBankConfig"]["sections"]
    assert sum(len(section["panels"]) for section in sections) > len(METRICS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--save"], "--save without --entity"),
        (["--save", "--entity", "me"], "--save without a wandb login: run 'wandb login'"),
    ],
)
def test_what_save_needs_is_told_in_one_sentence(arguments, message, offline, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.strip().splitlines()
    assert line.startswith(f"savi: {message}")


def test_a_missing_package_is_told_in_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    with pytest.raises(InputError, match=r"needs wandb-workspaces.*pip install 'savi-vae\[dash"):
        workspace("me", "savi")
