"""Run folders as training leaves them, made up."""

import json
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

CONFIG = {
    "seed": 0,
    "experiment": "savi_ift",
    "data": {"name": "digits", "seed": 0},
    "model": {"latent_dim": 16},
    "posterior": {"name": "diagonal_gaussian"},
    "inner": {"objective": "proximal", "rho": 1.0, "optimizer": "chord"},
    "gradient": {"name": "ift", "rtol": 1e-5},
    "optimizer": {"lr": 0.001},
    "logger": {"name": None},
}

METRICS = {
    "test/elbo": 40.0,
    "test/nll": -43.0,
    "test/active_units": 11.0,
    "test/gap/approximation": 0.4,
    "test/gap/amortization": 1.2,
    "inner/converged": 0.98,
    "ift/failures": 0.0,
    "ift/error_bound": 0.03,
    "ift/min_curvature": -0.5,
    "cost/step_seconds": 0.05,
    "cost/peak_memory_mb": 900.0,
}

CURVES = """epoch,step,train/elbo,val/elbo,inner/stationarity,own/figure
0,1,-50.5,,1e-2,3
0,2,,-30.25,,
1,3,10.5,,1e-3,4
1,4,,nan,1e-5,
2,5,30.0,35.5,,5
"""


def merged(config, changes):
    """A copy of a config with dotted keys changed."""
    copy = json.loads(json.dumps(config))
    for key, value in changes.items():
        *groups, last = key.split(".")
        node = copy
        for group in groups:
            node = node.setdefault(group, {})
        node[last] = value
    return copy


def write_run(
    folder: Path,
    config=None,
    metrics=METRICS,
    curves=CURVES,
    state="finished",
    reason=None,
    command="savi-train seed=0",
    picture=True,
):
    """Write a run folder; a state of None leaves ``status.json`` out."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(merged(CONFIG, config or {})))
    if metrics is not None:
        (folder / "metrics.json").write_text(json.dumps(metrics))
    if curves is not None:
        (folder / "metrics.csv").write_text(curves)
    if state is not None:
        record = {
            "state": state,
            "reason": reason,
            "command": command,
            "started": "2026-01-02T03:04:05+00:00",
            "ended": None if state == "running" else "2026-01-02T04:06:05+00:00",
        }
        (folder / "status.json").write_text(json.dumps(record))
    if picture:
        (folder / "figures").mkdir()
        grey = np.full((12, 24), 200, dtype=np.uint8)
        Image.fromarray(grey).save(folder / "figures" / "reconstructions.png")
    return folder


def write_sweep(folder: Path, rhos=(0.1, 1.0, 100.0), seeds=(0, 1, 2)):
    """Write a sweep in ρ and the seed: one job failed, one is missing, the others finished."""
    jobs = []
    for i, rho in enumerate(rhos):
        for seed in seeds:
            overrides = [f"inner.rho={rho:g}", f"seed={seed}"]
            name = f"rho-{rho:g}_seed-{seed}"
            jobs.append({"folder": name, "overrides": overrides})
            changes = {"inner.rho": rho, "seed": seed, "data.seed": seed}
            command = f"savi-train {' '.join(overrides)}"
            if len(jobs) == 2:
                write_run(
                    folder / name, changes, None, None, "failed", "the ELBO is not finite", command
                )
            elif len(jobs) != 3:
                elbo = {"test/elbo": 40.0 + i + 0.1 * seed, "cost/step_seconds": 0.01 * (i + 1)}
                write_run(folder / name, changes, METRICS | elbo, command=command)
    sweep = {"command": "savi-train -m inner.rho=0.1,1,100", "jobs": jobs, "trials": None}
    (folder / "sweep.json").write_text(json.dumps(sweep))
    return folder
