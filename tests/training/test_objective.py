from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_training import PRETRAIN, Killed, kill_at, region, same

from eearth.errors import UsageError
from eearth.losses.keys import key_nce
from eearth.settings import PretrainSettings
from eearth.training import loop
from eearth.training.objective import KeyQueue
from eearth.training.pretrain import pretrain

if TYPE_CHECKING:
    from pathlib import Path

BRANCHES = dataclasses.replace(PRETRAIN, momentum=0.9, queue=300, ema=0.8)


def naive(
    query: torch.Tensor, key: torch.Tensor, place: torch.Tensor, past: torch.Tensor, *, radius: float, rows: range
) -> torch.Tensor:
    """Term by term; `past` holds (region, row, column, key ...)."""
    total = torch.zeros(())
    for i in rows:
        terms = [torch.cosine_similarity(query[i], key[i], dim=0) / 0.3]
        others = [*zip(place, key, strict=True), *((one[:3], one[3:]) for one in past)]
        for where, other in others:
            apart = int((place[i, 1:] - where[1:]).abs().max())
            if place[i, 0] != where[0] or apart > radius:
                terms.append(torch.cosine_similarity(query[i], other, dim=0) / 0.3)
        total = total + torch.logsumexp(torch.stack(terms), 0) - terms[0]
    return total / len(query)


@given(count=st.integers(1, 9), held=st.integers(0, 9), radius=st.integers(0, 8), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_queries_ask_the_keys_of_now_and_of_before(count: int, held: int, radius: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    query, key = torch.randn(2, count, 5, generator=random)
    query, theirs = query.clone().requires_grad_(), query.clone().requires_grad_()
    place, then = (torch.randint(0, 9, (n, 3), generator=random) % torch.tensor([2, 9, 9]) for n in (count, held))
    old = torch.randn(held, 5, generator=random)
    rows = slice(count // 3, None)
    found = key_nce(
        query, key, place, temperature=0.3, exclusion=torch.full((count,), float(radius)), rows=rows, past=(old, then)
    )
    past = torch.cat([then.float(), old], dim=1)
    expected = naive(theirs, key, place.float(), past, radius=radius, rows=range(count)[rows])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    found.backward()  # type: ignore[no-untyped-call]
    expected.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(query.grad, theirs.grad, rtol=1e-3, atol=1e-5)


def test_a_queue_keeps_the_newest_keys_and_is_restored() -> None:
    queue = KeyQueue(5, 2)
    for number in (1.0, 2.0, 3.0):
        queue.push(torch.tensor([[number, 0.0], [0.0, number]]), torch.full((2, 3), int(number)))
    keys, place = queue.held()
    assert torch.equal(keys, torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1], [1, 0]]))
    assert place[:, 0].tolist() == [3, 3, 2, 2, 1]
    again = KeyQueue(5, 2)
    assert len(again.held()[0]) == 0
    again.load_state_dict(queue.state_dict())
    assert torch.equal(again.held()[1], place)


@pytest.mark.parametrize(
    "settings_", [BRANCHES, dataclasses.replace(PRETRAIN, objective="vicreg", momentum=0.9)], ids=["queue", "vicreg"]
)
def test_all_branches_are_resumed(tmp_path: Path, settings_: PretrainSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(loop, "CHECKPOINT_SHARE", float("inf"))
    series = [region().series]
    straight, history = pretrain(series, settings_)
    with pytest.raises(Killed):
        pretrain(series, settings_, checkpoint=tmp_path, report=kill_at(5))  # type: ignore[arg-type]
    resumed, whole = pretrain(series, settings_, checkpoint=tmp_path)
    assert whole == history
    assert same(straight, resumed)


def test_each_option_trains_another_encoder_and_the_average_lags_behind() -> None:
    series = [region().series]
    options: list[dict[str, object]] = [
        {},
        {"objective": "vicreg"},
        {"objective": "barlow_twins"},
        {"momentum": 0.9},
        {"momentum": 0.9, "queue": 300},
        {"same_dates": True},
        {"identical": True},
        {"shuffle": True},
    ]
    trained = [pretrain(series, dataclasses.replace(PRETRAIN, steps=4, **option))[0] for option in options]  # type: ignore[arg-type]
    for i, one in enumerate(trained):
        assert not any(same(one, other) for other in trained[:i]), options[i]
    start, _ = pretrain(series, dataclasses.replace(PRETRAIN, steps=1, learning_rate=0.0))
    average, _ = pretrain(series, dataclasses.replace(PRETRAIN, steps=4, ema=0.9))

    def moved(encoder: torch.nn.Module) -> float:
        pairs = zip(encoder.parameters(), start.parameters(), strict=True)
        return sum(float((mine - theirs).detach().square().sum()) for mine, theirs in pairs)

    assert 0 < moved(average) < moved(trained[0]) / 2


@pytest.mark.parametrize("wrong", [{"queue": 10}, {"queue": 10, "momentum": 0.9, "objective": "vicreg"}])
def test_a_queue_needs_keys(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="queue"):
        PretrainSettings(**wrong)  # type: ignore[arg-type]
