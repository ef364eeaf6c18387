"""Real processes: some are killed, some train together.

EEARTH_KILLS=10 kills more often than the suite does.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from fields import field_workspace
from safetensors.torch import load_file
from test_training import region

from eearth.cli import main
from eearth.events import Advanced, Event
from eearth.settings import PretrainSettings
from eearth.stages.pretrain import pretrain as stage
from eearth.training import loop
from eearth.training.pretrain import pretrain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.context import ForkServerContext

    from eearth.workspace import Workspace

KILLS = int(os.environ.get("EEARTH_KILLS", "3"))
STEPS = 20

PRELOADED = ["pytest", "sklearn.metrics", "pystac", "rasterio", "pyproj", "eearth.cli", "eearth.console"]
PRELOADED += ["eearth.stages.pretrain", "eearth.geo.labels", "eearth.training.finetune", "safetensors.torch"]
SETTINGS = PretrainSettings(
    steps=STEPS, batch_size=6, window_size=12, pixels=20, dates=4, features=16, momentum=0.9, queue=200, ema=0.9
)
TOGETHER = {"steps": 5, "batch_size": 5, "window_size": 12, "pixels": 20, "dates": 4, "features": 16}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As in the processes that are started, or sums would be added up in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def context() -> ForkServerContext:
    """Processes that need not import everything again; what is preloaded lies on every path, as tests do not."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(PRELOADED)
    return found


def attempt(folder: Path, step: int | None, delay: float) -> None:
    """Train in a process of its own, which is killed `delay` seconds after a step, if one is given."""
    loop.CHECKPOINT_SECONDS, loop.CHECKPOINT_SHARE = 0.0, float("inf")
    seen = 0

    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def report(event: Event) -> None:
        nonlocal seen
        seen += isinstance(event, Advanced)
        if seen == step:
            threading.Timer(delay, kill).start()

    torch.set_num_threads(1)
    encoder, history = pretrain([region().series], SETTINGS, checkpoint=folder, report=report)
    torch.save((encoder.state_dict(), history), folder / "done.pt")


def test_killed_again_and_again_the_weights_are_the_same(tmp_path: Path) -> None:
    """Kills fall anywhere: in a step, and while the state is written."""
    rng = random.Random(4)  # noqa: S311 - moments to kill at
    straight, history = pretrain([region().series], SETTINGS)
    killed = 0
    while not (tmp_path / "done.pt").is_file():
        step = rng.randrange(1, max(2, STEPS // (KILLS + 1))) if killed < KILLS else None
        process = context().Process(target=attempt, args=(tmp_path, step, rng.uniform(0, 0.1)))
        process.start()
        process.join(120)
        assert process.exitcode in (0, -signal.SIGKILL)
        killed += process.exitcode != 0
    weights, resumed = torch.load(tmp_path / "done.pt", weights_only=True)
    assert killed == KILLS
    assert resumed == history
    assert all(torch.equal(weights[name], value) for name, value in straight.state_dict().items())


def run_rank(words: list[str], environment: dict[str, str], log: Path) -> None:
    """The command line in a process that takes part; what it prints goes to two files."""
    os.environ.update(environment)
    for stream, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(log.with_suffix(f".{stream}"), os.O_WRONLY | os.O_CREAT), number)
    torch.set_num_threads(1)
    sys.argv = ["eearth", *words]
    main()


@dataclass
class Rank:
    """One of the processes of a training."""

    process: ForkServerProcess
    log: Path

    def end(self) -> tuple[str, str]:
        """Standard output and error, once it has ended."""
        self.process.join(60)
        assert self.process.exitcode is not None
        out, err = (self.log.with_suffix(f".{stream}").read_text() for stream in ("out", "err"))
        return out, err


def start_together(workspace: Workspace, **changes: object) -> list[Rank]:
    """Two processes with what torchrun tells each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["pretrain", "-w", str(workspace.root)]
    for name, value in (TOGETHER | changes).items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = []
    for rank in ("0", "1"):
        log = workspace.root.with_name(f"{workspace.root.name}-{rank}")
        told = shared | {"RANK": rank, "LOCAL_RANK": rank}
        ranks.append(Rank(context().Process(target=run_rank, args=(words, told, log)), log))
        ranks[-1].process.start()
    return ranks


@pytest.mark.parametrize("objective", ["info_nce", "vicreg"])
def test_two_processes_learn_what_one_learns(tmp_path: Path, objective: str) -> None:
    one, two = (field_workspace(tmp_path / name) for name in ("one", "two"))
    ranks = start_together(two, objective=objective)
    stage(one, PretrainSettings(**TOGETHER, objective=objective))  # type: ignore[arg-type]
    (out, said), (other_out, other_said) = (rank.end() for rank in ranks)
    assert [rank.process.exitcode for rank in ranks] == [0, 0], said + other_said
    assert "data-wait" in out
    assert (other_out, other_said) == ("", "")
    assert {path.name for path in two.root.iterdir()} == {"imagery", "labels", "pretrain"}
    alone, together = (load_file(each.folder("pretrain") / "encoder.safetensors") for each in (one, two))
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=0, atol=1e-5)
    histories = [
        np.genfromtxt(each.folder("pretrain") / "history.csv", delimiter=",", names=True) for each in (one, two)
    ]
    for figure in ("step", "loss", "probe_miou"):
        np.testing.assert_allclose(histories[0][figure], histories[1][figure], atol=1e-4)
    assert two.require("pretrain").records["processes"] == 2


def test_what_stops_all_is_said_once(tmp_path: Path) -> None:
    workspace = field_workspace(tmp_path / "w")
    ranks = start_together(workspace, batch_size=1)
    lines = [line for rank in ranks for line in rank.end()[1].splitlines()]
    assert lines == ["Error: expected a --batch-size of at least 2, one a process, found 1"]
    assert sorted(rank.process.exitcode or 0 for rank in ranks) == [1, 2]
    assert not workspace.folder("pretrain").exists()


def test_one_that_is_killed_ends_the_other_with_one_line(tmp_path: Path) -> None:
    workspace = field_workspace(tmp_path / "w")
    first, second = start_together(workspace, steps=100_000)
    while not (workspace.partial("pretrain") / "scratch" / "state.pt").is_file():
        assert first.process.is_alive()
        time.sleep(0.02)
    second.process.kill()
    said = first.end()[1]
    assert first.process.exitcode == 1
    assert [line for line in said.splitlines() if "rror" in line] == [said.splitlines()[-1]]
    assert "another process of this training ended" in said
