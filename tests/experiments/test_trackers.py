"""TensorBoard and MLflow, whose packages need not be there."""

from pathlib import Path

import pytest
from PIL import Image
from pytorch_lightning.loggers import MLFlowLogger, TensorBoardLogger

from savi.errors import InputError
from savi.experiments import check_loggers, trackers
from savi.experiments.check import check
from savi.experiments.loggers import build_loggers, finish, log_results
from savi.experiments.metrics_log import MetricsLog
from savi.runs.record import Origin


class Recorder:
    """Stands for a writer or a client: it writes down what it is asked."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self.calls.append((name, args, kwargs))


class Board(TensorBoardLogger):
    experiment = Recorder()

    def __init__(self, *arguments, **options) -> None:
        self.arguments, self.ended = arguments, None

    def finalize(self, status):
        self.ended = status


class Flow(MLFlowLogger):
    experiment, run_id = Recorder(), "abc"

    def __init__(self, *arguments, run_id=None, **options) -> None:
        self.arguments, self.given, self.logged, self.ended = arguments, run_id, {}, None

    def log_hyperparams(self, params):
        self.logged |= params

    def log_metrics(self, metrics, step=None):
        self.logged |= metrics

    def finalize(self, status):
        self.ended = status


@pytest.fixture
def stubs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trackers, "TensorBoardLogger", Board)
    monkeypatch.setattr(trackers, "MLFlowLogger", Flow)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for kind in (Board, Flow):
        kind.experiment = Recorder()


@pytest.mark.parametrize("name", check_loggers.TRACKERS)
def test_a_package_that_is_missing_is_told_before_anything_is_done(name, config, monkeypatch):
    monkeypatch.setattr(check_loggers, "find_spec", lambda package: None)
    check(config("experiment=vae"))
    told = rf"logger\.{name} needs the package {name}, which is not installed: pip install {name},"
    for chosen in (f"logger={name}", f"logger.{name}=true"):
        with pytest.raises(InputError, match=told):
            check(config("experiment=vae", chosen))
    assert config(f"logger={name}")["logger"]["wandb"] is False
    everything = config("logger=all")["logger"]
    assert all(everything[name] for name in ("wandb", *check_loggers.TRACKERS))


def test_several_log_at_once_each_what_it_can_show(stubs, config, tmp_path):
    values = config("experiment=vae", "logger=csv", "logger.tensorboard=true", "logger.mlflow=true")
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    csv, board, flow = loggers = build_loggers(values, folder, Origin())
    assert isinstance(csv, MetricsLog)
    assert board.arguments[:3] == (folder, "tensorboard", "")
    project, name, uri, tags = flow.arguments
    assert (project, name) == ("savi", "unrolled_digits_seed-0")
    assert uri == f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}"
    assert tags == {"group": "unrolled_digits"}
    assert flow.logged["model.latent_dim"] == 16

    picture = tmp_path / "figures" / "data.png"
    picture.parent.mkdir()
    Image.new("RGB", (4, 3)).save(picture)
    trackers.log_pictures(loggers, {"data": picture}, 7)
    log_results(loggers, values, {"test/elbo": -1.5}, 7)
    finish(loggers, failed=True)
    (image, hparams, _) = Board.experiment.calls
    assert (image[0], image[1][0], image[1][1].shape) == ("add_image", "figures/data", (3, 4, 3))
    assert (hparams[0], hparams[1][1]) == ("add_hparams", {"test/elbo": -1.5})
    assert hparams[1][0]["resume"] == "None"
    assert Flow.experiment.calls == [("log_artifact", ("abc", str(picture), "figures"), {})]
    assert flow.logged["test/elbo"] == -1.5
    assert (board.ended, flow.ended) == ("failed", "failed")


def test_a_run_that_goes_on_is_the_same_one_in_mlflow(stubs, config, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracker:5000")
    for given, settings in ((None, True), ("abc", False)):
        _, flow = build_loggers(config("logger=mlflow"), tmp_path, Origin())
        assert flow.arguments[2] == "http://tracker:5000"
        assert (flow.given, bool(flow.logged)) == (given, settings)
    assert Path("mlflow_run.txt").read_text() == "abc\n"


def test_tensorboard_reads_what_a_run_has_logged(config, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.chdir(tmp_path)
    values = config("experiment=vae", "logger=tensorboard")
    loggers = build_loggers(values, tmp_path, Origin())
    loggers[1].log_metrics({"train/elbo": -3.0}, 4)
    log_results(loggers, values, {"test/elbo": -1.5}, 7)
    finish(loggers, False)
    read = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert read.Scalars("train/elbo")[0][1:] == (4, -3.0)
    assert read.Scalars("test/elbo")[0][1:] == (7, -1.5)
