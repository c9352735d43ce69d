"""The commands, called as a user would, in this process."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from programs import started
from sklearn.datasets import load_digits

from savi.cli import evaluate, report, train

TINY = (
    "debug=quick",
    "data.limit=40",
    "trainer.max_epochs=1",
    "model.hidden=8",
    "model.latent_dim=2",
    "inner.max_steps=8",
    "hydra.run.dir=run",
)

REFUSED = [
    ("gradient=foo", "unknown gradient 'foo': choose one of checkpointed, finite_difference, ift,"),
    ("data=foo", "unknown data 'foo': choose one of arrays, celeba"),
    ("experiment=foo", "unknown experiment 'foo': choose one of hypergradient"),
    ("inner.optimizer=foo", "unknown inner.optimizer 'foo': choose one of adam"),
    ("posterior=foo", "unknown posterior 'foo': choose one of diagonal_gaussian"),
    ("encoder_loss=foo", "unknown encoder_loss 'foo'"),
    ("model.decoder=foo", "unknown decoder 'foo': choose one of conv"),
    ("model.gamma.mode=foo", "unknown model.gamma.mode 'foo': choose one of fixed"),
    ("data.scale=foo", "unknown data.scale 'foo': choose one of global, none, per_feature"),
    ("data.layout=foo", "unknown data.layout 'foo': choose one of channels_first, channels_last"),
    ("inner.objective=foo", "unknown inner.objective 'foo': choose one of elbo, map, proximal"),
    ("inner.noise=foo", "unknown inner.noise 'foo': choose one of crn, fresh"),
    ("gradient.solver=foo", "unknown gradient.solver 'foo': choose one of cg, cholesky"),
    ("gradient.on_failure=foo", "unknown gradient.on_failure 'foo': choose one of damp"),
    ("optimizer.schedule=foo", "unknown optimizer.schedule 'foo': choose one of constant"),
    ("logger.mode=foo", "unknown logger.mode 'foo': choose one of disabled"),
    ("logger.mode=online", "without a wandb login: run 'wandb login' or set WANDB_API_KEY"),
    ("inner.max_steps=-1", "inner.max_steps is -1: set it to 0 or more"),
    ("inner.test_max_steps=-1", "inner.test_max_steps is -1"),
    ("inner.max_steps=0", "set inner.max_steps to 1 or more"),
    ("inner.max_steps=abc", "could not be converted to Integer"),
    ("inner.max_steps=1.5", "could not be converted to Integer"),
    ("inner.samples=0", "inner.samples is 0: set it to 1 or more"),
    ("inner.rtol=-1", "inner.rtol is -1.0: set it to 0 or more"),
    ("inner.rho=0", "inner.rho is 0.0: set it above 0"),
    ("inner.rho=-1", "inner.rho is -1.0: set it above 0"),
    ("inner.rho=nan", "inner.rho is nan: set it above 0"),
    ("model.gamma.value=0", "model.gamma.value is 0.0: set it above 0"),
    ("model.gamma.value=-1", "model.gamma.value is -1.0: set it above 0"),
    ("model.gamma.floor=0", "model.gamma.floor is 0.0: set it above 0"),
    ("model.latent_dim=0", "model.latent_dim is 0: set it to 1 or more"),
    ("model.kl.weight=-1", "model.kl.weight is -1.0: set it to 0 or more"),
    ("inner.noise=fresh", "gradient 'ift' with inner.noise 'fresh'"),
    ("inner.lr=0.1", "has no option 'lr': it takes damping, max_damping"),
    ("inner.damping=-1", "inner.damping is -1.0: set it above 0"),
    ("posterior=laplace", "set inner.objective=map"),
    ("inner.objective=map", "set posterior=laplace or posterior=point_mass"),
    ("encoder_loss=none", "sends no gradient to the encoder: set encoder_loss=elbo_at_init"),
    ("encoder_loss.through=-1", "encoder_loss.through is -1.0: set it to 0 or more"),
    ("optimizer.lr=0", "optimizer.lr is 0.0: set it above 0"),
    ("trainer.max_epochs=0", "trainer.max_epochs is 0: set it to 1 or more"),
    ("trainer.gradient_clip_val=0", "trainer.gradient_clip_val is 0.0: set it above 0"),
    ("trainer.precision=16-true", "unknown trainer.precision '16-true': choose one of 16-mixed"),
    ("trainer.accelerator=tpu", "unknown trainer.accelerator 'tpu': choose one of auto, cpu"),
    ("trainer.check_val_every_n_epoch=9", "so that no epoch would be validated"),
    ("seed=5000000000", "seed is 5000000000: set it to at most 4294967295"),
    ("debug=foo", "unknown debug 'foo': choose one of limit, overfit, profiler, quick"),
    ("+foo=1", "unknown key 'foo': choose one of callbacks"),
    ("++model.hiden=3", "unknown key 'model.hiden': choose one of activation"),
    ("~model", "no model is chosen: leave out '~model'"),
    ("seed=0,1", "seed=0,1 has several values: add -m to run one job for each"),
    ("experiment=3", "a group is set to something that is no name"),
    ("hydra.run.dir=.", "hydra.run.dir is the current folder"),
    ("data.batch_size=0", "data.batch_size is 0: set it to 1 or more"),
    ("data=arrays", "needs data.path"),
    ("data.foo=1", "unknown key 'data.foo': choose one of batch_size"),
    ("inner.foo=1", "unknown key 'inner.foo': choose one of adapt_lr, atol"),
    ("foo", "cannot read 'foo': write KEY=VALUE"),
    ("seed=???", "seed: Missing mandatory value"),
    ("hydra.run.dir=???", "hydra.run.dir is ???, which stands for no value: set it to one"),
    ("seed=${foo}", "Interpolation key 'foo' not found"),
    ("data.path=a=b", "cannot read 'data.path=a=b': quote the value: 'data.path=\"a=b\"'"),
    ("=", "cannot read '=': there is no key before the '='"),
    ("model=3", "a group is set to something that is no name ('model=3'): write model=NAME"),
    ("seed=", "'seed=' cannot be: Value '' of type 'str' could not be converted to Integer"),
    ("model.kl=null", "null is no value for it, so leave it out or give one"),
    ("+seed=3", "An item is already at 'seed': leave out the +"),
    ("--foo", "unrecognized arguments: --foo: flags such as -m come before the words KEY=VALUE"),
    ("hydra.run.dir=/dev/null", "'/dev/null' cannot be used: File exists"),
    ("model.depth=1000000000", "model.depth is 1000000000: set it to at most 1000"),
    ("inner.samples=9999999999999999999999", "inner.samples has 22 digits: set it to fewer"),
    ("sweep=rho", "sweep=rho without -m: add -m"),
    ("trainer.vary={inner.rho: [1, 2]}", "trainer.vary without replicas: set trainer.replicas=2"),
    ("trainer.vary=3", "trainer.vary is 3: give a list of numbers for each key"),
    ("optimized_metric=foo", "unknown optimized_metric 'foo'"),
]


@pytest.mark.parametrize(("override", "message"), REFUSED, ids=[r[0] for r in REFUSED])
def test_bad_input_ends_in_one_sentence(override, message, command, capsys, tmp_path):
    with pytest.raises(SystemExit) as exit_:
        command(train, *TINY, override)
    assert exit_.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.strip().splitlines()
    assert line.startswith("savi: ")
    assert message in line
    # Before any work is done, and nothing is left behind.
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("experiment", "override"),
    [
        ("vae_svi", "encoder_loss=through"),
        ("laplace_ift", "encoder_loss=through"),
        ("vae", "encoder_loss=kl_init_final"),
        ("svi", "encoder_loss=through"),
    ],
)
def test_an_encoder_without_a_gradient_is_refused(experiment, override, command, capsys):
    with pytest.raises(SystemExit) as exit_:
        command(train, "debug=quick", f"experiment={experiment}", override, "hydra.run.dir=run")
    assert exit_.value.code == 2
    assert "encoder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((50, 4), np.nan, dtype=np.float32), "NaN"),
        (np.zeros(50, dtype=np.float32), "shape"),
    ],
)
def test_bad_arrays_are_refused(array, message, command, capsys, tmp_path):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(SystemExit) as exit_:
        command(train, *TINY, "data=arrays", f"data.path={tmp_path / 'x.npy'}")
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("override", ["inner.rho=0", "seed=0"])
def test_a_run_is_never_written_over(override, command, capsys, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.json").write_text("precious")
    with pytest.raises(SystemExit) as exit_:
        command(train, *TINY, override)
    assert exit_.value.code == 2
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["metrics.json"]
    assert (tmp_path / "run" / "metrics.json").read_text() == "precious"
    if override == "seed=0":
        assert "holds a run already (metrics.json)" in capsys.readouterr().err


def test_a_default_run_folder_is_removed_with_its_parents(command, tmp_path):
    with pytest.raises(SystemExit):
        command(train, "debug=quick", "inner.rho=0")
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_no_number_ends_in_one_sentence(command, capsys, tmp_path):
    with pytest.raises(SystemExit) as exit_:
        command(train, *TINY, "experiment=vae", "logger=csv", "optimizer.lr=1e12",
                "trainer.max_epochs=4", "inner.max_steps=0")  # fmt: skip
    assert exit_.value.code == 1
    told = capsys.readouterr().err
    assert "warning: epoch 2: step 1 is left out (number 1): the loss is inf" in told
    assert "savi-train replay=" in told
    record = json.loads((tmp_path / "run" / "status.json").read_text())
    assert record["state"] == "failed"
    assert "training steps" in record["reason"]
    assert "had to be left out (trainer.max_bad_steps=10; " in record["reason"]
    assert "in epoch" in record["reason"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder in which a tiny default run has finished."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["savi-train", *TINY])
        train()
    return folder


@pytest.mark.slow
def test_a_folder_in_the_place_of_a_file_ends_in_one_sentence(finished, command, capsys, tmp_path):
    shutil.copytree(finished / "run", tmp_path / "run", symlinks=True)
    (tmp_path / "run" / "metrics.csv").unlink()
    (tmp_path / "run" / "metrics.csv").mkdir()
    with pytest.raises(SystemExit) as exit_:
        command(train, *TINY, "trainer.max_epochs=3", "resume=auto")
    assert exit_.value.code == 2
    (told,) = [
        line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning: ")
    ]
    assert told.startswith("savi: '")
    assert told.endswith("metrics.csv' cannot be used: Is a directory")


@pytest.mark.slow
def test_a_run_folder_holds_everything(finished):
    run = finished / "run"
    for name in (
        "metrics.json",
        "metrics.csv",
        "config.yaml",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "figures/data.png",
        "figures/reconstructions.png",
        "figures/prior_samples.png",
        "figures/learning_curves.png",
        "figures/inner_steps.png",
    ):
        assert (run / name).stat().st_size > 0, name
    (wandb_run,) = (run / "wandb").glob("offline-run-*")
    (link,) = (finished / "runs" / "wandb").iterdir()
    assert link.resolve() == wandb_run.resolve()
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"]["latent_dim"] == 2
    assert config["experiment"] == "savi_ift"


@pytest.mark.slow
def test_metrics_have_their_names(finished):
    metrics = json.loads((finished / "run" / "metrics.json").read_text())
    expected = {
        *(f"test/{n}" for n in ("elbo", "reconstruction", "kl", "nll", "bits_per_dim", "gamma")),
        *(f"test/{n}" for n in ("active_units", "mutual_information")),
        *(f"test/gap/{n}" for n in ("amortization", "approximation", "generalization")),
        *(f"inner/{n}" for n in ("steps", "stationarity", "improvement", "converged")),
        *(f"ift/{n}" for n in ("min_curvature", "linear_residual", "linear_steps", "failures")),
        *(f"cost/{n}" for n in ("step_seconds", "peak_memory_mb", "decoder_evaluations")),
    }
    assert expected <= set(metrics)
    assert all(np.isfinite(value) for value in metrics.values())
    assert metrics["test/elbo"] == pytest.approx(
        metrics["test/reconstruction"] - metrics["test/kl"], abs=1e-4
    )


@pytest.mark.slow
def test_evaluate_gives_the_same_numbers(finished, command, capsys, tmp_path):
    checkpoint = finished / "run" / "checkpoints" / "best.ckpt"
    command(evaluate, f"checkpoint={checkpoint}", "output=again.json")
    again = json.loads((tmp_path / "again.json").read_text())
    trained = json.loads((finished / "run" / "metrics.json").read_text())
    assert "test/elbo" in again
    assert again == {name: trained[name] for name in again}
    # By the curves of the run as well.
    verdict = json.loads((finished / "run" / "collapse.json").read_text())
    assert f"Collapse: {verdict['name']}. {verdict['reason']}" in capsys.readouterr().out


@pytest.mark.slow
def test_another_data_set_is_told_from_the_runs_own(finished, command, capsys, tmp_path):
    """Digits with their pixels shuffled are others; the digits themselves are not."""
    noise = torch.Generator().manual_seed(0)
    pixels = torch.as_tensor(load_digits().images).float().reshape(-1, 1, 8, 8)
    own = (pixels + torch.rand(pixels.shape, generator=noise)) / 17
    shuffled = own.flatten(1)[:, torch.randperm(64, generator=noise)].reshape(own.shape)
    checkpoint = finished / "run" / "checkpoints" / "best.ckpt"
    found = {}
    for name, images in (("own", own), ("shuffled", shuffled)):
        np.savez(tmp_path / f"{name}.npz", train=images[:1000].numpy(), test=images[1000:].numpy())
        command(evaluate, f"checkpoint={checkpoint}", "output=ood.json", "ood=arrays",
                f"ood_path={name}.npz", "ood_examples=40", "ais_examples=0")  # fmt: skip
        found[name] = json.loads((tmp_path / "ood.json").read_text())
    assert found["shuffled"]["ood/auroc_elbo"] > 0.9
    assert 0.3 < found["own"]["ood/auroc_elbo"] < 0.7
    assert "Out of distribution" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        command(evaluate, f"checkpoint={checkpoint}", "ood=linear_gaussian")
    assert "has 20 dimensions and 'digits' 64" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_says_how_it_ended_and_whether_it_collapsed(finished):
    record = json.loads((finished / "run" / "status.json").read_text())
    assert record["state"] == "finished"
    assert record["command"].startswith("savi-train debug=quick data.limit=40")
    collapse = json.loads((finished / "run" / "collapse.json").read_text())
    assert collapse["kind"] in ("none", "i", "ii", "iii", "v", "undecided")
    assert len(collapse["kl_per_dimension"]) == 2
    assert collapse["reason"]


@pytest.mark.slow
def test_the_report_of_a_run(finished, command, capsys, tmp_path):
    command(report, str(finished / "run"), "--output", "page.html")
    assert "The report is in page.html" in capsys.readouterr().out
    page = (tmp_path / "page.html").read_text()
    assert "test/elbo" in page
    assert "collapse" in page.lower()
    command(report, "sync-help", str(finished))
    assert "wandb sync" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "RUN_OR_SWEEP_FOLDER"),
        (("nowhere",), "'nowhere' is no folder"),
        (("sync-help", "nowhere"), "there is no offline wandb run in 'nowhere'"),
        (("sync-help", "a", "b"), "takes one folder"),
    ],
)
def test_a_report_of_nothing_is_refused(arguments, message, command, capsys):
    with pytest.raises(SystemExit) as exit_:
        command(report, *arguments)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_replicas_are_runs_of_their_own(command, capsys, tmp_path):
    command(train, *TINY, "logger=csv", "trainer.replicas=2", "evaluation.ais_examples=0",
            "evaluation.gap_examples=0")  # fmt: skip
    for name in ("seed-0", "seed-1"):
        assert "test/elbo" in json.loads((tmp_path / "run" / name / "metrics.json").read_text())
    out = capsys.readouterr().out
    assert "run: 2 finished" in out
    assert "savi-train" in out


@pytest.mark.slow
@pytest.mark.long
def test_replicas_may_differ_in_a_constant(command, tmp_path):
    command(train, *TINY, "logger=csv", "trainer.replicas=2", "evaluation.ais_examples=0",
            "trainer.vary={inner.rho: [1, 10]}")  # fmt: skip
    folders = {path.parent.name for path in (tmp_path / "run").glob("*/metrics.json")}
    assert folders == {"inner.rho-1", "inner.rho-10"}


def test_flags_that_exclude_each_other_are_refused(command, capsys):
    with pytest.raises(SystemExit) as exit_:
        command(train, "-m", "seed=0,1", "--cfg", "job")
    assert exit_.value.code == 2
    assert "-m runs jobs, --cfg and --info only look" in capsys.readouterr().err


def test_replicas_in_a_sweep_are_refused(command, capsys, tmp_path):
    with pytest.raises(SystemExit) as exit_:
        command(train, "-m", *TINY, "trainer.replicas=2", "seed=0,1")
    assert exit_.value.code == 2
    assert "trainer.replicas above 1 in a sweep" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_same_seed_gives_the_same_metrics(finished, command, tmp_path):
    command(train, *TINY, "logger=csv", "callbacks.figures=false")
    again = json.loads((tmp_path / "run" / "metrics.json").read_text())
    first = json.loads((finished / "run" / "metrics.json").read_text())
    assert again.keys() == first.keys()
    for name in first:
        assert name.startswith("cost/") or again[name] == first[name], name


@pytest.mark.slow
def test_the_wandb_run_can_be_read_back(finished):
    (file,) = (finished / "run" / "wandb").glob("offline-run-*/*.wandb")
    assert b"test/elbo" in file.read_bytes()


@pytest.mark.slow
def test_ctrl_c_keeps_everything_so_far(tmp_path):
    words = (*TINY, "trainer.max_epochs=100000")
    process = started("import savi.cli; savi.cli.train()", *words, cwd=tmp_path)
    assert process.pid is not None
    printed = tmp_path / "stdout.txt"
    while not printed.exists() or "\nepoch 2/" not in printed.read_text():
        assert process.is_alive()
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    process.join(timeout=120)
    errors = (tmp_path / "stderr.txt").read_text()
    assert process.exitcode == 130, errors
    assert errors.strip().splitlines()[-1].startswith("savi: interrupted: checkpoints and metrics")
    run = tmp_path / "run"
    for name in ("checkpoints/best.ckpt", "checkpoints/last.ckpt", "metrics.csv", "config.yaml"):
        assert (run / name).stat().st_size > 0, name
    assert (run / "figures" / "learning_curves.png").is_file()
    assert "val/elbo" in json.loads((run / "metrics.json").read_text())
    assert json.loads((run / "status.json").read_text())["state"] == "interrupted"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no checkpoint is given"),
        (("checkpoint=nowhere.ckpt",), "checkpoint 'nowhere.ckpt' does not exist"),
        (("checkpoint=foreign.ckpt",), "'foreign.ckpt' is not a checkpoint of savi"),
        (("checkpoint=text.ckpt",), "'text.ckpt' is not a checkpoint of savi"),
        (("checkpoint=text.ckpt", "samples=0"), "samples is 0: set it to 1 or more"),
        (
            ("checkpoint=text.ckpt", "test_max_steps=-1"),
            "test_max_steps is -1: set it to 0 or more",
        ),
        (("checkpoint=.",), "checkpoint '.' is a folder: give the .ckpt file in it"),
        (("checkpoint=text.ckpt", "output=no/where.json"), "output 'no/where.json' cannot be"),
        (("checkpoint=text.ckpt", "split=foo"), "unknown split 'foo': choose one of test, val"),
        (("checkpoint=text.ckpt", "ais_chains=1"), "ais_chains is 1: set it to 2 or more"),
        (("checkpoint=text.ckpt", "ood=foo"), "unknown ood 'foo': choose one of arrays, celeba"),
        (("checkpoint=text.ckpt", "ood=arrays"), "ood 'arrays' without ood_path"),
        (("checkpoint=text.ckpt", "ood_path=x.npz"), "ood_path 'x.npz' without ood"),
    ],
)
def test_a_checkpoint_that_cannot_be_evaluated(arguments, message, command, capsys, tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    (tmp_path / "text.ckpt").write_text("not a checkpoint")
    with pytest.raises(SystemExit) as exit_:
        command(evaluate, *arguments)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_a_checkpoint_is_never_executed(command, capsys, tmp_path):
    class Malicious:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"savi_config": Malicious()}, tmp_path / "bad.ckpt")
    with pytest.raises(SystemExit) as exit_:
        command(evaluate, "checkpoint=bad.ckpt")
    assert exit_.value.code == 2
    assert not (tmp_path / "executed").exists()


def test_what_does_not_fit_into_memory(command, capsys, tmp_path):
    with pytest.raises(SystemExit) as exit_:
        command(train, *TINY, "model.hidden=1000000000000")
    assert exit_.value.code == 1
    assert capsys.readouterr().err.startswith("savi: there is not enough memory: lower the sizes")
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_is_given_twice_is_remarked(command, capsys):
    command(train, *TINY, "experiment=vae", "logger=csv", "callbacks.figures=false",
            "evaluation.ais_examples=0", "evaluation.gap_examples=0", "seed=1", "seed=2",
            "evaluation.autoencoder_steps=0", "inner.max_steps=0")  # fmt: skip
    assert "warning: seed is given twice, of which the last one counts: seed=2\n" in (
        capsys.readouterr().err
    )


def test_a_sentence_stays_on_its_line(command, capsys):
    with pytest.raises(SystemExit):
        command(report, "no\u2028where\n\x01")
    (line,) = capsys.readouterr().err.splitlines()
    assert line == r"savi: 'no where \x01' is no folder: give a run's folder or a sweep's"
