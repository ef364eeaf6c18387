"""A download that is killed, or runs out of disk, goes on: same cube, and little is fetched twice.

EEARTH_KILLS=25 kills more often than the suite does; `pytest -s` shows the figures.
"""

from __future__ import annotations

import math
import os
import random
import signal
import struct
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from forked import Running
from loopback.fault_kinds import Faults
from loopback.faults import Served, read_access_log, serve_faulty
from small_site import PIXELS, TILE, Site, download_words, make_site

from eearth.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

KILLS = int(os.environ.get("EEARTH_KILLS", "5"))
LATENCY_SECONDS = 0.01
WORKERS = 2
BLOCK = 256
# A small region then has several pieces a scene, as a large one has.
SMALL = f"""
from eearth.geo.imagery import fetch
assert hasattr(fetch, "BLOCK")
fetch.BLOCK = {BLOCK}
"""
# What `ulimit -f 100` does.
LIMITED = """
from resource import RLIMIT_FSIZE, setrlimit
setrlimit(RLIMIT_FSIZE, (100 * 1024, 100 * 1024))
"""


@dataclass(frozen=True)
class Place:
    """A site that is served, its catalog, and what a run that nothing disturbs makes and fetches."""

    site: Site
    catalog: Path
    log: Path
    digest: str
    calm: list[Served]

    def served(self, since: int = 0) -> list[Served]:
        return read_access_log(self.log)[since:]

    def is_header(self, line: Served) -> bool:
        """Whether a request is for a file's directory, at its beginning or where it says that it is."""
        first = int(line.span.split("-")[0])
        with (self.site.root / line.path.lstrip("/")).open("rb") as file:
            place = struct.unpack("<4xI", file.read(8))[0]
        return first == 0 or first >= place > TILE * TILE

    def tile_bytes(self, lines: list[Served]) -> int:
        return sum(line.bytes for line in lines if not self.is_header(line))


def begin(site: Site, catalog: Path, workspace: Path, prelude: str = "") -> Running:
    return Running(*download_words(site, catalog, workspace), "--workers", str(WORKERS), prelude=SMALL + prelude)


def run(site: Site, catalog: Path, workspace: Path, prelude: str = "") -> subprocess.CompletedProcess[str]:
    with begin(site, catalog, workspace, prelude) as process:
        return process.wait()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("kills")
    site, log = make_site(folder / "site", "deflate"), folder / "log"
    with serve_faulty(site.root, Faults(latency_seconds=LATENCY_SECONDS), access_log=log) as url:
        catalog = site.catalog(folder / "catalog", url)
        done = run(site, catalog, folder / "w")
        assert done.returncode == 0, done.stderr
        digest = Manifest.read(folder / "w" / "imagery").digest
        yield Place(site, catalog, log, digest, read_access_log(log))


