"""Where networks run."""

from __future__ import annotations

import torch

from eearth.errors import UsageError


def choose_device(name: str) -> torch.device:
    """The device of a setting: `auto` is the first GPU if there is one.

    Raises:
        UsageError: A GPU is asked for where there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        msg = "expected a CUDA device for --device cuda, found none: use --device cpu"
        raise UsageError(msg)
    return torch.device("cuda" if available and name != "cpu" else "cpu")
