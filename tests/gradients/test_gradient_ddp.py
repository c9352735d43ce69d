"""Data-parallel training: two processes with half of the batch each."""

from pathlib import Path

import pytest
import torch
from programs import started, streams

from savi.gradients import BACKENDS

PROGRAM = """
import os, sys
os.environ["GLOO_SOCKET_IFNAME"] = "lo"
import ddp_worker
rank, world_size, *files = sys.argv[1:]
ddp_worker.main(int(rank), int(world_size), *files)
"""


def run(world_size: int, folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The gradients that the worker processes agree on."""
    output, rendezvous = folder / f"{world_size}.pt", folder / f"rendezvous{world_size}"
    processes = []
    for rank in range(world_size):
        (here := folder / f"{world_size}.{rank}").mkdir()
        arguments = map(str, (rank, world_size, rendezvous, output))
        processes.append((started(PROGRAM, *arguments, cwd=here), here))
    for process, here in processes:
        process.join(timeout=240)
        assert process.exitcode == 0, streams(here)
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
