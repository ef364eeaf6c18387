"""STAC API searches over a list of items: which match, in what order, with which fields."""

from __future__ import annotations

import operator
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from cql2 import Expr
from shapely import box
from shapely.geometry import shape

if TYPE_CHECKING:
    from collections.abc import Callable

Item = dict[str, Any]
Search = dict[str, Any]

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "neq": operator.ne,
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
    "startsWith": lambda value, wanted: str(value).startswith(wanted),
    "endsWith": lambda value, wanted: str(value).endswith(wanted),
    "contains": lambda value, wanted: wanted in value,
    "in": lambda value, wanted: value in wanted,
}


def field(item: Item, name: str) -> Any:
    """An item's value by its name in a query: a property, or a member of the item itself; None where missing."""
    name = name.removeprefix("properties.")
    return item["properties"].get(name, item.get(name))


def _compares(name: str, value: Any, wanted: Any) -> bool:
    if value is None:
        return False
    if isinstance(wanted, str) and not isinstance(value, str | list):
        value = str(value)  # a number sent as a string is compared as text: real servers do so, and clients stumble
    return OPERATORS[name](value, wanted)


def _answers_query(item: Item, query: dict[str, dict[str, Any]]) -> bool:
    return all(
        _compares(name, field(item, property_name), wanted)
        for property_name, conditions in query.items()
        for name, wanted in conditions.items()
    )


@cache
def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _within(item: Item, interval: str) -> bool:
    """Whether the item's time or period touches a closed interval, either end of which may be open (`..`)."""
    start, _, end = interval.partition("/") if "/" in interval else (interval, "", interval)
    properties = item["properties"]
    first = _instant(properties.get("start_datetime") or properties["datetime"])
    last = _instant(properties.get("end_datetime") or properties["datetime"])
    return (start in {"", ".."} or last >= _instant(start)) and (end in {"", ".."} or first <= _instant(end))


def _touches(item: Item, search: Search) -> bool:
    if bounds := search.get("bbox"):
        half = len(bounds) // 2  # six numbers: the third and the sixth are heights
        area = box(*bounds[:2], *bounds[half : half + 2])
    else:
        area = shape(search["intersects"])
    return bool(shape(item["geometry"]).intersects(area))


def _passes(item: Item, expression: Expr) -> bool:
    try:
        return expression.matches(item)
    except Exception as error:  # cql2 raises no narrower class
        if "Could not reduce" in str(error):  # it names a property that the item lacks
            return False
        raise


def matches(item: Item, search: Search) -> bool:
    """Whether an item answers a search, given as the body of `POST /search`."""
    return (
        (not search.get("collections") or item["collection"] in search["collections"])
        and (not search.get("ids") or item["id"] in search["ids"])
        and (not search.get("datetime") or _within(item, search["datetime"]))
        and (not search.get("query") or _answers_query(item, search["query"]))
        and (not search.get("filter") or _passes(item, Expr(search["filter"])))
        and (not (search.get("bbox") or search.get("intersects")) or _touches(item, search))
    )


def ordered(items: list[Item], sortby: list[dict[str, str]] | None) -> list[Item]:
    """Items in the order asked for; newest first by default, as pgstac has it. Items without the field come last."""
    wanted = [*(sortby or [{"field": "datetime", "direction": "desc"}]), {"field": "id", "direction": "asc"}]
    for rule in reversed(wanted):  # sorting is stable, so the first rule goes last
        name = rule["field"]
        known = [item for item in items if field(item, name) is not None]
        unknown = [item for item in items if field(item, name) is None]
        known.sort(key=lambda item, name=name: field(item, name), reverse=rule["direction"] == "desc")  # type: ignore[misc]
        items = known + unknown
    return items


def _set_path(target: Item, source: Item, path: str) -> None:
    parent, _, child = path.partition(".")
    if parent in source and child and child in source[parent]:
        target.setdefault(parent, {})[child] = source[parent][child]
    elif parent in source and not child:
        target[parent] = source[parent]


def reduced(item: Item, include: set[str], exclude: set[str]) -> Item:
    """An item with only the included members (`properties.x` reaches inside), less the excluded ones."""
    result: Item = {} if include else {**item, "properties": dict(item["properties"])}
    for path in include | {"id", "collection"} if include else ():
        _set_path(result, item, path)
    for path in exclude - include:
        parent, _, child = path.partition(".")
        (result.get(parent, {}) if child else result).pop(child or parent, None)
    return result