def block_bytes(place: Place) -> int:
    """What one block of one scene takes, at most: it may touch one more tile on each axis than would fill it."""
    most = 0
    for folder in place.site.root.iterdir():
        total = 0
        for band, side, margin in (("red", PIXELS, 0), ("nir", PIXELS, 0), ("swir16", PIXELS // 2, 24)):
            tiles = math.ceil((BLOCK * side // PIXELS + margin) / TILE) + 1
            total += (folder / f"{band}.tif").stat().st_size * tiles**2 // (side // TILE) ** 2
        most = max(most, total)
    return most


def edge_bytes(place: Place) -> int:
    """What a row and a column of tiles of one scene take: blocks have them in common, and they are kept in memory."""
    sides = {"red": PIXELS, "nir": PIXELS, "swir16": PIXELS // 2}
    return max(
        sum((folder / f"{band}.tif").stat().st_size * 2 * TILE // side for band, side in sides.items())
        for folder in place.site.root.iterdir()
    )


# --- Killed


def lines_of(log: Path) -> int:
    return log.read_bytes().count(b"\n")


def killed(place: Place, workspace: Path, rng: random.Random) -> bool:
    """Run it and kill it at a random moment; False if it ended before."""
    begun = lines_of(place.log)
    request = rng.randrange(len(place.calm))
    assembling = workspace / "imagery.partial" / "scratch" / "fetched.json"
    late, delay = rng.random() < 1 / 4, rng.uniform(0, 0.2)
    with begin(place.site, place.catalog, workspace) as process:
        while process.poll() is None:
            if assembling.is_file() if late else lines_of(place.log) - begun >= request:
                time.sleep(delay)
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    return True
            time.sleep(0.005)
        done = process.wait()
    assert done.returncode == 0, done.stderr
    return False


@dataclass
class Trial:
    """One download, however often it was killed."""

    kills: int
    requests: int
    twice: int
    headers: int


def trial(place: Place, workspace: Path, rng: random.Random, most: int) -> Trial:
    """Kill, rerun, kill again ... until a run ends by itself, at the latest after `most` kills."""
    begun, kills = lines_of(place.log), 0
    while kills < most and killed(place, workspace, rng):
        kills += 1
        assert not (workspace / "imagery").exists()
    done = run(place.site, place.catalog, workspace)
    assert done.returncode == 0, done.stderr
    lines = place.served(begun)
    twice = place.tile_bytes(lines) - place.tile_bytes(place.calm)
    headers = sum(line.bytes for line in lines if place.is_header(line))
    return Trial(kills, len(lines), twice, headers)


def test_a_killed_download_goes_on_and_fetches_little_twice(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng, trials = random.Random(20), []  # noqa: S311 - moments to kill at
    headers = sum(line.bytes for line in place.calm if place.is_header(line))
    while (left := KILLS - sum(each.kills for each in trials)) > 0:
        workspace = tmp_path / str(len(trials))
        each = trial(place, workspace, rng, left)
        trials.append(each)
        assert Manifest.read(workspace / "imagery").digest == place.digest
        assert [path.name for path in workspace.iterdir()] == ["imagery"]
        assert each.twice <= each.kills * WORKERS * (block_bytes(place) + edge_bytes(place))
        assert each.headers <= (1 + each.kills) * headers
    with capsys.disabled():
        print(figures(place, trials))  # noqa: T201


def figures(place: Place, trials: list[Trial]) -> str:
    kills = sum(each.kills for each in trials)
    calm = place.tile_bytes(place.calm)
    twice = sum(each.twice for each in trials)
    return (
        f"\n{kills} kills in {len(trials)} downloads of {calm / 1e6:.1f} MB: {twice / 1e6:.2f} MB fetched twice, "
        f"{twice / max(1, kills) / 1e3:.0f} kB a kill; one block of one scene has {block_bytes(place) / 1e3:.0f} kB, "
        f"a row and a column of its tiles {edge_bytes(place) / 1e3:.0f} kB, "
        f"workers {WORKERS}"
    )


# --- No room, no permission


@contextmanager
def disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own; only root may mount one."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system can only be mounted by root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def assert_one_line(done: subprocess.CompletedProcess[str], text: str) -> None:
    assert done.returncode == 1
    *others, last = done.stderr.splitlines()
    assert last.startswith("Error: ")
    assert text in last
    assert not [line for line in others if "Error" in line or "Traceback" in line or line.startswith("  ")], done.stderr


@pytest.mark.parametrize(("size", "reached"), [("9500k", False), ("13m", True)], ids=["pieces", "cube"])
def test_a_full_disk_is_one_line_and_with_room_it_goes_on(
    place: Place, tmp_path: Path, size: str, *, reached: bool
) -> None:
    with disk(tmp_path / "disk", size) as folder:
        begun = lines_of(place.log)
        assert_one_line(run(place.site, place.catalog, folder / "w"), "the disk is full")
        assert (folder / "w" / "imagery.partial" / "cube.zarr").exists() == reached
        before = len(place.served(begun))
        subprocess.run(["mount", "-o", "remount,size=60m", folder], check=True)
        done = run(place.site, place.catalog, folder / "w")
        assert done.returncode == 0, done.stderr
        assert Manifest.read(folder / "w" / "imagery").digest == place.digest
        lines = place.served(begun)
        assert len(lines) - before < len(place.calm) / 2
        assert place.tile_bytes(lines) - place.tile_bytes(place.calm) <= WORKERS * block_bytes(place)


def test_a_folder_that_cannot_be_written_is_one_line(place: Place, tmp_path: Path) -> None:
    with disk(tmp_path / "disk", "60m") as folder:
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        begun = lines_of(place.log)
        assert_one_line(run(place.site, place.catalog, folder / "w"), f"not allowed to read or write at {folder}")
        assert lines_of(place.log) == begun
        subprocess.run(["mount", "-o", "remount,rw", folder], check=True)
        assert run(place.site, place.catalog, folder / "w").returncode == 0
        assert Manifest.read(folder / "w" / "imagery").digest == place.digest


def test_a_file_that_may_not_grow_is_a_full_disk(place: Place, tmp_path: Path) -> None:
    """Where nothing can be mounted, the limit on a file's size takes the place of a full disk."""
    done = run(place.site, place.catalog, tmp_path / "w", LIMITED)
    assert_one_line(done, "the disk is full")
    assert run(place.site, place.catalog, tmp_path / "w").returncode == 0
    assert Manifest.read(tmp_path / "w" / "imagery").digest == place.digest
