"""One process of a data-parallel job.

Writes the gradients of one outer step for every backend. With a world size of 1 the process sees
the whole batch, otherwise its share of it.
"""

import os

import torch
import torch.distributed as dist
from hydra import compose, initialize_config_dir
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from savi.config.store import conf_dir, plain, register_schemas
from savi.training import SemiAmortizedVAE

register_schemas()

BATCH, SAMPLES, D = 6, 4, 5
GROUPS = (
    "model", "posterior", "inner", "gradient", "encoder_loss", "optimizer", "evaluation",
)  # fmt: skip
SETTINGS = (
    "model.latent_dim=2", "model.hidden=8", "model.gamma.mode=learned", "inner=proximal",
    "inner.max_steps=4", "encoder_loss=through_and_elbo",
)  # fmt: skip
DESCENT = ("inner.optimizer=momentum", "inner.lr=0.01")
#: What each backend needs besides; the theorem is tried on the problem with most parts.
CASES = {
    "unrolled": (),
    "checkpointed": (),
    "reversible": DESCENT,
    "finite_difference": DESCENT,
    "truncated": ("gradient.steps=2",),
    "one_step": (),
    "ift": ("inner=trust_region", "inner.max_steps=30", "gradient.on_failure=raise"),
    "stop": (),
}


class Outer(nn.Module):
    """The outer loss as the forward of a module."""

    def __init__(self, gradient: str) -> None:
        super().__init__()
        overrides = [*SETTINGS, f"gradient={gradient}", *CASES[gradient]]
        with initialize_config_dir(version_base="1.3", config_dir=conf_dir()):
            config = plain(compose("config", overrides=overrides))
        groups = {group: config[group] for group in GROUPS}
        self.module = SemiAmortizedVAE(data_shape=(D,), data_variance=1.0, **groups).double()

    def forward(self, x: Tensor, inner_noise: Tensor, outer_noise: Tensor) -> Tensor:
        """The loss of a batch on given noise."""
        outer = self.module.outer_loss
        return outer(x, 1.0, inner_noise=lambda step: inner_noise, outer_noise=outer_noise).loss


def main(rank: int, world_size: int, rendezvous: str, output: str) -> None:
    torch.set_num_threads(1)
    if world_size > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world_size
        )
    rows = slice(rank * BATCH // world_size, (rank + 1) * BATCH // world_size)
    gradients = {}
    for name in CASES:
        torch.manual_seed(0)
        outer = Outer(name)
        x, *noise = (torch.randn(n, BATCH, d).double() for n, d in ((1, D), (SAMPLES, 2), (1, 2)))
        trained = DistributedDataParallel(outer) if world_size > 1 else outer
        trained(x[0, rows], *(draw[:, rows] for draw in noise)).backward()
        gradients[name] = {key: p.grad for key, p in outer.module.named_parameters()}
    if rank == 0:
        torch.save(gradients, output)
    if world_size > 1:
        # Neither may leave while the other still talks to it.
        dist.barrier()
        dist.destroy_process_group()
    # Gloo's threads may outlive the interpreter and abort the process at its exit.
    os._exit(0)
