"""Where networks run."""

from __future__ import annotations

import ctypes
import sys

import torch

from eearth.errors import UsageError

# glibc's malloc.h: what is as large as this is mapped by itself, what is free at the end of the heap beyond this is
# given back, and so many heaps there are.
MALLOC = {"M_MMAP_THRESHOLD": (-3, 2**30), "M_TRIM_THRESHOLD": (-1, 2**31 - 1), "M_ARENA_MAX": (-8, 1)}


def choose_device(name: str) -> torch.device:
    """The device of a setting: `auto` is the first GPU if there is one.

    Raises:
        UsageError: A GPU is asked for where there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        msg = "expected a CUDA device for --device cuda, found none: use --device cpu"
        raise UsageError(msg)
    keep_memory()
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def keep_memory() -> None:
    """Have the C library keep what is freed for the next array of this process, and in one place for all threads.

    Otherwise it hands large arrays back to the system, which clears every page of the next one: a network on a CPU then
    spends a third of its time on that. Only glibc is asked; others do as they do.
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        for option, value in MALLOC.values():
            library.mallopt(option, value)
