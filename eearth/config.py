"""Where a setting's value comes from, and how it is read.

A setting comes from, in falling order of precedence: the command line, the environment (`EEARTH_<STAGE>_<SETTING>`),
the stage's table in the workspace's `eearth.toml`, and its default.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import os
import tomllib
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from eearth.errors import UsageError
from eearth.manifest import redacted

SETTINGS_FILE = "eearth.toml"

# The one table of the file that is no stage's: the user's descriptions of providers.
PROVIDERS = "providers"

# What torchrun, or a cluster's launcher, tells each of the processes that it starts together.
LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def setting(
    default: Any = MISSING,
    *,
    text: str,
    argument: bool = False,
    least: float = 0.0,
    most: float = math.inf,
    incidental: bool = False,
) -> Any:
    """A dataclass field with its sentence.

    Args:
        default: Its default; a setting without one must be given.
        text: The sentence.
        argument: Positional on the command line.
        least: A number's lowest value.
        most: A number's highest value.
        incidental: Says how to work, or where an input lies, and not what to make: another value leaves finished
            artifacts as they are (the content of an input counts by its digest).
    """
    metadata = {"text": text, "argument": argument, "least": least, "most": most, "incidental": incidental}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all stages' settings share.

    Attributes:
        origins: Setting → flag, environment, file or call (plain Python), for what did not come from the default.
    """

    stage: ClassVar[str]
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False, metadata={"hidden": True})

    def what(self) -> dict[str, Any]:
        """JSON-ready settings that say what to make, without secrets in addresses."""
        return {item.name: _plain(getattr(self, item.name)) for item in _shown(type(self)) if not _incidental(item)}

    def how(self) -> dict[str, Any]:
        """JSON-ready settings that only say how to work, or where an input lies."""
        return {item.name: _plain(getattr(self, item.name)) for item in _shown(type(self)) if _incidental(item)}

    def called(self, name: str) -> str:
        """A setting as whoever chose it wrote it."""
        origin = self.origins.get(name, "call")
        return name if origin == "call" else spelled(type(self), name, origin)

    def __post_init__(self) -> None:
        """Refuse a number out of its range, wherever it came from, and note what a plain Python call gave."""
        for item in _shown(type(self)):
            value = getattr(self, item.name)
            least, most = item.metadata["least"], item.metadata["most"]
            if isinstance(value, int | float) and not least <= value <= most:
                allowed = f"at least {least:g}" if most == math.inf else f"{least:g} to {most:g}"
                msg = f"expected {self.called(item.name)} of {allowed}, found {value}"
                raise UsageError(msg)
        if not self.origins:
            given = {i.name: "call" for i in _shown(type(self)) if getattr(self, i.name) != i.default}
            object.__setattr__(self, "origins", given)


S = TypeVar("S", bound=Settings)


def _shown(cls: type[Settings]) -> list[Any]:
    return [item for item in fields(cls) if not item.metadata.get("hidden")]


def _incidental(item: Any) -> bool:
    return bool(item.metadata["incidental"])


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
            values[name] = parse(raw, setting_types(cls)[name], spelled(cls, name, origin))
            origins[name] = origin
    missing = [item.name for item in _shown(cls) if item.default is MISSING and item.name not in values]
    if missing:
        msg = f"expected a value for {', '.join(missing)}: see `eearth {cls.stage} --help`"
        raise UsageError(msg)
    return cls(**values, origins=origins)


def launched() -> tuple[int, int]:
    """Number of this process among those that a launcher started together, and how many they are; alone: (0, 1)."""
    if not all(name in os.environ for name in LAUNCHED):
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def spelled(cls: type[Settings], name: str, origin: str) -> str:
    """A setting as the user wrote it."""
    if origin in ("flag", "call"):
        return f"--{name.replace('_', '-')}"
    return f"EEARTH_{cls.stage.upper()}_{name.upper()}" if origin == "environment" else f"{name} in {SETTINGS_FILE}"


def _from_environment(cls: type[Settings]) -> dict[str, str]:
    prefix = f"EEARTH_{cls.stage.upper()}_"
    found = {key.removeprefix(prefix).lower(): value for key, value in os.environ.items() if key.startswith(prefix)}
    _refuse_unknown(found, cls, "the environment", prefix)
    return found


def _from_file(cls: type[Settings], path: Path) -> dict[str, Any]:
    found: dict[str, Any] = _tables_of(path).get(cls.stage, {})
    _refuse_unknown(found, cls, str(path), "")
    return found


def _tables_of(path: Path) -> dict[str, dict[str, Any]]:
    """The tables of an `eearth.toml`; none where there is no file."""
    if not path.is_file():
        return {}
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"expected TOML in {path}, found: {error}"
        raise UsageError(msg) from error
    stages = [known.stage for known in Settings.__subclasses__()]
    for name in tables:
        if name not in (*stages, PROVIDERS) or not isinstance(tables[name], dict):
            msg = f"expected one table a stage ({', '.join(stages)}) or [{PROVIDERS}.NAME] in {path}, found {name!r}"
            raise UsageError(msg)
    return tables


def provider_tables(workspace: Path) -> dict[str, dict[str, Any]]:
    """The tables `[providers.NAME]` of a workspace's `eearth.toml`, by name; what they say is not checked here.

    Raises:
        UsageError: The file is no TOML, or something else stands under `providers`.
    """
    path = workspace / SETTINGS_FILE
    found: dict[str, dict[str, Any]] = _tables_of(path).get(PROVIDERS, {})
    for name, table in found.items():
        if not isinstance(table, dict):
            msg = f"expected a table [{PROVIDERS}.NAME] in {path}, found {name!r} in [{PROVIDERS}]"
            raise UsageError(msg)
    return found


def provider_digest(workspace: Path, name: str | None) -> str | None:
    """sha256 of what the workspace's `eearth.toml` says of a provider; None where it says nothing."""
    said = provider_tables(workspace).get(name or "")
    return None if said is None else hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _refuse_unknown(found: Mapping[str, Any], cls: type[Settings], where: str, prefix: str) -> None:
    known = setting_names(cls)
    for name in found:
        if name not in known:
            spelled = [f"{prefix}{each.upper()}" if prefix else each for each in (name, *known)]
            msg = f"{where} sets {spelled[0]}, which {cls.stage} does not have; {suggestion(spelled[0], spelled[1:])}"
            raise UsageError(msg)


def suggestion(name: str, known: Sequence[str]) -> str:
    """What a misspelt name may have meant: the nearest of the known ones, or all of them."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known: {listed(known)}"


def listed(names: Sequence[str]) -> str:
    """Names one after the other; those that hold a comma themselves are quoted."""
    return ", ".join(f'"{name}"' if "," in name else name for name in names)


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
    if isinstance(raw, bool | list | dict) or (kind is int and isinstance(raw, float)):
        raise TypeError(raw)
    value = kind(str(raw)) if kind is Path else kind(raw)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(raw)
    return value


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
    if isinstance(value, str) and "://" in value:
        return redacted(value)
    return str(value) if isinstance(value, Path) else value
