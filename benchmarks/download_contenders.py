"""One contender of `download.py` in a process of its own; prints what it took as one line of JSON.

    python benchmarks/download_contenders.py NAME THREADS CATALOG [OUTPUT]

The clock starts when the libraries are imported, and runs from the catalog on the disk to the cube on the disk, or, for
what only reads, to the pixels in memory.
"""

from __future__ import annotations

import http.client
import json
import resource
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
from download_site import BANDS, BLOCK, CLEAR, COL, EPSG, MASK, PIXEL, REGION, ROW, bounds
from tiff_ranges import Block, joined, ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

# The header of a file of 16 blocks lies in its first bytes.
HEADER_BYTES = 2**14
DECODERS = 2


def hrefs(catalog: Path) -> dict[str, str]:
    """Path of each file below the server's root → its address, in the order of the cube."""
    items = sorted(catalog.parent.glob("items/*.json"))
    found = [
        json.loads(item.read_text(encoding="utf-8"))["assets"][name]["href"]
        for item in items
        for name in (*BANDS, MASK)
    ]
    return {urlsplit(href).path[1:]: href for href in found}


class Connections(threading.local):
    """A connection for each thread, kept alive."""

    open: http.client.HTTPConnection | None = None

    def get(self, href: str, start: int, length: int) -> bytearray:
        """A byte range; fewer bytes only where the file ends before."""
        parts = urlsplit(href)
        if self.open is None:
            self.open = http.client.HTTPConnection(parts.netloc)
        self.open.request("GET", parts.path, headers={"Range": f"bytes={start}-{start + length - 1}"})
        answer = self.open.getresponse()
        body = bytearray(int(answer.headers["Content-Length"]))
        view, filled = memoryview(body), 0
        while filled < len(body):
            filled += answer.readinto(view[filled:])
        answer.read()
        return body


def bodies(connections: Connections, href: str) -> Iterable[tuple[list[Block], bytearray]]:
    """The groups of blocks that the region needs, each with its bytes."""
    head = connections.get(href, 0, HEADER_BYTES)
    for group in joined(ranges(head, ROW, COL, REGION)):
        start = group[0].start
        yield group, connections.get(href, start, group[-1].start + group[-1].size - start)


def wire(files: dict[str, str], threads: int) -> None:
    """Fetch headers and exact ranges, and throw them away."""
    connections = Connections()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda href: [None for _ in bodies(connections, href)], files.values()))


class Decoder(threading.local):
    """libdeflate and the predictor undone, in memory that a thread keeps: fresh pages cost as much as a third of it."""

    def __init__(self) -> None:
        """One block of each size."""
        self.packed = {size: np.empty(BLOCK * BLOCK * size, "u1") for size in (1, 2)}
        self.values = {size: np.empty((BLOCK, BLOCK), f"<u{size}") for size in (1, 2)}

    def paste(self, block: Block, body: memoryview, out: NDArray[Any]) -> None:
        """Decode a block and copy what lies in the region."""
        import imagecodecs

        raw, values = self.packed[out.itemsize], self.values[out.itemsize]
        imagecodecs.deflate_decode(body, out=raw)
        imagecodecs.delta_decode(raw.view(out.dtype).reshape(BLOCK, BLOCK), axis=1, out=values)
        top, left = block.row - ROW, block.col - COL
        rows = slice(max(0, top), min(REGION, top + BLOCK))
        cols = slice(max(0, left), min(REGION, left + BLOCK))
        out[rows, cols] = values[rows.start - top : rows.stop - top, cols.start - left : cols.stop - left]


def ceiling(files: dict[str, str], threads: int) -> dict[str, NDArray[Any]]:
    """The same, decoded by two threads at a time, and nothing checked: what a reader in Python may hope for."""
    connections, decoder, turn = Connections(), Decoder(), threading.BoundedSemaphore(DECODERS)

    def read(path: str) -> NDArray[Any]:
        out = np.empty((REGION, REGION), "u1" if MASK in path else "<u2")
        for group, body in bodies(connections, files[path]):
            with turn:
                for block in group:
                    start = block.start - group[0].start
                    decoder.paste(block, memoryview(body)[start : start + block.size], out)
        return out

    with ThreadPoolExecutor(threads) as pool:
        return dict(zip(files, pool.map(read, files), strict=True))


def rasterio_alone(files: dict[str, str], threads: int) -> dict[str, NDArray[Any]]:
    """Read by rasterio in threads, with the options that GDAL's manual gives for COGs."""
    import rasterio
    from rasterio.windows import Window

    def read(href: str) -> NDArray[Any]:
        with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", GDAL_NUM_THREADS="1"), rasterio.open(href) as file:
            values: NDArray[Any] = file.read(1, window=Window(COL, ROW, REGION, REGION))
            return values

    with ThreadPoolExecutor(threads) as pool:
        return dict(zip(files, pool.map(read, files.values()), strict=True))


def eearth_alone(files: dict[str, str], threads: int) -> dict[str, NDArray[Any]]:
    """Read by eearth's own reader in threads, as its download calls it."""
    from rasterio.crs import CRS
    from rasterio.transform import from_origin

    from eearth.geo.grid import Grid
    from eearth.geo.providers import Source
    from eearth.geo.raster import read_onto

    left, _, _, top = bounds()
    grid = Grid(CRS.from_epsg(EPSG), from_origin(left, top, PIXEL, PIXEL), REGION, REGION)

    def read(href: str) -> NDArray[Any]:
        return read_onto(Source(href, 1, 1.0, 0.0, 0, None), grid, "bilinear").values  # noqa: PD011

    with ThreadPoolExecutor(threads) as pool:
        return dict(zip(files, pool.map(read, files.values()), strict=True))


