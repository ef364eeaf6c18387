"""A map straight from the provider that is killed goes on: the same bytes in the end, and no finished tile made twice.

EEARTH_KILLS=25 kills more often than the suite does; `pytest -s` shows in the middle of what.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from forked import Running
from loopback.fault_kinds import Faults
from loopback.faults import serve_faulty
from small_map import map_words, write_model, write_region
from small_site import make_site

from eearth.geo.products.rasters.tiled import FINISHED
from eearth.manifest import MANIFEST, Manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

KILLS = int(os.environ.get("EEARTH_KILLS", "3"))
TILES = 6
# Four pixels make a patch that stays: much of the noise goes.
SIEVED = ("--min-mapping-unit", "0.04")


@dataclass(frozen=True)
class Place:
    """What is to be mapped, what a run that nothing disturbs makes of it, and in how many seconds each tile."""

    region: Path
    model: Path
    outputs: dict[str, str]
    pace: float

    def begin(self, workspace: Path) -> Running:
        return Running(*map_words(self.region, self.model, workspace), *SIEVED)

    def run(self, workspace: Path) -> None:
        with self.begin(workspace) as process:
            done = process.wait()
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("map-kills")
    site, region = make_site(folder / "site", "deflate"), write_region(folder / "region.geojson", rows=100, cols=160)
    with serve_faulty(site.root, Faults(latency_seconds=0.01)) as url:
        model = write_model(folder / "model", str(site.catalog(folder / "catalog", url)))
        Place(region, model, {}, 0.0).run(folder / "w")
        made = Manifest.read(folder / "w" / "map")
        yield Place(region, model, made.outputs, made.seconds / TILES)


def finished_tiles(partial: Path) -> set[str]:
    with suppress(FileNotFoundError):
        return set((partial / "scratch" / FINISHED).read_text(encoding="utf-8").splitlines()[1:])
    return set()


def interrupted(partial: Path) -> str:
    """In the middle of what a run was, by what it left."""
    scratch, done = partial / "scratch", finished_tiles(partial)
    if (partial / MANIFEST).is_file():
        return "taking its name"
    if not scratch.is_dir():
        return "beginning"
    if len(done) < TILES:
        return f"tile {len(done) + 1} of {TILES}"
    if (partial / "areas.csv").is_file():
        return "telling of it"
    published = [partial / "landcover.tif", *scratch.glob("landcover.tif*"), *scratch.glob("confidence.tif*")]
    return "cloud-optimising" if any(path.exists() for path in published) else "generalising"


def killed(place: Place, workspace: Path, rng: random.Random) -> str:
    """Run it and kill it at a random moment; in the middle of what, empty if it ended before."""
    partial = workspace / "map.partial"
    before = finished_tiles(partial)
    tiles, delay = min(TILES, len(before) + rng.choice((0, 1, 3))), rng.uniform(0, place.pace)
    with place.begin(workspace) as process:
        while process.poll() is None and len(finished_tiles(partial)) < tiles:
            time.sleep(0.005)
        time.sleep(delay)
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        while process.poll() is None:
            time.sleep(0.005)
        assert process.poll() in {0, -signal.SIGKILL}, process.wait().stderr
    if (workspace / "map").exists():
        return ""
    assert finished_tiles(partial) >= before or (partial / MANIFEST).is_file()
    return interrupted(partial)


def test_a_killed_map_goes_on_and_is_the_same(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng, moments, maps = random.Random(5), Counter[str](), 0  # noqa: S311 - moments to kill at
    while moments.total() < KILLS:
        workspace = tmp_path / str(maps)
        while moments.total() < KILLS and (what := killed(place, workspace, rng)):
            moments[what] += 1
            if not what.startswith("tile"):  # else most of the kills would come late
                break
        place.run(workspace)
        maps += 1
        assert Manifest.read(workspace / "map").outputs == place.outputs
        assert [path.name for path in workspace.iterdir()] == ["map"]
    with capsys.disabled():
        print(f"\n{moments.total()} kills of {maps} maps:", dict(sorted(moments.items())))  # noqa: T201
