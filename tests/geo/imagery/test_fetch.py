from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import rasterio
from runs import Done, catalog_of, copy_of, run, watched
from small_site import PASSES, SHARED

from eearth.errors import SourceError
from eearth.events import Advanced, Finished, Started

if TYPE_CHECKING:
    from pathlib import Path

    from small_site import Site

pytestmark = pytest.mark.usefixtures("small_blocks")

LONE = f"W_{PASSES[1]}"


def spoil(site: Site, scene: str, asset: str, how: str) -> None:
    path = site.root / scene / f"{asset}.tif"
    if how == "gone":
        path.unlink()
        return
    body = bytearray(path.read_bytes())
    third = len(body) // 3
    body[third : 2 * third] = bytes(byte ^ 255 for byte in body[third : 2 * third])
    path.write_bytes(body)


def assert_like(made: Done, expected: Done) -> None:
    """The same cube, picture and figures: nothing tells that there was more."""
    assert made.cube.items == expected.cube.items
    for found, wanted in zip(made.arrays, expected.arrays, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert made.manifest.outputs == expected.manifest.outputs
    assert made.manifest.figures == expected.manifest.figures
    for part in ("scenes", "acquisitions"):
        assert made.manifest.records[part] == expected.manifest.records[part]


@pytest.mark.parametrize(
    ("scene", "how", "asset"),
    [
        (LONE, "gone", "red"),
        (f"W_{SHARED}", "gone", "swir16"),
        (f"X_{SHARED}", "gone", "scl"),
        (f"W_{SHARED}", "corrupt", "red"),
        (f"X_{SHARED}", "corrupt", "swir16"),
        (LONE, "corrupt", "scl"),
    ],
)
def test_a_scene_of_which_something_cannot_be_read_is_left_out_whole(
    tmp_path: Path, site: Site, scene: str, how: str, asset: str
) -> None:
    own = copy_of(site, tmp_path / "files")
    spoil(own, scene, asset, how)
    made = run(own, catalog_of(own, tmp_path / "catalog"), tmp_path / "w")
    assert list(made.manifest.records["dropped"]) == [scene]
    reason = made.manifest.records["dropped"][scene]
    assert f"{scene}/{asset}.tif cannot be read" in reason
    assert "\n" not in reason
    assert f"the scene {scene} is left out: {reason}" in made.warnings
    expected = run(own, catalog_of(own, tmp_path / "catalog", (scene,)), tmp_path / "without")
    assert_like(made, expected)
    names = {name for ids in made.cube.items for name in ids.split()}
    assert names == set(site.ids) - {scene}


def test_scenes_that_cannot_be_read_make_room_for_others(tmp_path: Path, site: Site) -> None:
    """What the masks had chosen is chosen anew without them."""
    own = copy_of(site, tmp_path / "files")
    best = run(own, catalog_of(own, tmp_path / "catalog"), tmp_path / "best", max_dates=1).cube.items[0]
    spoil(own, best.split()[0], "red", "gone")
    made = run(own, catalog_of(own, tmp_path / "catalog"), tmp_path / "w", max_dates=1)
    expected = run(own, catalog_of(own, tmp_path / "catalog", (best.split()[0],)), tmp_path / "without", max_dates=1)
    assert list(made.manifest.records["dropped"]) == [best.split()[0]]
    assert made.cube.items[0] != best
    assert_like(made, expected)


def test_clouds_of_what_is_left_of_a_pass_count(tmp_path: Path, site: Site) -> None:
    """The western tile is all cloud; the eastern one, without which the pass is too cloudy, cannot be read."""
    own = copy_of(site, tmp_path / "files")
    with rasterio.open(own.root / f"W_{SHARED}" / "scl.tif", "r+") as file:
        file.write(np.where(file.read() > 0, 9, 0).astype(np.uint8))
    with rasterio.open(own.root / f"X_{SHARED}" / "scl.tif", "r+") as file:
        file.write(np.full((1, file.height, file.width), 4, np.uint8))
    asked = {"max_cloud": 95.0}
    both = run(own, catalog_of(own, tmp_path / "catalog"), tmp_path / "both", **asked)
    assert f"W_{SHARED} X_{SHARED}" in both.cube.items
    spoil(own, f"X_{SHARED}", "nir", "gone")
    made = run(own, catalog_of(own, tmp_path / "catalog"), tmp_path / "w", **asked)
    expected = run(own, catalog_of(own, tmp_path / "catalog", (f"X_{SHARED}",)), tmp_path / "without", **asked)
    assert f"W_{SHARED}" not in made.cube.items
    assert_like(made, expected)


@pytest.mark.parametrize("asset", ["red", "scl"])
def test_nothing_that_can_be_read_is_one_clear_error(tmp_path: Path, site: Site, asset: str) -> None:
    own = copy_of(site, tmp_path / "files")
    for scene in own.ids:
        spoil(own, scene, asset, "gone")
    with pytest.raises(SourceError) as caught:
        run(own, catalog_of(own, tmp_path / "catalog"), tmp_path / "w")
    assert "7 scenes that cannot be read, the first because: " in str(caught.value)
    assert f"{asset}.tif cannot be read" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "w" / "imagery").exists()


def test_too_little_clear_ground_leaves_the_work_for_a_lower_threshold(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = catalog_of(site, tmp_path / "catalog")
    asked = {"datetime": PASSES[0]}
    with pytest.raises(SourceError, match=r"expected clear observations of 90 % .* lower --min-coverage, it continues"):
        run(site, catalog, tmp_path / "w", min_coverage=90.0, **asked)
    assert not (tmp_path / "w" / "imagery").exists()
    reads = watched(monkeypatch)
    made = run(site, catalog, tmp_path / "w", min_coverage=40.0, **asked)
    assert reads.scenes == set()
    assert_like(made, run(site, catalog, tmp_path / "fresh", min_coverage=40.0, **asked))


def test_progress_ends_where_it_said(tmp_path: Path, site: Site) -> None:
    made = run(site, catalog_of(site, tmp_path / "catalog"), tmp_path / "w")
    done = dict.fromkeys(("masks", "imagery", "cube"), 0)
    for event in made.heard:
        if isinstance(event, Started):
            assert event.done == 0
            done[event.task] -= event.total
        elif isinstance(event, Advanced):
            done[event.task] += event.steps
    assert done == {"masks": 0, "imagery": 0, "cube": 0}
    assert [event.task for event in made.heard if isinstance(event, Finished)] == ["masks", "imagery", "cube"]
