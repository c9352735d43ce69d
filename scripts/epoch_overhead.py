"""What Lightning, logging and the data module add to an epoch, against a bare PyTorch loop.

    python scripts/epoch_overhead.py data=fashion_mnist model.hidden=500 model.latent_dim=16

trains ``experiment=vae`` as ``savi-train`` does and, after each of its epochs, runs an epoch of a
bare loop with the same arithmetic: the same networks and optimiser, fresh dequantisation noise and
a random order, on the same number of threads. It prints both times, epoch by epoch, and the median
of their ratios. The first epoch of each is a warm-up and does not count.
"""

import math
import sys
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor, nn

from savi.config.store import conf_dir, plain
from savi.data import TensorDataModule
from savi.experiments.build import build
from savi.experiments.loggers import quieten_libraries
from savi.experiments.trainer import build_trainer
from savi.training.callbacks import CostMonitor
from savi.vae.networks import ACTIVATIONS

EPOCHS = 6


def mlp(sizes: list[int], activation: str) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        layers += [nn.Linear(inputs, outputs)] + [ACTIVATIONS[activation].build()] * (
            i < len(sizes) - 2
        )
    return nn.Sequential(*layers)


class BareLoop:
    """A VAE with a closed-form variance, written out."""

    def __init__(self, config: dict, data: TensorDataModule) -> None:
        model, d = config["model"], config["model"]["latent_dim"]
        hidden = [model["hidden"]] * model["depth"]
        self.encoder = mlp([data.dim, *hidden, 2 * d], model["activation"])
        self.decoder = mlp([d, *hidden, data.dim], model["activation"])
        parameters = [*self.encoder.parameters(), *self.decoder.parameters()]
        self.optimizer = torch.optim.AdamW(
            parameters, lr=config["optimizer"]["lr"], weight_decay=0.0, fused=True
        )
        self.batch_size, self.mean, self.levels = data.batch_size, data.mean, data.levels
        x = data.split("train") + data.mean
        self.pixels = (x * data.levels).floor().to(torch.uint8)

    def loss(self, x: Tensor) -> Tensor:
        mean, log_variance = self.encoder(x).chunk(2, dim=-1)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        squared_error = (x - self.decoder(z)).square().sum(dim=-1)
        gamma = squared_error.detach().mean() / x.shape[-1]
        rest = x.shape[-1] * torch.log(2.0 * math.pi * gamma)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(dim=-1)
        return (0.5 * (squared_error / gamma + rest) + kl).mean()

    def epoch(self) -> float:
        start = time.perf_counter()
        for index in torch.randperm(len(self.pixels)).split(self.batch_size):
            pixels = self.pixels[index].float()
            x = (pixels + torch.rand_like(pixels)) / self.levels - self.mean
            self.optimizer.zero_grad()
            self.loss(x).backward()
            self.optimizer.step()
        return time.perf_counter() - start


class Interleave(pl.Callback):
    """Times the trainer's epochs, and runs one of the bare loop after each."""

    def __init__(self, bare: BareLoop) -> None:
        self.bare = bare
        self.pairs: list[tuple[float, float]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.start = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        seconds = time.perf_counter() - self.start
        self.pairs.append((seconds, self.bare.epoch()))
        print(f"epoch {len(self.pairs)}: savi {seconds:.2f} s, bare {self.pairs[-1][1]:.2f} s")


def main() -> None:
    with initialize_config_dir(version_base="1.3", config_dir=conf_dir()):
        config = plain(compose("config", overrides=["experiment=vae", *sys.argv[1:]]))
    quieten_libraries()
    data, module = build(config)
    if config["model"]["gamma"]["mode"] != "optimal" or not data.log_levels:
        sys.exit("epoch_overhead: the bare loop knows model.gamma.mode=optimal and pixels only")
    interleave = Interleave(BareLoop(config, data))
    config["trainer"] |= {"max_epochs": EPOCHS, "limit_val_batches": 0}
    trainer = build_trainer(config["trainer"], data, [CostMonitor(), interleave], False, Path("."))
    trainer.loggers = [CSVLogger("runs/epoch_overhead", name="", version="")]
    trainer.fit(module, datamodule=data)
    ratio = median(savi / bare for savi, bare in interleave.pairs[1:])
    steps = len(data.train_dataloader())
    savi_ms, bare_ms = (
        1e3 * median(times) / steps for times in zip(*interleave.pairs[1:], strict=True)
    )
    print(
        f"{torch.get_num_threads()} threads; a step: savi {savi_ms:.1f} ms, bare {bare_ms:.1f} ms"
    )
    print(f"savi / bare, median of {EPOCHS - 1} epochs: {ratio:.3f}")


if __name__ == "__main__":
    main()
