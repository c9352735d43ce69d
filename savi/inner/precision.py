"""The number format of the inner problem."""

import torch


def full_precision(device_type: str) -> torch.autocast:
    """Keep a solve out of an outer autocast: bf16 inside costs accuracy for no speed."""
    return torch.autocast(device_type, enabled=False)
