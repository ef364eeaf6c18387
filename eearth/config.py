"""Every setting of every stage: its default, written once, with its sentence beside it.

A setting comes from, in falling order of precedence: the command line, the environment (`EEARTH_<STAGE>_<SETTING>`),
the stage's table in the workspace's `eearth.toml`, and the default below. The command line is generated from these
classes.
"""

from __future__ import annotations

import difflib
import os
import tomllib
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from eearth.errors import UsageError

SETTINGS_FILE = "eearth.toml"

# The ten bands of Sentinel-2 at 10 and 20 m, by the common names of the STAC eo extension.
SENTINEL_2_BANDS = (
    "blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "swir16", "swir22",
)  # fmt: skip


BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def setting(default: Any = MISSING, *, text: str, argument: bool = False, below: float = 0.0) -> Any:
    """A dataclass field with its sentence: a positional `argument`, or an option that must not fall below `below`."""
    return field(default=default, metadata={"text": text, "argument": argument, "below": below})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all stages' settings share.

    Attributes:
        origins: Setting → flag, environment or file, for what did not come from the default; empty for a plain
            Python call.
    """

    stage: ClassVar[str]
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False, metadata={"hidden": True})

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready settings."""
        return {name: _plain(getattr(self, name)) for name in setting_names(type(self))}

    def __post_init__(self) -> None:
        """Refuse a number below its range, wherever it came from."""
        for item in _shown(type(self)):
            value = getattr(self, item.name)
            if isinstance(value, int | float) and value < item.metadata.get("below", 0.0):
                msg = f"expected {item.name} >= {item.metadata['below']:g}, found {value}"
                raise UsageError(msg)


@dataclass(frozen=True, kw_only=True)
class DownloadSettings(Settings):
    """Imagery of a region: STAC search → one clean data cube."""

    stage: ClassVar[str] = "download"
    region: Path = setting(text="Polygon file that geopandas reads: GeoJSON, GPKG, Shapefile ...", argument=True)
    catalog: str = setting(
        "https://earth-search.aws.element84.com/v1", text="STAC API by URL, or a static STAC catalog by URL or path."
    )
    collection: str | None = setting(
        None, text="Collection id. Default: sentinel-2-l2a, or the only collection of a static catalog."
    )
    datetime: str | None = setting(
        None, text="A year (2024), a month (2024-05), a day, or START/END. Default: the last full calendar year."
    )
    bands: tuple[str, ...] = setting(
        SENTINEL_2_BANDS, text="Bands by asset key, common name or eo:bands name, separated by commas."
    )
    max_cloud: float = setting(60.0, text="Leave out scenes with a higher eo:cloud_cover, in percent.")
    resolution: float = setting(
        10.0, below=1e-9, text="Pixel size in units of the CRS; with --grid native, the source grid nearest to it."
    )
    crs: str | None = setting(None, text="CRS of the cube, such as EPSG:32633. Default: the UTM zone of the region.")
    grid: Literal["snap", "native"] = setting(
        "snap", text="snap: edges on whole multiples of the resolution; native: the source's own grid, no resampling."
    )
    resampling: Literal["bilinear", "nearest"] = setting(
        "bilinear", text="How reflectance on another grid is warped; masks are always taken from the nearest pixel."
    )
    mask_asset: str | None = setting(
        None, text="Asset that classifies pixels; 'none' for no mask. Default: scl where the scenes have it."
    )
    mask_valid: tuple[int, ...] = setting(
        (4, 5, 6, 7, 11),
        text="Values of the mask asset that are a clear observation; default: vegetation, soil, water, unclassified, "
        "snow of the Sentinel-2 scene classification.",
    )
    workers: int = setting(8, below=1, text="Assets read at the same time.")


@dataclass(frozen=True, kw_only=True)
class RasterizeSettings(Settings):
    """Ground-truth polygons → labels on the imagery's grid, and a leak-free split."""

    stage: ClassVar[str] = "rasterize"
    labels: Path = setting(text="Polygons or points with a class column: GPKG, GeoJSON, Shapefile ...", argument=True)
    class_column: str = setting("class", text="Column with the class names.")
    skip_null: bool = setting(False, text="Leave out features without a class instead of refusing the file.")
    all_touched: bool = setting(
        False, text="Burn every pixel that a polygon touches, instead of those whose centre lies inside."
    )
    block_size: float | None = setting(
        None, text="Side of a split block in metres. Default: chosen from the region's size."
    )
    buffer: float | None = setting(
        None, text="Least distance in metres between pixels of different parts. Default: three pixels."
    )
    test_fraction: float = setting(0.25, text="Share of the labelled pixels to test on.")
    validation_fraction: float = setting(0.15, text="Share of the labelled pixels to validate on.")
    seed: int = setting(0, text="Seed of the split.")


