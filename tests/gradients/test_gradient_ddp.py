"""Data-parallel training: two processes with half of the batch each."""

import os
import subprocess
import sys
from pathlib import Path

import ddp_worker
import pytest
import torch

from savi.gradients import BACKENDS


def run(world_size: int, folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The gradients that the worker processes agree on."""
    output, rendezvous = folder / f"{world_size}.pt", folder / f"rendezvous{world_size}"
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                ddp_worker.__file__,
                *map(str, (rank, world_size, rendezvous, output)),
            ],
            env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world_size)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    return torch.load(output)


@pytest.mark.slow
def test_two_processes_get_the_gradient_of_the_whole_batch(tmp_path):
    one, two = run(1, tmp_path), run(2, tmp_path)
    assert set(one) == set(BACKENDS)
    for backend, whole in one.items():
        assert len(whole) > 5
        for name, gradient in whole.items():
            assert (gradient != 0).any(), (backend, name)
            relative = (two[backend][name] - gradient).norm() / gradient.norm()
            assert relative < 1e-6, (backend, name)
