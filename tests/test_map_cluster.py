"""A map that the workers of a cluster make, and what a map is said to take before it is made."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest
from forked import Running, eearth
from loopback.cluster import serve_cluster
from loopback.fault_kinds import Faults
from loopback.faults import serve_faulty
from small_map import map_words, write_model, write_region
from small_site import make_site

from eearth.geo.products.rasters.tiled import FINISHED
from eearth.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """A map of 2 x 2 tiles from a slow server, but for its workspace."""
    folder = tmp_path_factory.mktemp("map")
    site = make_site(folder / "site", "deflate")
    with serve_faulty(site.root, Faults(latency_seconds=0.02)) as url:
        model = write_model(folder / "model", str(site.catalog(folder / "catalog", url)))
        yield map_words(write_region(folder / "region.geojson", rows=80, cols=120), model, folder / "w")[:-2]


def finished(workspace: Path) -> int:
    """Tiles that are written."""
    try:
        return len((workspace / "map.partial" / "scratch" / FINISHED).read_text().splitlines()) - 1
    except OSError:
        return 0


def test_two_workers_of_which_one_is_killed_make_the_same_map(words: list[str], tmp_path: Path) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    assert eearth(*words, "-w", str(alone)).returncode == 0
    with (
        serve_cluster(2, threads=1) as cluster,
        Running(*words, "--scheduler", cluster.address, "-w", shared) as process,
    ):
        deadline = time.monotonic() + 60
        while finished(shared) < 1 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        os.kill(cluster.workers[0], signal.SIGKILL)
        assert 1 <= finished(shared) < 4
        done = process.wait(100)
        assert done.returncode == 0, done.stderr
    one, other = (Manifest.read(folder / "map") for folder in (alone, shared))
    assert one.outputs == other.outputs
    assert one.digest == other.digest


def test_an_estimate_fetches_and_writes_nothing(words: list[str], tmp_path: Path) -> None:
    done = eearth(*words, "--estimate", "--rate", "2", "-w", str(tmp_path / "w"))
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert "4 of 64 x 64 pixels" in said
    assert "at 2 MB/s" in said
    assert not (tmp_path / "w" / "map").exists()
    assert not (tmp_path / "w" / "map.partial").exists()
