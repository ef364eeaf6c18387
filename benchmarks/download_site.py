"""A Sentinel-2-like collection made once, and an nginx on the loopback that serves it with a latency for each request.

24 dates x (10 bands of uint16, one classification of uint8), files of 2048 x 2048 pixels in blocks of 512, DEFLATE with
a predictor, all on one lattice. The region is 1024 x 1024 pixels off the block grid: 9 of a file's 16 blocks.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import zlib
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

BANDS = ("blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "swir16", "swir22")
MASK = "scl"
CLEAR = (4, 5, 6, 7, 11)
DATES = tuple(f"2024-{month:02d}-{day:02d}" for month in range(1, 13) for day in (5, 20))

EPSG, LEFT, TOP, PIXEL = 32633, 500000, 5100000, 10
SIDE, BLOCK = 2048, 512
ROW, COL, REGION = 300, 301, 1024

COLLECTION = "sentinel-2-l2a"

# Standard deviation in DN of what differs from pixel to pixel: with it a file shrinks to 0.65 of its pixels' bytes.
TEXTURE = 40

CONFIGURATION = """\
load_module {module};
daemon off;
pid {folder}/nginx.pid;
error_log stderr warn;
worker_processes 1;
{user}
events {{ worker_connections 1024; }}
http {{
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  scgi_temp_path {folder}/scgi;
  uwsgi_temp_path {folder}/uwsgi;
  default_type application/octet-stream;
  log_format requests '$request_method $status $body_bytes_sent $uri';
  access_log {folder}/requests.log requests;
  sendfile on;
  tcp_nodelay on;
  keepalive_requests 1000000;
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{ {sleep} echo_exec @files; }}
    location @files {{ root "{root}"; }}
  }}
}}
"""
MODULES = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules")


def bounds() -> tuple[int, int, int, int]:
    """(left, bottom, right, top) of the region in metres."""
    left, top = LEFT + COL * PIXEL, TOP - ROW * PIXEL
    return left, top - REGION * PIXEL, left + REGION * PIXEL, top


def file_of(date: str, asset: str) -> str:
    """Path of a file below the folder of files."""
    return f"{date}/{asset}.tif"


def make_site(folder: Path) -> dict[str, Any]:
    """Make the files, unless they are there, and say what each holds: path → crc32 of the region's pixels, and bytes.

    The classification is there twice: `scl` as it is, `valid` as the mask that the cube holds.
    """
    said = folder / "site.json"
    if not said.is_file():
        wanted = [(folder / "files", date, number) for date in DATES for number in range(len(BANDS) + 1)]
        with ProcessPoolExecutor() as pool:
            facts = dict(pool.map(_make_file, *zip(*wanted, strict=True)))
        said.write_text(json.dumps(facts), encoding="utf-8")
    found: dict[str, Any] = json.loads(said.read_text(encoding="utf-8"))
    return found


def _make_file(folder: Path, date: str, number: int) -> tuple[str, dict[str, int]]:
    import numpy as np
    import rasterio
    from rasterio.transform import from_origin

    name = (*BANDS, MASK)[number]
    path = folder / file_of(date, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([DATES.index(date), number])
    values = _classes(rng) if name == MASK else _landscape(rng, number)
    with rasterio.open(
        path, "w", driver="COG", dtype=values.dtype, count=1, height=SIDE, width=SIDE, crs=f"EPSG:{EPSG}",
        transform=from_origin(LEFT, TOP, PIXEL, PIXEL), nodata=0, compress="deflate", level=6, predictor="YES",
        blocksize=BLOCK, overviews="NONE", geotiff_version="1.1",
    ) as file:  # fmt: skip
        file.write(values, 1)
    inside = np.ascontiguousarray(values[ROW : ROW + REGION, COL : COL + REGION])
    facts = {"crc": zlib.crc32(inside), "needed": _needed(path)}
    if name == MASK:
        facts["valid"] = zlib.crc32(np.isin(inside, CLEAR))
    return file_of(date, name), facts


def _landscape(rng: Any, number: int) -> Any:
    """Fields with edges on rolling ground, and texture; (y, x) uint16."""
    import numpy as np

    y, x = np.mgrid[:SIDE, :SIDE]
    fields = np.random.default_rng(number).integers(-300, 300, (SIDE // 32 + 1, SIDE // 32 + 1))
    ground = (
        1800 + 600 * np.sin(x / 190 + number) + 500 * np.cos(y / 170) + fields[(y + x // 7) // 64, (x + y // 5) // 64]
    )
    return np.clip(ground + rng.normal(0, TEXTURE, (SIDE, SIDE)), 1, 65535).astype(np.uint16)


def _classes(rng: Any) -> Any:
    """Patches of classes, a tenth of them clouds; (y, x) uint8."""
    import numpy as np

    coarse = rng.choice([4, 5, 6, 7, 11, 8, 9], (SIDE // 32, SIDE // 32), p=[0.4, 0.3, 0.1, 0.05, 0.05, 0.05, 0.05])
    return np.kron(coarse, np.ones((32, 32))).astype(np.uint8)


def _needed(path: Path) -> int:
    """Bytes of the blocks that the region touches."""
    from tiff_ranges import ranges

    with path.open("rb") as file:
        return sum(block.size for block in ranges(file.read(2**16), ROW, COL, REGION))


def write_catalog(folder: Path, address: str) -> Path:
    """Write a static catalog whose files lie at `address`, and the region beside it; returns the catalog's path."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "items").mkdir(parents=True)
    for date in DATES:
        _write(folder / "items" / f"{_item_id(date)}.json", _item(date, address))
    times = [[f"{DATES[0]}T10:00:00Z", f"{DATES[-1]}T10:00:00Z"]]
    _write(folder / "collection.json", {
        "type": "Collection", "stac_version": "1.0.0", "id": COLLECTION, "description": "Made for a measurement.",
        "license": "Apache-2.0",
        "extent": {"spatial": {"bbox": [_footprint()["bbox"]]}, "temporal": {"interval": times}},
        "links": [{"rel": "item", "href": f"./items/{_item_id(date)}.json"} for date in DATES],
    })  # fmt: skip
    _write(folder / "catalog.json", {
        "type": "Catalog", "stac_version": "1.0.0", "id": "made", "description": "Made for a measurement.",
        "links": [{"rel": "child", "href": "./collection.json"}],
    })  # fmt: skip
    left, bottom, right, top = bounds()
    ring = [[left, bottom], [right, bottom], [right, top], [left, top], [left, bottom]]
    _write(folder / "region.geojson", {
        "type": "FeatureCollection", "crs": {"type": "name", "properties": {"name": f"urn:ogc:def:crs:EPSG::{EPSG}"}},
        "features": [{"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}],
    })  # fmt: skip
    return folder / "catalog.json"


def _write(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data), encoding="utf-8")


def _item_id(date: str) -> str:
    return f"S2A_33TWM_{date.replace('-', '')}_0_L2A"


def _footprint() -> dict[str, Any]:
    """The tile in longitude and latitude, a little larger: it is only searched by."""
    west, south, east, north = 14.99, 45.86, 15.28, 46.06
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"bbox": [west, south, east, north], "geometry": {"type": "Polygon", "coordinates": [ring]}}


