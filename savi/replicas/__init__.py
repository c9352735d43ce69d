"""Several runs in one process: their models are stacked, and train step by step together."""

from savi.replicas.train import train

__all__ = ["train"]
