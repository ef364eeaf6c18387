from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NoReturn

import pytest
from forked import Running, eearth
from loopback.cluster import Cluster, serve_cluster
from loopback.fault_kinds import Faults
from loopback.faults import serve_faulty
from loopback.process import free_port
from passes import made_scene, plan_over
from runs import catalog_of, copy_of, run
from scenery import utm_grid
from small_site import PASSES, download_words

from eearth.errors import SceneError, SourceError, UnreachableError
from eearth.geo.cube import CUBE
from eearth.geo.grid import Window
from eearth.geo.imagery import engine, fetch
from eearth.geo.imagery.engine import run_jobs
from eearth.geo.imagery.fetch import job_of
from eearth.geo.imagery.pieces import look, read_piece
from eearth.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from small_site import Site

    from eearth.geo.imagery.pieces import Job

IN_SMALL_BLOCKS = "from eearth.geo.imagery import fetch; fetch.BLOCK = 256"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with serve_cluster(2) as running:
        yield running


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> list[Job]:
    """Eight blocks of one scene."""
    grid = utm_grid(64, 512)
    plan = plan_over([made_scene(tmp_path_factory.mktemp("scene"), "one", grid, 1)], grid)
    found = [job_of(plan.acquisitions[0], Window(0, col, 64, 64), plan) for col in range(0, 512, 64)]
    return [job for job in found if job]


# --- Here


@pytest.mark.parametrize("at_once", [1, 3, 20])
def test_every_job_is_done_once_and_no_more_at_a_time_than_asked(jobs: list[Job], at_once: int) -> None:
    drawn, got = 0, {}

    def drawing() -> Iterator[Job]:
        nonlocal drawn
        for job in jobs:
            assert drawn - len(got) < at_once
            drawn += 1
            yield job

    for job, looks in run_jobs(drawing(), look, at_once=at_once, scheduler=None):
        got[job.key] = looks
    assert got == {job.key: look(job) for job in jobs}


def test_a_scene_that_fails_is_a_result_and_a_dead_server_is_the_end(jobs: list[Job]) -> None:
    def failing(job: Job) -> str:
        if job is jobs[2]:
            raise SceneError("one", "gone")  # noqa: EM101 - a scene and a reason
        return job.key

    found = dict(run_jobs(jobs, failing, at_once=2, scheduler=None))
    assert {job: str(result) for job, result in found.items()} == {
        job: "one: gone" if job is jobs[2] else job.key for job in jobs
    }

    def dead(_: Job) -> NoReturn:
        msg = "nobody answers"
        raise UnreachableError(msg)

    with pytest.raises(UnreachableError):
        list(run_jobs(jobs, dead, at_once=2, scheduler=None))
    assert dict(run_jobs(jobs[:2], read_piece, at_once=2, scheduler=None)).keys() == set(jobs[:2])


# --- On a cluster


def test_a_cluster_makes_the_same_cube(
    tmp_path: Path, site: Site, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "BLOCK", 256)
    catalog = catalog_of(site, tmp_path / "catalog")
    alone = run(site, catalog, tmp_path / "alone")
    monkeypatch.delattr(engine, "_here")
    made = run(site, catalog, tmp_path / "w", scheduler=cluster.address)
    assert made.manifest.digest == alone.manifest.digest
    assert made.manifest.outputs == alone.manifest.outputs


def test_a_scene_that_fails_on_a_cluster_is_left_out(tmp_path: Path, site: Site, cluster: Cluster) -> None:
    own = copy_of(site, tmp_path / "files")
    scene = f"W_{PASSES[1]}"
    (own.root / scene / "red.tif").unlink()
    made = run(own, catalog_of(own, tmp_path / "catalog"), tmp_path / "w", scheduler=cluster.address)
    alone = run(own, catalog_of(own, tmp_path / "catalog"), tmp_path / "alone")
    assert list(made.manifest.records["dropped"]) == [scene]
    assert made.manifest.digest == alone.manifest.digest


def pieces_here(folder: Path) -> int:
    return sum("look" not in path.name for path in (folder / "imagery.partial/scratch/pieces").glob("*.piece"))


def killed_midway(site: Site, folder: Path, victim: Callable[[Cluster], int]) -> tuple[int, str]:
    """Exit status and output of a download from a slow server on a cluster of which a process is killed.

    If that failed, the same is run again, without the cluster.
    """
    with serve_faulty(site.root, Faults(latency_seconds=0.03)) as url, serve_cluster(2) as cluster:
        catalog = site.catalog(folder / "catalog", url)
        alone = download_words(site, catalog, folder / "w")
        with Running(*alone, "--scheduler", cluster.address, prelude=IN_SMALL_BLOCKS) as process:
            deadline = time.monotonic() + 60
            while pieces_here(folder / "w") < 3 and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.005)
            os.kill(victim(cluster), signal.SIGKILL)
            assert 3 <= pieces_here(folder / "w") < 20
            assert process.poll() is None
            done = process.wait()
        if done.returncode:
            assert eearth(*alone, prelude=IN_SMALL_BLOCKS).returncode == 0
    return done.returncode, done.stderr


def assert_like_local(site: Site, folder: Path) -> None:
    alone = run(site, catalog_of(site, folder / "local"), folder / "alone")
    made = Manifest.read(folder / "w" / "imagery")
    for output in (CUBE, "quicklook.png"):
        assert made.outputs[output] == alone.manifest.outputs[output]
    assert made.records["scenes"] == alone.manifest.records["scenes"]


def test_a_worker_that_is_killed_is_not_missed(tmp_path: Path, site: Site) -> None:
    status, said = killed_midway(site, tmp_path, lambda cluster: cluster.workers[0])
    assert status == 0, said
    assert_like_local(site, tmp_path)


def test_a_scheduler_that_is_killed_is_one_line_and_the_next_run_goes_on(tmp_path: Path, site: Site) -> None:
    status, said = killed_midway(site, tmp_path, lambda cluster: cluster.scheduler)
    assert status == 1, said
    assert "Traceback" not in said, said
    assert said.splitlines()[-1].startswith("Error: the dask scheduler at tcp://127.0.0.1:"), said
    assert_like_local(site, tmp_path)


def test_workers_that_are_all_gone_are_one_line(jobs: list[Job], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "WORKERLESS_SECONDS", 1.0)
    monkeypatch.setattr(engine, "LOOK_SECONDS", 0.5)
    with serve_cluster(1, threads=1) as cluster:
        os.kill(cluster.workers[0], signal.SIGSTOP)  # it takes jobs, and finishes none
        found = run_jobs(jobs, look, at_once=1, scheduler=cluster.address)
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(list, found)
            time.sleep(1)
            os.kill(cluster.workers[0], signal.SIGKILL)
            with pytest.raises(SourceError, match=r"all workers at tcp://127.0.0.1:.* are gone: run the same command"):
                asking.result(timeout=60)


# --- No cluster


@pytest.mark.parametrize("listens", [True, False])
def test_nobody_at_the_address_is_one_line(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch, *, listens: bool
) -> None:
    """Whether nobody listens, or a scheduler without any worker."""
    monkeypatch.setattr(engine, "CONNECT_SECONDS", 1)
    catalog = catalog_of(site, tmp_path / "catalog")
    with serve_cluster(0) as empty:
        address = empty.address if listens else f"tcp://127.0.0.1:{free_port()}"
        with pytest.raises(SourceError) as caught:
            run(site, catalog, tmp_path / "w", scheduler=address)
    assert str(caught.value) == f"expected a dask scheduler with a worker at {address}, found none: is it running?"
    assert not (tmp_path / "w" / "imagery").exists()