SETTINGS: dict[str, type[Settings]] = {cls.stage: cls for cls in (DownloadSettings, RasterizeSettings)}

S = TypeVar("S", bound=Settings)


def _shown(cls: type[Settings]) -> list[Any]:
    return [item for item in fields(cls) if not item.metadata.get("hidden")]


def setting_names(cls: type[Settings]) -> list[str]:
    """Names of a stage's settings, in the order of declaration."""
    return [item.name for item in _shown(cls)]


def setting_types(cls: type[Settings]) -> dict[str, Any]:
    """Setting → its type."""
    hints = get_type_hints(cls)
    return {name: hints[name] for name in setting_names(cls)}


def resolve(cls: type[S], flags: Mapping[str, Any], workspace: Path) -> S:
    """Combine flags, environment, `eearth.toml` and defaults.

    Args:
        cls: The stage's settings.
        flags: Setting → value, for those given on the command line.
        workspace: Folder that may hold an `eearth.toml`.

    Raises:
        UsageError: An unknown setting, or a value of the wrong type.
    """
    layers = {
        "file": _from_file(cls, workspace / SETTINGS_FILE),
        "environment": _from_environment(cls),
        "flag": dict(flags),
    }
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, layer in layers.items():
        for name, raw in layer.items():
            values[name] = parse(raw, setting_types(cls)[name], f"{name} ({origin})")
            origins[name] = origin
    missing = [item.name for item in _shown(cls) if item.default is MISSING and item.name not in values]
    if missing:
        msg = f"expected a value for {', '.join(missing)}: see `eearth {cls.stage} --help`"
        raise UsageError(msg)
    return cls(**values, origins=origins)


def _from_environment(cls: type[Settings]) -> dict[str, str]:
    prefix = f"EEARTH_{cls.stage.upper()}_"
    found = {key.removeprefix(prefix).lower(): value for key, value in os.environ.items() if key.startswith(prefix)}
    _refuse_unknown(found, cls, "the environment", prefix)
    return found


def _from_file(cls: type[Settings], path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"expected TOML in {path}, found: {error}"
        raise UsageError(msg) from error
    for name in tables:
        if name not in SETTINGS or not isinstance(tables[name], dict):
            msg = f"expected one table a stage ({', '.join(SETTINGS)}) in {path}, found {name!r}"
            raise UsageError(msg)
    found: dict[str, Any] = tables.get(cls.stage, {})
    _refuse_unknown(found, cls, str(path), "")
    return found


def _refuse_unknown(found: Mapping[str, Any], cls: type[Settings], where: str, prefix: str) -> None:
    known = setting_names(cls)
    for name in found:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = (
                f"did you mean {prefix}{near[0].upper() if prefix else near[0]}?"
                if near
                else f"known: {', '.join(known)}"
            )
            msg = f"{where} sets {prefix}{name.upper() if prefix else name}, which {cls.stage} does not have; {hint}"
            raise UsageError(msg)


def parse(raw: Any, kind: Any, name: str) -> Any:
    """Turn a flag's, variable's or TOML value into the type of its setting.

    Raises:
        UsageError: The value does not fit the type.
    """
    try:
        return _parse(raw, kind)
    except (TypeError, ValueError, KeyError) as error:
        msg = f"expected {describe(kind)} for {name}, found {raw!r}"
        raise UsageError(msg) from error


def _parse(raw: Any, kind: Any) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        inner = next(argument for argument in arguments if argument is not types.NoneType)
        return None if raw is None else _parse(raw, inner)
    if origin is Literal:
        return _one_of(raw, arguments)
    if origin is tuple:
        parts = raw.split(",") if isinstance(raw, str) else list(raw)
        values = tuple(_parse(part.strip() if isinstance(part, str) else part, arguments[0]) for part in parts)
        if not values or "" in values:
            raise ValueError(raw)
        return values
    return _scalar(raw, kind)


def _one_of(raw: Any, choices: tuple[Any, ...]) -> Any:
    if raw not in choices:
        raise ValueError(raw)
    return raw


def _scalar(raw: Any, kind: Any) -> Any:
    if kind is bool:
        return raw if isinstance(raw, bool) else BOOLEANS[str(raw).lower()]
    if isinstance(raw, bool) or (kind is int and isinstance(raw, float)):
        raise TypeError(raw)
    return kind(str(raw)) if kind is Path else kind(raw)


def describe(kind: Any) -> str:
    """A type in a user's words: `a number`, `snap|native`, `values separated by commas`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return describe(next(argument for argument in arguments if argument is not types.NoneType))
    if origin is Literal:
        return "|".join(arguments)
    if origin is tuple:
        return f"{describe(arguments[0])}, or several separated by commas"
    return {int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}.get(kind, "text")


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value
