from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eearth.data import gather
from eearth.data.gather import HeldSeries, free_memory, hold
from eearth.data.radiometry import Radiometry, change_radiometry
from eearth.data.series import Series
from eearth.data.views import Controls, Pairs, draw_pairs

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")
BANDS = ("nir", "red", "blue")


def noise(height: int, width: int, times: int, seed: int, *, kind: str = "uint16", scale: float = 1e-4) -> Series:
    random = np.random.default_rng(seed)
    limits = np.iinfo(kind)
    values = random.integers(limits.min, limits.max, (times, 3, height, width), kind, endpoint=True)
    valid = random.random((times, height, width)) < 0.5
    dates = np.datetime64("2020-01-07", "ns") + np.sort(random.integers(0, 700, times)) * np.timedelta64(1, "D")
    return Series(values, valid, dates, ("red", "nir", "blue"), scale, -0.1)


def draw(regions: list[Series], seed: int, size: int, **options: object) -> Pairs:
    kept: dict[str, object] = {"bands": BANDS, "pairs": 6, "size": size, "dates": 4, "pixels": 30}
    return draw_pairs(regions, np.random.default_rng(seed), **(kept | options))  # type: ignore[arg-type]


def assert_equal(one: Pairs, other: Pairs) -> None:
    for mine, theirs in zip((*one.chips, *one[1:]), (*other.chips, *other[1:]), strict=True):
        assert mine.dtype == theirs.dtype
        assert torch.equal(mine, theirs)


@given(
    seed=st.integers(0, 10_000),
    size=st.integers(1, 20),
    kinds=st.lists(st.sampled_from(["uint8", "int16", "uint16"]), min_size=1, max_size=3),
    controls=st.builds(Controls, shuffle=st.booleans(), same_dates=st.booleans(), identical=st.booleans()),
)
@settings(max_examples=40, deadline=None)
def test_a_gathered_batch_is_the_one_that_is_read_window_by_window(
    seed: int, size: int, kinds: list[str], controls: Controls
) -> None:
    regions = [noise(70 - 20 * i, 23 + i, 1 + 4 * i, seed + i, kind=kind, scale=0.1**i) for i, kind in enumerate(kinds)]
    held = HeldSeries(regions, BANDS, CPU)
    assert_equal(draw(regions, seed, size, controls=controls), draw(regions, seed, size, controls=controls, held=held))


@pytest.mark.parametrize("parts", [2, 3])
def test_shares_make_up_the_whole_batch(parts: int) -> None:
    regions = [noise(40, 40, 9, 0), noise(30, 50, 6, 1)]
    whole = draw(regions, 5, 12)
    for rank in range(parts):
        share = slice(rank, None, parts)
        own = draw(regions, 5, 12, share=share)
        chips = [*range(6)[share], *range(6, 12)[share]]
        times = own.chips.day.shape[1]
        assert torch.equal(own.chips.reflectance, whole.chips.reflectance[chips, :times])
        assert torch.equal(own.chips.valid, whole.chips.valid[chips, :times])
        mine = (whole.pixels[0] // 144)[:, None] == torch.tensor(range(6)[share])
        assert torch.equal(own.place, whole.place[mine.any(dim=1)])
        features = torch.arange(12 * 144.0).reshape(12, 1, 12, 12)
        assert torch.equal(own.to_ground(features[chips]), whole.to_ground(features)[:, mine.any(dim=1)])


def test_more_dates_in_a_batch_change_no_draw_of_a_chip() -> None:
    chips = draw([noise(30, 30, 9, 0)], 1, 8).chips
    short = chips._replace(reflectance=chips.reflectance[:, :2], valid=chips.valid[:, :2], day=chips.day[:, :2])
    strong = Radiometry(gain=0.3, offset=0.3, noise=0.3, drop_band=0.3)
    mean, std = torch.full((3, 1, 1), 0.2), torch.ones(3, 1, 1)
    long, brief = (
        change_radiometry(one, strong, mean, std, np.random.default_rng(2).spawn(12)).reflectance
        for one in (chips, short)
    )
    assert torch.equal(long[:, :2], brief)


def test_identical_views_are_one_picture_and_same_dates_are_not() -> None:
    regions = [noise(60, 60, 9, 0)]
    chips = draw(regions, 3, 16, controls=Controls(identical=True)).chips
    first, second = chips.reflectance.chunk(2)
    assert torch.equal(first, second)
    day, other = draw(regions, 3, 16, controls=Controls(same_dates=True)).chips.day.chunk(2)
    assert torch.equal(day, other)
    apart, own = draw(regions, 3, 16).chips.day.chunk(2)
    assert not (set(apart[0].tolist()) & set(own[0].tolist()) - {0.0})


def test_a_cube_is_held_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    series = [noise(40, 40, 9, 0)]
    needed = 40 * 40 * 9 * (3 * 2 + 1)
    for free, sharers, fits in ((2 * needed, 1, True), (2 * needed - 1, 1, False), (2 * needed, 2, False)):
        monkeypatch.setattr(gather, "free_memory", lambda free=free: free)
        assert (hold(series, BANDS, CPU, sharers) is not None) == fits


def test_free_memory_is_what_the_system_and_the_group_allow(tmp_path: Path) -> None:
    meminfo, group = tmp_path / "meminfo", tmp_path / "group"
    meminfo.write_text("MemTotal: 9000 kB\nMemAvailable:    4000 kB\n")
    assert free_memory(meminfo, group) == 4_096_000
    group.mkdir()
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("900000\n")
    (group / "memory.stat").write_text("anon 1\ninactive_file 400000\n")
    assert free_memory(meminfo, group) == 4_096_000
    (group / "memory.max").write_text("1500000\n")
    assert free_memory(meminfo, group) == 1_000_000
    assert free_memory(tmp_path / "none", tmp_path / "none") > 0
    assert free_memory() > 0
