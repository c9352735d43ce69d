"""Evaluate a checkpoint without the run that wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from savi.errors import InputError, require_at_least, unknown_option
from savi.evaluation import evaluate
from savi.training.checkpoint import CONFIG_KEY, load_weights, read_checkpoint
from savi.training.run import build

SETTINGS = ("samples", "importance_samples", "gap_examples", "gap_steps")

#: The options that are numbers, and their least values.
MINIMA = dict.fromkeys((*SETTINGS, "threads"), 1) | {"gap_examples": 0, "test_max_steps": 0}


def evaluate_checkpoint(options: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a checkpoint: with no options, the same as at the end of its training.

    Args:
        options: the values of :class:`savi.config.schema.EvaluateConfig`.

    Raises:
        InputError: for a missing or foreign checkpoint, or an option out of range.
    """
    if options["split"] not in ("test", "val"):
        raise unknown_option("split", options["split"], ("test", "val"))
    for name, least in MINIMA.items():
        if options[name] is not None:
            require_at_least(name, options[name], least)
    config = read_checkpoint(options["checkpoint"])[CONFIG_KEY]
    for name in SETTINGS:
        if options[name] is not None:
            config["evaluation"][name] = options[name]
    if options["test_max_steps"] is not None:
        config["inner"]["test_max_steps"] = options["test_max_steps"]
    if options["data_path"] is not None:
        config["data"]["path"] = options["data_path"]
    if options["threads"] is not None:
        config["trainer"]["threads"] = options["threads"]
    data, module = build(config)
    load_weights(module, options["checkpoint"])
    return evaluate(module.to(_device(options["device"])), data, options["split"])


def _device(name: str) -> torch.device:
    """The device of that name; ``auto`` is what training chooses by itself."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device '{name}' is unknown: set it to auto, cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError("device 'cuda': this machine has no CUDA GPU, so set device=cpu")
    return device
