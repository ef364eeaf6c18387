"""From a STAC API to the map on real sites, by the five commands as a user types them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
import rasterio
from rio_cogeo import cog_validate

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Site:
    name: str
    download: tuple[str, ...]
    classes: set[int]


SITES = (
    Site(
        "slovenia",
        ("--datetime", "2015", "--mask-asset", "clm", "--mask-valid", "0", "--max-cloud", "100"),
        {1, 2, 3, 4, 8},
    ),
    Site("romania", ("--datetime", "2018", "--bands", "blue,green,red,nir,nir08,swir16"), {1, 2}),
)


def eearth(*words: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "eearth", *words, "-w", str(folder)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)
def test_a_region_becomes_a_map(site: Site, real_data: Path, stac_api: str, tmp_path: Path) -> None:
    folder = real_data / site.name
    region = str(folder / "region.geojson")
    catalog = ("--catalog", stac_api, "--collection", site.name, "--grid", "native")
    eearth("download", region, *catalog, *site.download, folder=tmp_path)
    eearth("rasterize", str(folder / "labels.gpkg"), folder=tmp_path)
    eearth("pretrain", folder=tmp_path)
    eearth("finetune", "--labels-per-class", "20", folder=tmp_path)
    eearth("predict", region, folder=tmp_path)
    shown = eearth("status", folder=tmp_path)
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
