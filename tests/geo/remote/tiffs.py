"""GeoTIFFs of every kind that rasterio writes, for hypothesis to choose among."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
import rasterio.shutil
from hypothesis import strategies as st
from rasterio.enums import ColorInterp
from rasterio.transform import Affine
from rasterio.windows import Window as RasterioWindow

from eearth.geo.grid import Window

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

COMPRESSIONS = ("DEFLATE", "LZW", "ZSTD", "NONE", "LERC", "PACKBITS", "JPEG", "LERC_DEFLATE", "LZMA")
DTYPES = ("uint8", "uint16", "uint32", "int16", "float32")
FACTS = ("crs", "transform", "shape", "dtypes", "nodatavals", "colorinterp", "interleaving", "scales", "offsets")
_numbers = itertools.count()


@dataclass(frozen=True)
class Form:
    """What a file is like. What GDAL cannot write together is brought into line by `allowed`."""

    dtype: str
    compress: str
    predictor: int
    bands: int
    interleave: str
    big_endian: bool
    bigtiff: bool
    sparse: bool
    nodata: bool
    mask: bool
    alpha: bool
    overviews: bool
    colours: bool
    cog: bool
    tile: int
    height: int
    width: int
    seed: int

    def allowed(self) -> Form:
        changes: dict[str, Any] = {}
        whole = self.dtype != "float32"
        if self.compress not in ("DEFLATE", "LZW", "ZSTD") or (self.predictor == 3) is whole:
            changes["predictor"] = 1
        if self.compress == "JPEG":
            changes |= {"dtype": "uint8", "nodata": False, "alpha": False}
        if self.bands == 1 or self.cog:
            changes |= {"interleave": "pixel"}
        if self.bands != 1 or changes.get("dtype", self.dtype) != "uint8" or self.compress == "JPEG":
            changes["colours"] = False
        if self.bands != 3:
            changes["alpha"] = False
        if self.mask:
            changes |= {"alpha": False, "nodata": False, "sparse": False}
        if self.cog:
            changes |= {"colours": False, "mask": False, "big_endian": False, "sparse": False}
            if self.compress == "PACKBITS":
                changes["compress"] = "DEFLATE"
        return replace(self, **changes)


# The commonest kind: one band of whole numbers, compressed.
PLAIN = Form(
    dtype="uint16", compress="DEFLATE", predictor=2, bands=1, interleave="pixel", big_endian=False, bigtiff=False,
    sparse=False, nodata=True, mask=False, alpha=False, overviews=False, colours=False, cog=False, tile=128,
    height=700, width=700, seed=1,
)  # fmt: skip


def plain(**changes: Any) -> Form:
    """The commonest kind but for some properties."""
    return replace(PLAIN, **changes).allowed()


def forms(**fixed: Any) -> st.SearchStrategy[Form]:
    """Forms, some of whose properties are given."""
    drawn: dict[str, st.SearchStrategy[Any]] = {
        "dtype": st.sampled_from(DTYPES),
        "compress": st.sampled_from(COMPRESSIONS),
        "predictor": st.sampled_from((1, 2, 3)),
        "bands": st.sampled_from((1, 1, 3)),
        "interleave": st.sampled_from(("pixel", "band")),
        "tile": st.sampled_from((64, 128, 256)),
        "height": st.integers(1, 300),
        "width": st.integers(1, 300),
        "seed": st.integers(0, 9),
    }
    switches = ("big_endian", "bigtiff", "sparse", "nodata", "mask", "alpha", "overviews", "colours", "cog")
    drawn |= {name: st.booleans() for name in switches}
    drawn |= {name: st.just(value) for name, value in fixed.items()}
    return st.builds(Form, **drawn).map(Form.allowed)


def windows(height: int, width: int) -> st.SearchStrategy[Window]:
    """Windows inside an image."""

    def span(length: int) -> st.SearchStrategy[tuple[int, int]]:
        return st.tuples(st.integers(0, length - 1), st.integers(0, length - 1)).map(
            lambda ends: (min(ends), max(ends) - min(ends) + 1)
        )

    return st.builds(lambda rows, cols: Window(rows[0], cols[0], rows[1], cols[1]), span(height), span(width))


def content(form: Form) -> NDArray[Any]:
    """(band, y, x) of smooth noise, the first rows of it zero."""
    rng = np.random.default_rng(form.seed)
    values = rng.integers(0, 250, (form.bands, form.height, form.width)).cumsum(axis=2) % 251
    values[:, : form.height // 4] = 0
    return (values * 1.5 if form.dtype == "float32" else values).astype(form.dtype)


def write_form(folder: Path, form: Form) -> Path:
    """A file of that form."""
    path = folder / f"{next(_numbers)}.tif"
    options = {
        "driver": "GTiff", "dtype": form.dtype, "count": form.bands, "height": form.height, "width": form.width,
        "crs": "EPSG:32633", "transform": Affine(10, 0, 500_000, 0, -10, 5_000_000), "tiled": True,
        "blockxsize": form.tile, "blockysize": form.tile, "compress": form.compress, "interleave": form.interleave,
        "nodata": 7 if form.nodata else None, "SPARSE_OK": form.sparse, "BIGTIFF": "YES" if form.bigtiff else "NO",
        "ENDIANNESS": "BIG" if form.big_endian else "LITTLE",
    }  # fmt: skip
    if form.predictor != 1:
        options["predictor"] = form.predictor
    if form.alpha:
        options |= {"photometric": "MINISBLACK", "ALPHA": "YES"}
    values = content(form)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **options) as file:
        step = form.tile
        for row, col in itertools.product(range(0, form.height, step), range(0, form.width, step)):
            if form.sparse and (row // step + col // step + form.seed) % 2:
                continue
            part = values[:, row : row + step, col : col + step]
            file.write(part, window=RasterioWindow(col, row, part.shape[2], part.shape[1]))
        if form.colours:
            file.write_colormap(1, {number: (number, 255 - number, 0, 255) for number in range(256)})
        if form.alpha:
            file.colorinterp = (ColorInterp.gray, ColorInterp.undefined, ColorInterp.alpha)
        if form.mask:
            file.write_mask(values[0] % 3 > 0)
    if form.overviews and not form.cog and min(form.height, form.width) > 8:
        with rasterio.open(path, "r+") as file:
            file.build_overviews([2, 4])
    return as_cog(path, form) if form.cog else path


def as_cog(path: Path, form: Form) -> Path:
    plain = shutil.move(path, path.with_suffix(".plain.tif"))
    rasterio.shutil.copy(
        plain, path, driver="COG", COMPRESS=form.compress, BLOCKSIZE=form.tile,
        PREDICTOR="NO" if form.predictor == 1 else "YES", BIGTIFF="YES" if form.bigtiff else "NO",
        OVERVIEWS="AUTO" if form.overviews else "NONE",
    )  # fmt: skip
    return path


def facts(file: Any) -> dict[str, Any]:
    """What a dataset says of itself that a reader of its pixels may want to know."""
    said = {name: getattr(file, name) for name in FACTS}
    return said | {"colours": file.colormap(1) if ColorInterp.palette in file.colorinterp else None}
