"""`--update`: what is finished is not fetched again, and the cube is the one that a fresh download makes."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from runs import Done, catalog_of, copy_of, run, watched
from small_site import PASSES, SHARED

from eearth.errors import UnreachableError
from eearth.events import Started
from eearth.geo.imagery import fetch

if TYPE_CHECKING:
    from pathlib import Path

    from small_site import Site

    from eearth.geo.imagery.pieces import Job

pytestmark = pytest.mark.usefixtures("small_blocks")

UNTIL_JUNE, UNTIL_JULY = "2023-01/2023-06", "2023-01/2023-07"
SCENES = [f"X_{SHARED}", f"W_{SHARED}", f"W_{PASSES[1]}"]
NEW = {f"W_{day}" for day in PASSES[3:]} | {f"X_{SHARED}"}


def assert_same(made: Done, fresh: Done) -> None:
    assert made.manifest.outputs == fresh.manifest.outputs
    assert made.manifest.figures == fresh.manifest.figures
    assert made.manifest.records == fresh.manifest.records
    assert made.manifest.digest == fresh.manifest.digest


def test_an_update_fetches_what_is_new_and_makes_what_a_fresh_download_makes(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = catalog_of(site, tmp_path / "catalog")
    fresh = run(site, catalog, tmp_path / "fresh", datetime=UNTIL_JULY)
    first = run(site, catalog, tmp_path / "w", datetime=UNTIL_JUNE)
    assert first.cube.items == tuple(f"W_{day}" for day in PASSES[:3])
    reads = watched(monkeypatch)
    made = run(site, catalog, tmp_path / "w", datetime=UNTIL_JULY, update=True)
    assert reads.scenes == NEW
    assert_same(made, fresh)
    reads.pieces.clear()
    reads.masks.clear()
    again = run(site, catalog, tmp_path / "w", datetime=UNTIL_JULY, update=True)
    assert reads.scenes == set()
    assert_same(again, fresh)


def test_what_was_too_cloudy_is_not_looked_at_again(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = catalog_of(site, tmp_path / "catalog")
    seen = run(site, catalog, tmp_path / "all", datetime=UNTIL_JUNE).manifest.records["acquisitions"]
    middle = float(np.median([100 * (1 - one["clear_pixels"] / one["observed_pixels"]) for one in seen])) + 1e-6
    fresh = run(site, catalog, tmp_path / "fresh", datetime=UNTIL_JULY, max_cloud=middle)
    first = run(site, catalog, tmp_path / "w", datetime=UNTIL_JUNE, max_cloud=middle)
    assert len(first.cube.items) == 2
    reads = watched(monkeypatch)
    made = run(site, catalog, tmp_path / "w", datetime=UNTIL_JULY, max_cloud=middle, update=True)
    assert reads.scenes == NEW
    assert_same(made, fresh)


def test_a_date_that_lies_between_comes_in(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = catalog_of(site, tmp_path / "catalog")
    fresh = run(site, catalog, tmp_path / "fresh")
    late = f"W_{PASSES[1]}"
    catalog_of(site, tmp_path / "catalog", (late,))
    run(site, catalog, tmp_path / "w")
    catalog_of(site, tmp_path / "catalog")
    reads = watched(monkeypatch)
    made = run(site, catalog, tmp_path / "w", update=True)
    assert reads.scenes == {late}
    assert_same(made, fresh)


@pytest.mark.parametrize(("asset", "scene"), list(zip(("nir", "scl", "nir"), SCENES, strict=True)))
def test_a_scene_that_failed_is_fetched(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch, scene: str, asset: str
) -> None:
    """And of the others of its pass, what they gave beside it."""
    own = copy_of(site, tmp_path / "files")
    catalog = catalog_of(own, tmp_path / "catalog")
    path = own.root / scene / f"{asset}.tif"
    path.rename(tmp_path / "away.tif")
    first = run(own, catalog, tmp_path / "w")
    assert list(first.manifest.records["dropped"]) == [scene]
    (tmp_path / "away.tif").rename(path)
    fresh = run(own, catalog, tmp_path / "fresh")
    reads = watched(monkeypatch)
    made = run(own, catalog, tmp_path / "w", update=True)
    assert reads.scenes == ({scene} if SHARED not in scene else {f"W_{SHARED}", f"X_{SHARED}"})
    assert made.manifest.records["dropped"] == {}
    assert_same(made, fresh)


def test_a_scene_that_fails_again_leaves_all_as_it_was(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = copy_of(site, tmp_path / "files")
    catalog = catalog_of(own, tmp_path / "catalog")
    (own.root / f"X_{SHARED}" / "nir.tif").unlink()
    first = run(own, catalog, tmp_path / "w")
    reads = watched(monkeypatch)
    made = run(own, catalog, tmp_path / "w", update=True)
    assert {part.scene for job in reads.pieces for part in job.parts} <= {f"X_{SHARED}", f"W_{SHARED}"}
    assert_same(made, first)


@pytest.mark.parametrize("resumed_by_update", [True, False])
def test_an_interrupted_update_goes_on_even_as_a_download(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch, *, resumed_by_update: bool
) -> None:
    catalog = catalog_of(site, tmp_path / "catalog")
    fresh = run(site, catalog, tmp_path / "fresh", datetime=UNTIL_JULY)
    run(site, catalog, tmp_path / "w", datetime=UNTIL_JUNE)
    read, pieces = fetch.read_piece, []

    def dying(job: Job) -> bytes:
        if len(pieces) == 5:
            msg = "the server is gone"
            raise UnreachableError(msg)
        pieces.append(job.key)
        return read(job)

    with monkeypatch.context() as patched:
        patched.setattr(fetch, "read_piece", dying)
        with pytest.raises(UnreachableError):
            run(site, catalog, tmp_path / "w", datetime=UNTIL_JULY, update=True, workers=1)
    reads = watched(monkeypatch)
    made = run(site, catalog, tmp_path / "w", datetime=UNTIL_JULY, update=resumed_by_update)
    assert not {job.key for job in reads.pieces} & set(pieces)
    assert_same(made, fresh)


def test_an_update_that_was_fetched_but_not_assembled_may_go_on_as_a_download(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the finished cube held must then be fetched, for a download takes nothing from it."""
    from eearth.geo.imagery.assemble import Assembly

    catalog = catalog_of(site, tmp_path / "catalog")
    fresh = run(site, catalog, tmp_path / "fresh", datetime=UNTIL_JULY)
    run(site, catalog, tmp_path / "w", datetime=UNTIL_JUNE)

    def dying(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Assembly, "run", dying)
        with pytest.raises(KeyboardInterrupt):
            run(site, catalog, tmp_path / "w", datetime=UNTIL_JULY, update=True)
    shutil.copytree(tmp_path / "w", tmp_path / "w2")
    reads = watched(monkeypatch)
    made = run(site, catalog, tmp_path / "w", datetime=UNTIL_JULY, update=True)
    assert reads.scenes == set()
    assert_same(made, fresh)
    made = run(site, catalog, tmp_path / "w2", datetime=UNTIL_JULY)
    assert any(isinstance(event, Started) and event.task == "imagery" for event in made.heard)
    assert reads.scenes == {f"W_{day}" for day in PASSES[:3]}
    assert_same(made, fresh)


def test_other_bands_make_another_cube(tmp_path: Path, site: Site) -> None:
    catalog = catalog_of(site, tmp_path / "catalog")
    run(site, catalog, tmp_path / "w", datetime=UNTIL_JUNE)
    fresh = run(site, catalog, tmp_path / "fresh", datetime=UNTIL_JUNE, bands=("red",))
    made = run(site, catalog, tmp_path / "w", datetime=UNTIL_JUNE, bands=("red",), update=True)
    assert any("every date is fetched anew" in text for text in made.warnings)
    assert_same(made, fresh)


def test_months_are_made_anew(tmp_path: Path, site: Site) -> None:
    catalog = catalog_of(site, tmp_path / "catalog")
    run(site, catalog, tmp_path / "w", datetime=UNTIL_JUNE, composite="monthly")
    fresh = run(site, catalog, tmp_path / "fresh", datetime=UNTIL_JULY, composite="monthly")
    made = run(site, catalog, tmp_path / "w", datetime=UNTIL_JULY, composite="monthly", update=True)
    assert_same(made, fresh)
    assert (
        made.cube.times.astype("datetime64[M]").tolist() == np.array(["2023-06", "2023-07"], "datetime64[M]").tolist()
    )
