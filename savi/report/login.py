"""Whether this user has a wandb login, found out without asking for one."""

from __future__ import annotations

import netrc
import os
from urllib.parse import urlsplit


def has_login() -> bool:
    """Whether wandb's credentials are in the environment or in the netrc file."""
    import wandb

    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    try:
        known = netrc.netrc().hosts
    except (OSError, netrc.NetrcParseError):
        return False
    return urlsplit(wandb.Settings().base_url).hostname in known
