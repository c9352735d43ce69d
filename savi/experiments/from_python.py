"""Training runs that Python starts, by the words that a command line would have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from savi.config import store
from savi.config.errors import sentence
from savi.config.options import check_options
from savi.config.schema import Config
from savi.data.form import Values
from savi.errors import InputError
from savi.experiments.run import train as run
from savi.experiments.trained import TrainedModel, load
from savi.plugins import import_modules
from savi.runs.whole import whole


def train(
    overrides: Sequence[str] = (), *, data: Values | None = None, folder: str | Path | None = None
) -> TrainedModel:
    """Train as ``savi-train`` does, and load the best epoch.

    Args:
        overrides: the words of a command line, such as
            ``["experiment=savi", "trainer.max_epochs=5"]``.
        data: examples [N, ...] to train on, from which validation and test splits are taken:
            floating-point numbers, or uint8 for 256 grey levels. They are kept in the run folder.
        folder: the run folder; by default a new one in ``runs/``.

    Raises:
        InputError: before any work is done, for whatever is wrong with the words, the data or the
            folder.
        Interrupted: after a signal, when everything so far has been saved.
    """
    words = list(overrides)
    if data is not None:
        named = [word for word in words if word.split("=")[0].lstrip("+~") in ("data", "data.path")]
        if named:
            raise InputError(f"data is given, and '{named[0]}' names other data: leave one out")
        words.append("data=arrays")
    config, choices = _composed([*words, "data.path=data.npy"] if data is not None else words)
    if config["trainer"]["replicas"] > 1:
        raise InputError("trainer.replicas trains several models: use savi-train, then savi.load")
    name = f"seed-{config['seed']}_{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"
    usual = Path("runs") / choices["data"] / choices["experiment"] / name
    where = usual if folder is None else Path(folder)
    if data is None:
        run(config, where)
        return load(where)
    with _kept(data, where) as path:
        config["data"]["path"] = str(path)
        run(config, where)
    return load(where)


def _composed(words: list[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The config of these words as plain values, and what was chosen of each group.

    Raises:
        InputError: for words that make no config.
    """
    store.register_schemas()
    try:
        with initialize_config_dir(store.conf_dir(), version_base="1.3"):
            composed = compose("config", words, return_hydra_config=True)
        choices = dict(composed.hydra.runtime.choices)
        # Hydra's own part knows a command line and its folder.
        own = [str(key) for key in composed if key != "hydra"]
        config = store.plain(OmegaConf.masked_copy(composed, own))
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(sentence(error)) from error
    config["experiment"] = choices.get("experiment")
    store.refuse_unknown_keys(config, Config)
    import_modules(config["imports"])
    check_options(config)
    store.refuse_dropped_groups(choices, Config)
    return config, choices


@contextmanager
def _kept(data: Values, folder: Path) -> Iterator[Path]:
    """The examples as a file that the run reads, and reads again when it is evaluated."""
    path = (folder / "data.npy").resolve()
    array = data.numpy(force=True) if isinstance(data, torch.Tensor) else np.asarray(data)
    if path.exists():
        if not np.array_equal(np.load(path), array):
            raise InputError(f"folder '{folder}' holds a run on other data: choose another")
        yield path
        return
    with whole(path) as part, part.open("wb") as stream:
        np.save(stream, array, allow_pickle=False)
    try:
        yield path
    except InputError:
        # Nothing has come of it.
        path.unlink()
        with suppress(OSError):
            path.parent.rmdir()
        raise