def _item(date: str, address: str) -> dict[str, Any]:
    assets = {}
    for name in (*BANDS, MASK):
        said: dict[str, Any] = {
            "nodata": 0,
            "data_type": "uint8" if name == MASK else "uint16",
            "spatial_resolution": PIXEL,
        }
        assets[name] = {
            "href": f"{address}/{file_of(date, name)}",
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "roles": ["data"],
            "proj:shape": [SIDE, SIDE],
            "proj:transform": [PIXEL, 0, LEFT, 0, -PIXEL, TOP],
            "raster:bands": [said if name == MASK else said | {"scale": 1e-4, "offset": 0}],
        }
        if name != MASK:
            assets[name]["eo:bands"] = [{"name": name, "common_name": name}]
    stamp = f"{date}T10:00:00Z"
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": _item_id(date), "collection": COLLECTION, **_footprint(),
        "stac_extensions": [
            "https://stac-extensions.github.io/projection/v1.1.0/schema.json",
            "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
            "https://stac-extensions.github.io/eo/v1.1.0/schema.json",
        ],
        "properties": {
            "datetime": stamp, "created": stamp, "updated": stamp, "platform": "sentinel-2a", "eo:cloud_cover": 10,
            "constellation": "sentinel-2", "proj:epsg": EPSG, "proj:code": f"EPSG:{EPSG}", "grid:code": "MGRS-33TWM",
            "s2:processing_baseline": "05.10", "earthsearch:boa_offset_applied": True,
        },
        "links": [{"rel": "collection", "href": "../collection.json"}, {"rel": "root", "href": "../catalog.json"}],
        "assets": assets,
    }  # fmt: skip


class Server:
    """A running nginx: its address, and how much it has been asked for."""

    def __init__(self, address: str, log: Path, process: int) -> None:
        """Nothing was asked for yet."""
        self.address, self._log, self._process, self._read = address, log, process, 0

    def traffic(self) -> tuple[int, int]:
        """(requests, bytes of bodies) since the last call."""
        time.sleep(0.2)  # a line is written after the answer
        with self._log.open(encoding="utf-8") as file:
            file.seek(self._read)
            lines = [line.split() for line in file]
            self._read = file.tell() if not lines else self._log.stat().st_size
        return len(lines), sum(int(line[2]) for line in lines)

    def cpu(self) -> float:
        """CPU seconds that it has used: fields 14 and 15 of proc_pid_stat(5)."""
        workers = Path(f"/proc/{self._process}/task/{self._process}/children").read_text(encoding="utf-8").split()
        ticks = 0
        for process in (str(self._process), *workers):
            fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(files: Path, folder: Path, latency_ms: float) -> Iterator[Server]:
    """Serve the files on a free loopback port; every request waits for `latency_ms` before it is answered."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "requests.log").write_text("", encoding="utf-8")
    configuration = CONFIGURATION.format(
        module=_echo_module(), folder=folder, port=port, root=files.resolve(),
        # started by root, the worker would become another user, who may not enter the folder
        user="user root;" if os.geteuid() == 0 else "",
        sleep=f"echo_sleep {latency_ms / 1000:g};" if latency_ms else "",
    )  # fmt: skip
    (folder / "nginx.conf").write_text(configuration, encoding="utf-8")
    command = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        _wait_for(port, process)
        yield Server(f"http://127.0.0.1:{port}", folder / "requests.log", process.pid)
    finally:
        process.terminate()
        process.wait()


def _echo_module() -> Path:
    found = [path for place in MODULES if (path := Path(place) / "ngx_http_echo_module.so").is_file()]
    if not found or not shutil.which("nginx"):
        sys.exit("expected nginx with its echo module, found none: apt-get install nginx-light libnginx-mod-http-echo")
    return found[0]


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    sys.exit("nginx did not start: see above")


if __name__ == "__main__":
    make_site(Path(sys.argv[1]))
