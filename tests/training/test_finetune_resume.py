"""A fine-tuning that is killed, at any step and by any means, goes on to the same weights."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from test_training import FINETUNE, PRETRAIN, Killed, kill_at, region, same

from eearth.training import loop
from eearth.training.finetune import finetune
from eearth.training.pretrain import new_encoder

if TYPE_CHECKING:
    from eearth.settings import FinetuneSettings

# Everything that a state has to hold: an average, layers that join one by one, the best weights so far.
SETTINGS = dataclasses.replace(
    FINETUNE, mode="gradual", ema=0.8, layer_decay=0.7, loss="cross_entropy+dice", steps=12, validate_every=3,
    learning_rate=1e-3,
)  # fmt: skip

# What a user's process does, but for the imagery.
PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_finetune_resume import SETTINGS, start
from eearth.training import loop
from eearth.training.finetune import finetune
loop.CHECKPOINT_SECONDS, loop.CHECKPOINT_SHARE = 0.0, float("inf")
finetune(*start(), SETTINGS, checkpoint=Path({folder!r}), report=lambda event: print(event, flush=True))
"""


def start() -> tuple[object, list[object]]:
    one = region()
    return new_encoder([one.series], PRETRAIN), [one]


@pytest.fixture(autouse=True)
def checkpoint_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(loop, "CHECKPOINT_SHARE", float("inf"))


@pytest.mark.parametrize("changes", [{}, {"labels_per_class": 5}, {"ema": 0.0, "mode": "full"}], ids=str)
def test_stopped_after_any_step_it_ends_in_the_same_weights(tmp_path: Path, changes: dict[str, object]) -> None:
    settings: FinetuneSettings = dataclasses.replace(SETTINGS, steps=8, **changes)  # type: ignore[arg-type]
    encoder, regions = start()
    straight, history = finetune(encoder, regions, settings)  # type: ignore[arg-type]
    for step in range(1, 9):
        folder = tmp_path / str(step)
        with pytest.raises(Killed):
            finetune(encoder, regions, settings, checkpoint=folder, report=kill_at(step))  # type: ignore[arg-type]
        resumed, whole = finetune(encoder, regions, settings, checkpoint=folder)  # type: ignore[arg-type]
        assert whole == history
        assert same(straight, resumed)


def test_killed_by_the_system_it_ends_in_the_same_weights(tmp_path: Path) -> None:
    tests = str(Path(__file__).parent)
    program = f"import sys; sys.path.insert(0, {str(Path(tests).parent)!r})\n" + PROGRAM.format(
        tests=tests, folder=str(tmp_path / "state")
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (tmp_path / "state" / loop.CHECKPOINT).is_file() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    begun: list[int] = []
    encoder, regions = start()
    resumed, history = finetune(
        encoder, regions, SETTINGS, checkpoint=tmp_path / "state",  # type: ignore[arg-type]
        report=lambda event: begun.append(event.done) if hasattr(event, "done") else None,
    )  # fmt: skip
    straight, whole = finetune(encoder, regions, SETTINGS)  # type: ignore[arg-type]
    assert begun[0] > 0
    assert history == whole
    assert same(straight, resumed)
