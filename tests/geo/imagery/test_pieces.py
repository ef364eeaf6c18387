from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pystac
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from passes import (
    BANDS,
    looked_up,
    made_item,
    made_scene,
    naive_piece,
    plan_over,
    prepared,
    unpacked,
    wanted,
    whole_job,
)
from scenery import make_item, noise, utm_grid, write_tif

from eearth.errors import SceneError, UnreachableError
from eearth.geo.grid import Grid, Window
from eearth.geo.imagery import pieces
from eearth.geo.imagery.fetch import job_of
from eearth.geo.imagery.pieces import Look, encode, frames, look, read_piece
from eearth.geo.providers import COMMON_ENCODING, Encoding, Source
from eearth.geo.raster import Pixels, read_onto

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from eearth.geo.imagery.pieces import Job
    from eearth.geo.imagery.scenes import Scene

GRID = utm_grid(80, 60)
LEFT, RIGHT = GRID.crop(Window(0, 0, 70, 35)), GRID.crop(Window(5, 20, 70, 35))
PLAIN = Encoding("uint16", 1e-4, 0.0, 0)


def overlapping(folder: Path, *, mask: bool = True) -> list[Scene]:
    return [
        made_scene(folder, "left", LEFT, 1, mask=mask),
        made_scene(folder, "right", RIGHT, 2, mask=mask, tile="B"),
    ]


def assert_naive(job: Job, packed: bytes, scenes: list[Scene], folder: Path, classes: tuple[int, ...] = (4, 5)) -> None:
    (group,) = plan_over(scenes, job.grid).acquisitions
    for found, expected in zip(unpacked(packed, job, folder), naive_piece(group, job.grid, classes), strict=True):
        np.testing.assert_equal(found, expected)


# --- One piece


@pytest.mark.parametrize("mask", [True, False])
def test_a_mosaic_is_the_naive_one(tmp_path: Path, *, mask: bool) -> None:
    scenes = overlapping(tmp_path, mask=mask)
    job = whole_job(scenes, GRID)
    assert_naive(job, read_piece(job), scenes, tmp_path)
    assert_naive(job, read_piece(replace(job, looks=tuple(look(job)))), scenes, tmp_path)


def test_a_scene_without_a_mask_beside_one_with_a_mask(tmp_path: Path) -> None:
    scenes = [made_scene(tmp_path, "left", LEFT, 1), made_scene(tmp_path, "right", RIGHT, 2, mask=False, tile="B")]
    job = whole_job(scenes, GRID)
    assert [bool(packed) for packed in look(job)] == [True, False]
    assert_naive(job, read_piece(job), scenes, tmp_path)


def test_the_mosaic_of_real_tiles(real_data: Path, tmp_path: Path) -> None:
    """North and south tile of one pass, on a grid over their common border."""
    names = ("S2A_33TWM_20230815_0_L2A", "S2A_33TWL_20230815_0_L2A")
    items = [pystac.Item.from_file(str(real_data / "austria" / "items" / f"{name}.json")) for name in names]
    grid = utm_grid(300, 200, left=555_000, top=5_099_040, side=60)
    scenes = prepared(items, grid, replace(wanted(), mask_valid=None))
    job = whole_job(scenes, grid, resampling="nearest")
    assert [part.scene for part in job.parts] == list(names)
    assert job.encoding == PLAIN
    packed = read_piece(job)
    assert_naive(job, packed, scenes, tmp_path, (4, 5, 6, 7, 11))
    _, _, contributed = unpacked(packed, job, tmp_path)
    assert all(seen > 10_000 for seen, _ in contributed.values())


def test_a_block_beside_the_scenes_is_no_job(tmp_path: Path) -> None:
    scenes = overlapping(tmp_path)
    plan = plan_over(scenes, utm_grid(80, 200))
    (group,) = plan.acquisitions
    assert job_of(group, Window(0, 100, 80, 100), plan) is None
    narrow = job_of(group, Window(0, 0, 80, 10), plan)
    assert narrow is not None
    assert [part.scene for part in narrow.parts] == ["left"]


def test_frames_are_rows_of_chunks() -> None:
    assert list(frames((150, 7))) == [Window(0, 0, 64, 7), Window(64, 0, 64, 7), Window(128, 0, 22, 7)]


@pytest.mark.parametrize("mask", [True, False])
def test_numbers_out_of_the_trusted_range_are_shown_but_not_clear(tmp_path: Path, *, mask: bool) -> None:
    scene = made_scene(tmp_path, "one", GRID, 3, mask=mask)
    job = whole_job([scene], GRID)
    job = replace(job, parts=tuple(replace(part, valid_range=(2000.0, 8000.0)) for part in job.parts))
    found, valid, contributed = unpacked(read_piece(job), job, tmp_path)
    (group,) = plan_over([scene], GRID).acquisitions
    values, clear, _ = naive_piece(group, GRID)
    np.testing.assert_array_equal(found, values)
    trusted = clear & ((values >= 2000) & (values <= 8000)).all(axis=0)
    np.testing.assert_array_equal(valid, trusted)
    assert contributed["one"] == ((values > 0).all(axis=0).sum(), trusted.sum())


