"""Geometries as files hold them → valid polygons and points in two dimensions, without a loop over features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from eearth.errors import LabelError
from eearth.events import Note, Report, Warned

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

AREA = 2  # the dimension of a polygon


def clean_geometries(labels: gpd.GeoDataFrame, path: Path, report: Report) -> gpd.GeoDataFrame:
    """Drop heights and empty geometries, repair invalid polygons, take collections apart, refuse what has no pixels.

    A collection counts as its polygons and as its points: one with both becomes two rows of the same index.

    Args:
        labels: Any geometries; curves are straight lines already, as pyogrio reads them.
        path: The file, for messages.
        report: Hears of everything that was left out or repaired.

    Raises:
        LabelError: There are lines, or nothing that can be used.
    """
    geometries = labels.geometry.to_numpy()
    raised = shapely.has_z(geometries)
    if raised.any():  # a flat copy of a million polygons takes half a gigabyte
        geometries = np.where(raised, shapely.force_2d(np.where(raised, geometries, None)), geometries)
    there = ~(shapely.is_missing(geometries) | shapely.is_empty(geometries))
    if not there.all():
        report(Warned(text=f"{int((~there).sum())} features of {path} have no geometry and are left out"))
    labels = labels[there].set_geometry(_series(geometries[there], labels[there]))
    _refuse_lines(labels.geometry.to_numpy(), path)
    labels = _mended(_apart(labels, path, report), path, report)
    if labels.empty:
        msg = f"expected labelled polygons or points in {path}, found none that can be used: give another file"
        raise LabelError(msg)
    return labels


def _series(geometries: NDArray[Any], like: gpd.GeoDataFrame) -> gpd.GeoSeries:
    return gpd.GeoSeries(geometries, index=like.index, crs=like.crs)


def _refuse_lines(geometries: NDArray[Any], path: Path) -> None:
    """Lines cover no pixels: which ones they mean is not ours to guess."""
    linear = shapely.get_dimensions(geometries) == 1
    if not linear.any():
        return
    kinds = sorted({geometry.geom_type for geometry in geometries[linear][:1000]})
    msg = (
        f"expected polygons or points in {path}, found {int(linear.sum())} of the type {', '.join(kinds)}: "
        "turn them into polygons (a buffer of half their width on the ground) or leave them out"
    )
    raise LabelError(msg)


def _apart(labels: gpd.GeoDataFrame, path: Path, report: Report) -> gpd.GeoDataFrame:
    """The same rows, with collections as their polygons and their points."""
    geometries = labels.geometry.to_numpy()
    mixed = shapely.get_type_id(geometries) == shapely.GeometryType.GEOMETRYCOLLECTION
    if not mixed.any():
        return labels
    rows = labels[mixed]
    parts = [rows.set_geometry(_series(_parts_of(geometries[mixed], dimension), rows)) for dimension in (0, AREA)]
    lines = int((~shapely.is_empty(_parts_of(geometries[mixed], 1))).sum())
    if lines:
        report(Note(text=f"{lines} collections of {path} hold lines beside polygons or points; the lines are left out"))
    kept = [part[~shapely.is_empty(part.geometry.to_numpy())] for part in parts]
    flat = len(rows) - len(set(kept[0].index) | set(kept[1].index))
    if flat:
        report(Warned(text=f"{flat} collections of {path} hold neither an area nor a point and are left out"))
    return gpd.GeoDataFrame(pd.concat([labels[~mixed], *kept]), crs=labels.crs).sort_index(kind="stable")


def _parts_of(geometries: NDArray[Any], dimension: int) -> NDArray[Any]:
    """For each geometry the union of its parts of one dimension; an empty collection where it has none.

    Polygons are repaired one by one: to repair them together would cut out what two of them share.
    """
    parts, owners = _flattened(geometries)
    if dimension == AREA:
        broken = ~shapely.is_valid(parts)
        parts[broken] = shapely.make_valid(parts[broken])
        parts, inside = _flattened(parts)
        owners = owners[inside]
    wanted = shapely.get_dimensions(parts) == dimension
    order = np.argsort(owners[wanted], kind="stable")
    gathered = np.full(len(geometries), shapely.GeometryCollection())
    shapely.geometrycollections(parts[wanted][order], indices=owners[wanted][order], out=gathered)
    return np.asarray(shapely.union_all(gathered[:, None], axis=1))


def _flattened(geometries: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """(single polygons, lines and points, to which geometry each belongs)."""
    parts, owners = shapely.get_parts(geometries, return_index=True)
    while (nested := shapely.get_type_id(parts) >= shapely.GeometryType.MULTIPOINT).any():
        inner, inside = shapely.get_parts(parts[nested], return_index=True)
        parts = np.concatenate([parts[~nested], inner])
        owners = np.concatenate([owners[~nested], owners[nested][inside]])
    return parts, owners


def _mended(labels: gpd.GeoDataFrame, path: Path, report: Report) -> gpd.GeoDataFrame:
    """Valid polygons; those without an area, and those that lie nowhere, are left out."""
    geometries = labels.geometry.to_numpy().copy()
    broken = np.flatnonzero(~shapely.is_valid(geometries))
    if not broken.size:
        return labels
    nowhere = ~np.isfinite(_largest(geometries[broken]))
    if nowhere.any():
        report(Warned(text=f"{int(nowhere.sum())} features of {path} have infinite coordinates and are left out"))
        geometries[broken[nowhere]] = shapely.GeometryCollection()
    crossing = broken[~nowhere]
    if crossing.size:
        report(Warned(text=f"{crossing.size} polygons of {path} are invalid (they cross themselves) and are repaired"))
        geometries[crossing] = _parts_of(geometries[crossing], AREA)
    flat = int(shapely.is_empty(geometries[crossing]).sum())
    if flat:
        report(Warned(text=f"{flat} polygons of {path} have no area and are left out"))
    there = ~shapely.is_empty(geometries)
    return labels[there].set_geometry(_series(geometries[there], labels[there]))


def _largest(geometries: NDArray[Any]) -> NDArray[np.float64]:
    """The largest coordinate of each geometry; not finite where any is not."""
    coordinates, owners = shapely.get_coordinates(geometries, return_index=True)
    largest = np.zeros(len(geometries))
    np.maximum.at(largest, owners, np.abs(coordinates).max(axis=1))
    return largest