def items_of(catalog: Path) -> list[Any]:
    """The catalog's items in order of time."""
    import pystac

    return [pystac.Item.from_file(str(path)) for path in sorted(catalog.parent.glob("items/*.json"))]


def odc_cube(catalog: Path, output: Path, threads: int, *, lazy: bool, tuned: bool) -> None:
    """By odc-stac: at once into memory by a pool of threads, or lazily by dask's threads; then `to_zarr`."""
    import odc.stac
    from odc.geo.geobox import GeoBox

    left, bottom, right, top = bounds()
    odc.stac.configure_rio(cloud_defaults=True)
    how: dict[str, Any] = {"chunks": {"x": REGION, "y": REGION}} if lazy else {"pool": threads}
    data = odc.stac.load(
        items_of(catalog),
        bands=[*BANDS, MASK],
        geobox=GeoBox.from_bbox((left, bottom, right, top), crs=f"EPSG:{EPSG}", resolution=PIXEL, tight=True),
        **how,
    )
    store(data.drop_vars(MASK).assign(valid=data[MASK].isin(CLEAR)), output, threads, tuned=tuned)


def stackstac_cube(catalog: Path, output: Path, threads: int, *, tuned: bool) -> None:
    """By stackstac with dask's threads; then `to_zarr`."""
    import pandas as pd
    import stackstac
    from rasterio.enums import Resampling

    # stackstac 0.5.0 passes an argument that pandas 3 no longer knows, and that changed nothing since pandas 2.
    parse = pd.to_datetime
    pd.to_datetime = lambda times, infer_datetime_format=True, **how: parse(times, **how)  # noqa: ARG005
    data = stackstac.stack(
        items_of(catalog),
        assets=[*BANDS, MASK],
        epsg=EPSG,
        resolution=PIXEL,
        bounds=bounds(),
        dtype=np.dtype("uint16"),
        fill_value=np.uint16(0),
        rescale=False,
        resampling=Resampling.nearest,
        xy_coords="center",
    )
    data = data.drop_vars([name for name in data.coords if name not in data.dims])
    data.attrs.clear()
    bands = data.sel(band=list(BANDS)).to_dataset("band")
    store(bands.assign(valid=data.sel(band=MASK, drop=True).isin(CLEAR)), output, threads, tuned=tuned)


def store(data: Any, output: Path, threads: int, *, tuned: bool) -> None:
    """Write a dataset as Zarr; what is lazy is read by this many threads meanwhile.

    Args:
        data: The dataset.
        output: Where.
        threads: See above.
        tuned: With the codec that eearth writes, which takes a quarter of the time of xarray's default, Zstandard.
    """
    import dask
    from numcodecs import Blosc

    codec = {"compressors": Blosc(cname="lz4", clevel=5, shuffle=Blosc.BITSHUFFLE)}
    how: dict[str, Any] = {"zarr_format": 2, "encoding": dict.fromkeys(data.data_vars, codec)} if tuned else {}
    with ThreadPoolExecutor(threads) as pool, dask.config.set(scheduler="threads", pool=pool):
        data.to_zarr(output, mode="w", consolidated=True, **how)


CUBES: dict[str, Callable[..., None]] = {
    "odc-stac pool": partial(odc_cube, lazy=False),
    "odc-stac dask": partial(odc_cube, lazy=True),
    "stackstac dask": stackstac_cube,
}
TUNED = " lz4"
READERS: dict[str, Callable[[dict[str, str], int], dict[str, NDArray[Any]] | None]] = {
    "the wire": wire,
    "the ceiling": ceiling,
    "rasterio": rasterio_alone,
    "eearth reader": eearth_alone,
}
IMPORTS = {
    "odc-stac pool": ("odc.stac", "dask.array", "zarr", "rasterio"),
    "odc-stac dask": ("odc.stac", "dask.array", "zarr", "rasterio"),
    "stackstac dask": ("stackstac", "dask.array", "zarr", "rasterio", "pystac"),
    "the wire": (),
    "the ceiling": ("imagecodecs",),
    "rasterio": ("rasterio.windows",),
    "eearth reader": ("eearth.geo.raster", "eearth.geo.providers"),
}


def checksums(output: Path) -> dict[str, list[int]]:
    """Band → crc32 of each date of a finished cube, of eearth or of xarray; `valid` is the mask."""
    import zarr

    root = zarr.open_group(output, mode="r")
    if "reflectance" in root:
        together = root["reflectance"][:]
        arrays = {str(name): together[:, number] for number, name in enumerate(root["band"][:])} | {
            "valid": root["valid"][:]
        }
    else:
        arrays = {name: root[name][:] for name in (*BANDS, "valid")}
    return {name: [zlib.crc32(np.ascontiguousarray(date)) for date in values] for name, values in arrays.items()}


def main() -> None:
    """Do what one contender does and say what it took."""
    name, threads, catalog = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    if name == "check":
        print(json.dumps(checksums(catalog)))
        return
    library = name.removesuffix(TUNED)
    for module in IMPORTS[library]:
        __import__(module)
    before, begun = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    if library in CUBES:
        CUBES[library](catalog, Path(sys.argv[4]), threads, tuned=library != name)
        found = None
    else:
        found = READERS[name](hrefs(catalog), threads)
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({
        "seconds": seconds,
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "rss": after.ru_maxrss * 1024,
        "crc": {path: zlib.crc32(values) for path, values in found.items()} if found else None,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
