"""From a STAC API to the map on real sites, by the five commands as a user types them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
import rasterio
from forked import eearth
from rio_cogeo import cog_validate

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Site:
    name: str
    download: tuple[str, ...]
    classes: set[int]
    start: Callable[..., subprocess.CompletedProcess[str]]


def from_nothing(*words: str) -> subprocess.CompletedProcess[str]:
    """Each command imports what it needs, and only that."""
    command = [sys.executable, "-m", "eearth", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


SITES = (
    Site(
        "slovenia",
        ("--datetime", "2015", "--mask-asset", "clm", "--mask-valid", "0", "--max-cloud", "100"),
        {1, 2, 3, 4, 8},
        eearth,
    ),
    Site("romania", ("--datetime", "2018", "--bands", "blue,green,red,nir,nir08,swir16"), {1, 2}, from_nothing),
)


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)
def test_a_region_becomes_a_map(site: Site, real_data: Path, stac_api: str, tmp_path: Path) -> None:
    folder = real_data / site.name
    region = str(folder / "region.geojson")

    def run(*words: str) -> str:
        done = site.start(*words, "-w", str(tmp_path))
        assert done.returncode == 0, done.stderr
        return done.stdout

    catalog = ("--catalog", stac_api, "--collection", site.name, "--grid", "native")
    run("download", region, *catalog, *site.download)
    run("rasterize", str(folder / "labels.gpkg"))
    run("pretrain")
    run("finetune", "--labels-per-class", "20")
    run("predict", region)
    shown = run("status")
    assert shown.count("done") == 5
    _check_map(tmp_path, folder, site)


def _check_map(workspace: Path, folder: Path, site: Site) -> None:
    path = workspace / "map" / "landcover.tif"
    assert cog_validate(path, strict=True, quiet=True)[0]
    with rasterio.open(path) as file, rasterio.open(folder / "labels.tif") as truth:
        mapped = file.read(1)
        assert file.crs == truth.crs
        assert set(np.unique(mapped)) <= site.classes
        codes = {int(key.removeprefix("CLASS_")) for key in file.tags() if key.startswith("CLASS_")}
        assert codes == site.classes