# --- Masks


def test_looks_are_the_masks_pixel_by_pixel(tmp_path: Path) -> None:
    scenes = overlapping(tmp_path)
    job = whole_job(scenes, GRID)
    for packed, scene in zip(look(job), scenes, strict=True):
        seen = Look.unpacked(packed, GRID.shape)
        assert scene.mask is not None
        classes = looked_up(scene.mask.source, GRID)
        np.testing.assert_array_equal(seen.observed, classes != 0)
        np.testing.assert_array_equal(seen.clear, (classes == 4) | (classes == 5))


@given(st.integers(1, 40), st.integers(1, 40), st.randoms(use_true_random=False))
def test_a_look_survives_packing(height: int, width: int, random: Any) -> None:
    observed = np.array([[random.random() < 0.5 for _ in range(width)] for _ in range(height)])
    clear = observed & (np.arange(width) % 3 > 0)
    back = Look.unpacked(Look(observed, clear).packed(), (height, width))
    np.testing.assert_array_equal(back.observed, observed)
    np.testing.assert_array_equal(back.clear, clear)


# --- What was lost on the way


class Readings:
    """`read_onto`, counted; the first readings of some bands lack pixels."""

    def __init__(self, holes: dict[str, float], times: int) -> None:
        self.holes, self.times = holes, times
        self.counts: Counter[str] = Counter()

    def __call__(
        self, source: Source, grid: Grid, resampling: str, *, keep: bool = True, place: NDArray[Any] | None = None
    ) -> Pixels:
        band = source.href.rsplit("-", 1)[-1].removesuffix(".tif")
        self.counts[band] += 1
        pixels = read_onto(source, grid, resampling, keep=keep, place=place)
        if self.counts[band] <= self.times and band in self.holes:
            pixels.observed.ravel()[: round(self.holes[band] * pixels.observed.size)] = False
        return pixels


def whole_scene(folder: Path) -> Scene:
    return prepared([made_item(folder, "one", GRID, 5, holes=0.0)], GRID)[0]


@pytest.mark.parametrize(("share", "times"), [(0.0, 1), (0.015, 1), (0.03, 2), (1.0, 2)])
def test_bands_that_lack_what_others_show_are_read_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, times: int
) -> None:
    scene = whole_scene(tmp_path)
    readings = Readings({"red": share}, 1)
    monkeypatch.setattr(pieces, "read_onto", readings)
    job = whole_job([scene], GRID)
    packed = read_piece(job)
    assert readings.counts == {"blue": times, "red": times, "scl": 1}
    if times == 2:
        assert_naive(job, packed, [scene], tmp_path)


