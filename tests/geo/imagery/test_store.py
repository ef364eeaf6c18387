from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from passes import made_scene, whole_job
from scenery import utm_grid

from eearth.geo.imagery.pieces import Job, look, read_piece
from eearth.geo.imagery.store import LostPieceError, Store

if TYPE_CHECKING:
    from pathlib import Path

GRID = utm_grid(70, 20)


@dataclass(frozen=True, repr=False)
class Kept:
    """A store with a piece and its looks, the job that it is of, and its bytes."""

    store: Store
    job: Job
    packed: bytes

    def contents(self, key: str) -> tuple[bytes, ...]:
        """All that can be read of a piece."""
        frames = [self.store.frame(key, row, (2, height, 20), self.job.encoding) for row, height in ((0, 64), (64, 6))]
        return (*(array.tobytes() for one in frames for array in one), repr(self.store.contributed(key)).encode())


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    folder = tmp_path_factory.mktemp("store")
    job = whole_job([made_scene(folder, "one", GRID, 1)], GRID)
    store, packed = Store(folder / "pieces"), read_piece(job)
    store.put(job.key, packed)
    store.put_looks(job.key, look(job))
    return Kept(store, job, packed)


def test_what_was_kept_is_here(kept: Kept) -> None:
    store, job = kept.store, kept.job
    assert store.has(job.key)
    assert not store.has("other")
    assert store.looks(job.key) == tuple(look(job))
    assert store.looks("other") is None
    assert sorted(path.suffix for path in store.folder.iterdir()) == [".piece", ".piece"]
    values, valid = store.frame(job.key, 64, (2, 6, 20), job.encoding)
    assert values.shape == (2, 6, 20)
    assert valid.dtype == np.bool_


def test_a_piece_that_is_gone_is_lost(tmp_path: Path, kept: Kept) -> None:
    store = Store(tmp_path / "pieces")
    store.put("key", kept.packed)
    store.remove("key")
    store.remove("key")
    assert not store.has("key")
    with pytest.raises(LostPieceError) as caught:
        store.contributed("key")
    assert caught.value.key == "key"
    with pytest.raises(LostPieceError):
        store.frame("key", 0, (2, 64, 20), kept.job.encoding)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_a_damaged_piece_is_lost_or_says_the_same(kept: Kept, data: st.DataObject) -> None:
    """Whichever bit of it is flipped, in the pixels or in the directory; and wherever it is cut off."""
    packed = kept.packed
    spoiled = bytearray(packed)
    if data.draw(st.booleans()):
        del spoiled[data.draw(st.integers(0, len(packed) - 1)) :]
    else:
        spoiled[data.draw(st.integers(0, len(packed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    kept.store.put("spoiled", bytes(spoiled))
    try:
        found = kept.contents("spoiled")
    except LostPieceError:
        return
    assert found == kept.contents(kept.job.key)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_damaged_looks_are_none_or_the_same(kept: Kept, data: st.DataObject) -> None:
    store, job = kept.store, kept.job
    whole = (store.folder / f"{job.key}.look.piece").read_bytes()
    spoiled = bytearray(whole)
    spoiled[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (store.folder / "spoiled.look.piece").write_bytes(spoiled)
    assert store.looks("spoiled") in (None, store.looks(job.key))
