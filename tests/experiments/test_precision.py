"""``trainer.precision=64-true``: everything in double precision, whatever the method."""

import json
import math
from pathlib import Path

import pytest
import torch

from savi import replicas
from savi.evaluation import evaluate
from savi.experiments.reload import load
from savi.experiments.run import Run, train

pytestmark = [
    pytest.mark.filterwarnings("ignore:Experiment logs directory"),
    pytest.mark.filterwarnings("ignore:The '.*' does not have many workers"),
]

EXPERIMENTS = sorted(
    path.stem for path in (Path(__file__).parents[2] / "conf" / "experiment").glob("*.yaml")
)
TINY = (
    "debug=quick", "logger=csv", "model.hidden=8", "model.latent_dim=2",
    "trainer.limit_train_batches=1", "trainer.max_epochs=1", "trainer.log_every_n_steps=1",
    "trainer.precision=64-true", "trainer.accelerator=cpu", "callbacks.figures=false",
    "data.limit=20",
    "evaluation.importance_samples=5", "evaluation.gap_examples=3", "evaluation.gap_steps=2",
    "evaluation.ais_examples=2", "evaluation.ais_steps=3", "evaluation.autoencoder_steps=2",
)  # fmt: skip


def dtypes(module: torch.nn.Module) -> set[torch.dtype]:
    tensors = [*module.parameters(), *module.buffers()]
    return {tensor.dtype for tensor in tensors if tensor.is_floating_point()}


CHOICES = [
    *([f"experiment={name}"] for name in EXPERIMENTS),
    *(
        ["experiment=savi_unrolled", f"gradient={name}"]
        for name in ("checkpointed", "finite_difference")
    ),
    [
        "experiment=savi_unrolled",
        "gradient=reversible",
        "inner.optimizer=momentum",
        "inner.lr=0.01",
    ],
    ["experiment=vae_svi", "gradient=truncated"],
    ["experiment=vae_svi", "gradient=one_step", "inner.optimizer=gd"],
    *(["experiment=savi_ift", f"gradient.solver={name}"] for name in ("cg", "minres", "nystrom")),
    *(
        ["experiment=vae_svi", f"inner.optimizer={name}"]
        for name in ("gd", "adam", "lbfgs", "natural_gradient")
    ),
    ["experiment=savi_ift", "inner=trust_region", "inner.radius=0.5"],
    ["experiment=savi_ift", "posterior=full_gaussian"],
    ["experiment=vae_svi", "posterior=point_mass", "inner=map"],
    ["experiment=vae", "model=conv"],
    ["experiment=vae", "model=resnet"],
    *(["experiment=savi_ift", f"model.gamma.mode={mode}"] for mode in ("learned", "fixed")),
    ["experiment=savi_ift", "model.gamma.mode=per_pixel"],
    ["experiment=savi_ift", "callbacks.gradient_check_every_n_steps=1"],
    ["experiment=savi_ift", "callbacks.figures=true"],
    ["experiment=vae", "optimizer.schedule=cosine", "trainer.gradient_clip_val=1"],
]


@pytest.mark.parametrize("overrides", CHOICES, ids=" ".join)
def test_a_step_of_every_method(config, tmp_path, overrides):
    run = Run.build(config(*TINY, *overrides), tmp_path)
    before = [p.detach().clone() for p in run.module.parameters()]
    run.fit()
    assert run.trainer.global_step == 1
    assert dtypes(run.module) == {torch.float64}
    assert any(not torch.equal(p, q) for p, q in zip(run.module.parameters(), before, strict=True))
    assert math.isfinite(float(run.trainer.callback_metrics["train/elbo"]))
    for name in ("train", "val", "test"):
        assert run.data.split(name).dtype == torch.float64
    module = load(tmp_path / "checkpoints" / "last.ckpt")
    assert dtypes(module) == {torch.float64}
    metrics = evaluate(module, run.data).metrics
    assert math.isfinite(metrics["test/elbo"])


@pytest.mark.parametrize("experiment", ["vae", "svi", "savi_unrolled", "savi_ift", "vlae"])
def test_replicas_take_the_steps_of_separate_runs(config, tmp_path, experiment):
    values = config(*TINY, f"experiment={experiment}", "trainer.replicas=2")
    together = replicas.train(values, tmp_path / "both")
    values["trainer"]["replicas"] = 1
    values["seed"] = values["data"]["seed"] = 1
    alone = train(values, tmp_path / "alone")
    assert together[1]["test/elbo"] == pytest.approx(alone["test/elbo"], rel=1e-9)
    assert dtypes(load(tmp_path / "both" / "seed-1")) == {torch.float64}
    assert json.loads((tmp_path / "alone" / "metrics.json").read_text()) == alone


def test_single_precision_stays(config, tmp_path):
    words = [word for word in TINY if "precision" not in word]
    run = Run.build(config(*words, "experiment=vae"), tmp_path)
    assert dtypes(run.module) == {torch.float32}
    assert run.data.split("train").dtype == torch.float32