def test_what_is_not_there_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second reading is the last."""
    scene = whole_scene(tmp_path)
    readings = Readings({"red": 0.5}, 99)
    monkeypatch.setattr(pieces, "read_onto", readings)
    job = whole_job([scene], GRID)
    values, valid, contributed = unpacked(read_piece(job), job, tmp_path)
    assert readings.counts == {"blue": 2, "red": 2, "scl": 1}
    np.testing.assert_array_equal(values[1, :40], 0)
    np.testing.assert_array_equal(values[0], looked_up(scene.bands[0], GRID))
    assert not valid[:40].any()
    assert contributed["one"][0] == GRID.window.pixels // 2


def test_a_scene_that_nobody_misses_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = whole_scene(tmp_path)
    second = made_scene(tmp_path, "two", GRID, 2, tile="B")
    job = whole_job([first, second], GRID)
    readings = Readings({}, 0)
    monkeypatch.setattr(pieces, "read_onto", readings)
    _, _, contributed = unpacked(read_piece(replace(job, looks=tuple(look(job)))), job, tmp_path)
    assert readings.counts == {"blue": 1, "red": 1, "scl": 2}
    assert list(contributed) == ["one"]


@pytest.mark.parametrize("asset", ["blue", "red", "scl"])
def test_a_scene_that_cannot_be_read_is_named(tmp_path: Path, asset: str) -> None:
    scenes = overlapping(tmp_path)
    job = whole_job(scenes, GRID)
    (tmp_path / f"right-{asset}.tif").write_bytes(b"no raster")
    with pytest.raises(SceneError, match=rf"right-{asset}.tif cannot be read") as caught:
        read_piece(job)
    assert caught.value.scene == "right"


def test_a_server_that_is_away_is_no_scenes_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> Pixels:
        msg = "nobody there"
        raise UnreachableError(msg)

    job = whole_job(overlapping(tmp_path), GRID)
    monkeypatch.setattr(pieces, "read_onto", away)
    for work in (look, read_piece):
        with pytest.raises(UnreachableError, match="nobody there"):
            work(job)


# --- Keys


def keyed(folder: Path) -> Job:
    files = {name: write_tif(folder / f"{name}.tif", noise(GRID), GRID) for name in BANDS}
    item = make_item("it", {**files, "scl": write_tif(folder / "scl.tif", noise(GRID).astype(np.uint8), GRID)}, GRID)
    return whole_job(prepared([item], GRID), GRID)


def with_band(job: Job, **values: Any) -> Job:
    (part,) = job.parts
    return replace(job, parts=(replace(part, bands=(replace(part.bands[0], **values), *part.bands[1:])),))


def test_the_same_pixels_have_the_same_key(tmp_path: Path) -> None:
    job = keyed(tmp_path)
    assert whole_job(prepared([pystac.Item.from_dict(_item_of(job, tmp_path))], GRID), GRID).key == job.key
    same = [
        replace(job, workers=7),
        replace(job, alone=not job.alone),
        replace(job, looks=(b"seen",)),
        with_band(job, href=job.parts[0].bands[0].href + "?sv=2021&sig=secret"),
    ]
    assert {one.key for one in same} == {job.key}
    assert job.key.isalnum()


def _item_of(job: Job, folder: Path) -> dict[str, Any]:
    files = {name: folder / f"{name}.tif" for name in (*BANDS, "scl")}
    return make_item(job.parts[0].scene, files, GRID).to_dict()


def test_other_pixels_have_another_key(tmp_path: Path) -> None:
    job = keyed(tmp_path)
    (part,) = job.parts
    assert part.mask is not None
    source = part.mask.source
    others = [
        with_band(job, offset=-0.1),
        with_band(job, scale=1e-3),
        with_band(job, nodata=1.0),
        with_band(job, index=2),
        with_band(job, dtype="int16"),
        with_band(job, href=job.parts[0].bands[0].href + ".tif"),
        replace(job, grid=GRID.crop(Window(0, 1, 80, 59))),
        replace(job, grid=GRID.crop(Window(1, 0, 79, 60))),
        replace(job, grid=GRID.crop(Window(0, 0, 80, 59))),
        replace(job, encoding=COMMON_ENCODING),
        replace(job, resampling="nearest"),
        replace(job, parts=(part, part)),
        replace(job, parts=(replace(part, scene="other"),)),
        replace(job, parts=(replace(part, bands=part.bands[::-1]),)),
        replace(job, parts=(replace(part, mask=None),)),
        replace(job, parts=(replace(part, mask=replace(part.mask, rule=replace(part.mask.rule, values=(4,)))),)),
        replace(job, parts=(replace(part, mask=replace(part.mask, source=replace(source, href="other.tif"))),)),
        replace(job, parts=(replace(part, valid_range=(1.0, 10_000.0)),)),
    ]
    assert len({job.key, *(one.key for one in others)}) == 1 + len(others)


# --- Encoding


def test_numbers_of_the_cubes_own_form_pass_untouched() -> None:
    values = np.array([[1, 65535]], dtype=np.uint16)
    assert encode(values, Source("", 1, 1e-4, 0.0, 0, "uint16"), PLAIN) is values


@pytest.mark.parametrize(
    ("values", "source", "expected"),
    [
        (np.array([1000, 1, 11000], np.uint16), Source("", 1, 1e-4, -0.1, 0, "uint16"), [0, -999, 10000]),
        (np.array([7273, 43636], np.uint16), Source("", 1, 2.75e-5, -0.2, 0, "uint16"), [0, 10000]),
        (np.array([0.123456, -0.05], np.float32), Source("", 1, 1.0, 0.0, None, "float32"), [1235, -500]),
        (np.array([9.9, -9.9, np.nan], np.float32), Source("", 1, 1.0, 0.0, None, "float32"), [32767, -32767, 0]),
    ],
)
def test_other_numbers_become_ten_thousandths(values: NDArray[Any], source: Source, expected: list[int]) -> None:
    stored = encode(values, source, COMMON_ENCODING)
    assert stored.dtype == np.int16
    assert stored.tolist() == expected


KINDS = st.sampled_from([np.uint8, np.uint16, np.int16, np.int32])
ENCODINGS = st.sampled_from(
    [COMMON_ENCODING, PLAIN, Encoding("int16", 1e-4, -0.1, -9999), Encoding("uint8", 1e-4, 0, 0)]
)


@given(KINDS.flatmap(lambda kind: arrays(kind, st.integers(1, 30))), st.integers(-70_000, 70_000), ENCODINGS)
def test_whole_steps_are_shifted_as_the_reckoning_in_reflectance_would(
    values: NDArray[Any], steps: int, encoding: Encoding
) -> None:
    """Clipped at both ends; the lowest number of a type never comes from data where it means that there is none."""
    source = Source("", 1, 1e-4, encoding.offset + steps * 1e-4, None, values.dtype.name)
    stored = encode(values, source, encoding)
    assert stored.dtype == np.dtype(encoding.dtype)
    if values.dtype == stored.dtype and source.offset == encoding.offset:
        np.testing.assert_array_equal(stored, values)
        return
    limits = np.iinfo(encoding.dtype)
    low = limits.min + (encoding.fill == limits.min)
    exact = [min(max(int(value) + steps, low), limits.max) for value in values]
    assert stored.tolist() == exact
    by_reflectance = encode(values.astype(np.float64), source, encoding)
    np.testing.assert_array_equal(stored, by_reflectance)
    if encoding.fill == limits.min:
        assert not (stored == encoding.fill).any()
