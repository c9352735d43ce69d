"""The device that a benchmark runs on."""

from __future__ import annotations

import torch

from savi.errors import InputError, unknown_option

DEVICES = ("auto", "cpu", "cuda")


def chosen_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is the GPU if there is one.

    Raises:
        InputError: for an unknown name, and for ``cuda`` where there is no GPU.
    """
    if name not in DEVICES:
        raise unknown_option("device", name, DEVICES)
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device 'cuda': this machine has no CUDA GPU, so set device=cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was told, so that a clock may be read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
