"""Providers as data: the tables of `providers.toml` and of the user, and which of them fits a collection."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

from eearth.config import parse, suggestion
from eearth.errors import UsageError
from eearth.geo.signing import Access
from eearth.manifest import redacted

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from numpy.typing import NDArray

T = TypeVar("T", bound="DataclassInstance")

# The table that is taken where no other fits.
GENERIC = "generic"

# Tables that take over the entries of the table they extend one by one; all else is taken over or replaced whole.
MERGED = ("access", "aliases")


@dataclass(frozen=True)
class MaskRule:
    """Which numbers of a mask asset are a clear observation of the ground.

    Attributes:
        values: Clear values.
        bits: Instead of values: bits, from 0, of which a clear value has none set.
        fill: With bits: values that mean "nothing there".
    """

    values: tuple[int, ...] = ()
    bits: tuple[int, ...] = ()
    fill: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a rule that says nothing, or two things."""
        if bool(self.values) == bool(self.bits):
            msg = f"expected either values or bits in a mask_rule, found {'both' if self.values else 'neither'}"
            raise UsageError(msg)

    def clear(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """True where the numbers of the mask are clear, in their shape."""
        if values.dtype == np.uint8:  # asked of each of 256 numbers instead of each pixel
            found: NDArray[np.bool_] = self._clear(np.arange(256, dtype=np.int64))[values]
            return found
        return self._clear(values)

    def _clear(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        if self.values:
            return np.isin(values, self.values)
        flags = np.int64(sum(1 << bit for bit in self.bits))
        clear: NDArray[np.bool_] = (values.astype(np.int64) & flags == 0) & ~np.isin(values, self.fill)
        return clear


@dataclass(frozen=True)
class Provider:
    """What some collections of some catalogs have in common. Plain data, without a secret in it.

    Attributes:
        name: What the user calls it.
        catalogs: Patterns of catalog addresses; none: any.
        collections: Patterns of collection ids; none: any.
        bands: The bands of a cube where the user names none.
        resolution: Pixel size of the cube in metres where the user names none; where a band comes at several
            resolutions, the one nearest to this is read.
        aliases: Band name → asset key, common name or band name that items have instead.
        mask_assets: Keys of the asset that classifies pixels, in order of preference.
        mask_rule: How that asset classifies; None where there is none.
        scale: reflectance = DN x scale + offset; None: as the item announces.
        offset: See scale; a number here is never doubted.
        nodata: Value of the bands that means "no data"; None: as the item or the file says.
        valid_range: Lowest and highest DN that is a trustworthy reflectance; none: every DN.
        offset_rule: Who is believed about the Sentinel-2 offset, see `radiometry`.
        alternate: Name of the alternate address (`alternate` of an asset) to read instead of the asset's own.
        access: How files are read.
    """

    name: str
    catalogs: tuple[str, ...] = ()
    collections: tuple[str, ...] = ()
    bands: tuple[str, ...] = ()
    resolution: float = 10.0
    aliases: Mapping[str, str] = field(default_factory=dict, hash=False)
    mask_assets: tuple[str, ...] = ()
    mask_rule: MaskRule | None = None
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None
    valid_range: tuple[float, ...] = ()
    offset_rule: Literal["announced", "sentinel-2", "sentinel-2-baseline", "earth-search"] = "announced"
    alternate: str | None = None
    access: Access = field(default_factory=Access)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, without what is empty."""
        return _plain(asdict(self))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Provider:
        """Read a provider from a table or from what `as_dict` gave.

        Raises:
            UsageError: An unknown key, or a value of the wrong type.
        """
        return _from_table(cls, data, f"[providers.{data.get('name', '')}]")

    def fits(self, catalog: str, collection: str) -> bool:
        """Whether this describes a collection of a catalog; one that names neither describes none."""
        address = redacted(catalog).rstrip("/") + "/"
        return bool(self.catalogs or self.collections) and all(
            not patterns or any(fnmatchcase(text, pattern) for pattern in patterns)
            for text, patterns in ((address, self.catalogs), (collection, self.collections))
        )


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    shown = {key: _plain(value) if isinstance(value, dict) else value for key, value in data.items()}
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in shown.items()
        if value is not None and value not in ((), {}, "")
    }


def _from_table(cls: type[T], table: Mapping[str, Any], where: str) -> T:
    """A dataclass from a TOML table or a JSON object; a field that is itself a dataclass is a table in it.

    Args:
        cls: The dataclass; its fields' types are checked.
        table: Field → value.
        where: How a user calls the table.

    Raises:
        UsageError: An unknown or missing field, or a value of the wrong type.
    """
    hints = get_type_hints(cls)
    for name in table:
        if name not in hints:
            msg = f"{where} sets {name}, which is not known there; {suggestion(name, list(hints))}"
            raise UsageError(msg)
    needed = [each.name for each in fields(cls) if each.default is MISSING and each.default_factory is MISSING]
    lacking = [name for name in needed if name not in table]
    if lacking:
        msg = f"expected {', '.join(lacking)} in {where}, found {', '.join(table) or 'nothing'}"
        raise UsageError(msg)
    return cls(**{name: _part(raw, hints[name], name, where) for name, raw in table.items()})


def _part(raw: Any, kind: Any, name: str, where: str) -> Any:
    """One field's value, which may be a table."""
    inner = next((part for part in get_args(kind) if is_dataclass(part)), kind)
    nested = is_dataclass(inner) or get_origin(kind) is Mapping
    if not nested:
        return parse(raw, kind, f"{name} in {where}")
    if not isinstance(raw, Mapping):
        msg = f"expected a table for {name} in {where}, found {raw!r}"
        raise UsageError(msg)
    if isinstance(inner, type) and is_dataclass(inner):
        return _from_table(inner, raw, f"{name} of {where}")
    return {key: parse(value, get_args(kind)[1], f"{key} in {name} of {where}") for key, value in raw.items()}


@cache
def _builtin() -> dict[str, dict[str, Any]]:
    return tomllib.loads((files("eearth.geo") / "providers.toml").read_text(encoding="utf-8"))


def provider_names() -> list[str]:
    """Names of the built-in providers, in the order in which they are tried."""
    return list(_builtin())


def find_provider(name: str | None, catalog: str, collection: str, custom: Mapping[str, Mapping[str, Any]]) -> Provider:
    """The provider by its name; else the first that fits, of the user's own and then of the built-in ones.

    Args:
        name: Name of a built-in provider or of one of the user's; None to find it.
        catalog: Address or path of the catalog.
        collection: Collection id.
        custom: The user's tables by name, with the keys of `Provider`, and `extends` for the name of another table.

    Raises:
        UsageError: There is no provider of this name, or a table of the user's is not one.
    """
    for own in custom:
        if own in _builtin():
            msg = f"expected a new name instead of [providers.{own}], which is built in: extend it under another name"
            raise UsageError(msg)
    tables = {**custom, **_builtin()}
    providers = {each: Provider.from_dict({**_resolved(each, tables, ()), "name": each}) for each in tables}
    if name is not None:
        if name not in providers:
            msg = f"expected a provider, found {name!r}; {suggestion(name, list(providers))}"
            raise UsageError(msg)
        return providers[name]
    return next((each for each in providers.values() if each.fits(catalog, collection)), providers[GENERIC])


def _resolved(name: str, tables: Mapping[str, Mapping[str, Any]], path: tuple[str, ...]) -> dict[str, Any]:
    """A table with all that it takes over."""
    if name not in tables or name in path:
        what = "one that does not lead back" if name in path else suggestion(name, list(tables))
        msg = f"expected a provider to extend in [providers.{path[-1]}], found {name!r}; {what}"
        raise UsageError(msg)
    table = dict(tables[name])
    base = _resolved(str(table.pop("extends")), tables, (*path, name)) if "extends" in table else {}
    for key in MERGED:
        if isinstance(table.get(key), Mapping):
            table[key] = _merged(key, base, table[key], tables, (*path, name))
    return {**base, **table}


def _merged(
    key: str, base: dict[str, Any], own: Mapping[str, Any], tables: Mapping[str, Any], path: tuple[str, ...]
) -> dict[str, Any]:
    """A table in a table: what it takes over from the same one of its base, or of the one that it extends itself."""
    if "extends" in own:
        base = _resolved(str(own["extends"]), tables, path)
    return {**base.get(key, {}), **{name: value for name, value in own.items() if name != "extends"}}
