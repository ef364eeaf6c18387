"""How figures read on the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from eearth.report.sources import Figure

# A narrow space that does not break stands between thousands (ISO 80000-1, 7.3.1).
THOUSANDS = "\u202f"
NOTHING = "\u2013"
PERCENT = "\u202f%"

# Units whose numbers are counts or speak for themselves on the page.
UNWRITTEN = {"", "pixels", "points", "features", "observations"}


def shown(figure: Figure) -> str:
    """A figure's value with its unit; a dash where there is none."""
    if figure.value is None:
        return NOTHING
    if isinstance(figure.value, str):
        return figure.value
    text = _number(figure.value, figure.unit)
    return text if figure.unit in UNWRITTEN | {"share"} else f"{text} {_unit(figure.unit)}"


def interval(figure: Figure) -> str:
    """The ends of a figure's 95 % interval; says so where it has none."""
    if figure.low is None or figure.high is None:
        return "no interval"
    low, high = _number(figure.low, figure.unit), _number(figure.high, figure.unit)
    unit = "" if figure.unit in UNWRITTEN | {"share"} else f" {_unit(figure.unit)}"
    return f"{low.removesuffix(PERCENT)} to {high}{unit}"


def _unit(unit: str) -> str:
    return {"km2": "km²"}.get(unit, unit)


def _number(value: Any, unit: str) -> str:
    if unit == "share":
        return percent(value)
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer() and abs(value) < 1e15):  # noqa: PLR2004 - a float's whole numbers
        return count(int(value))
    return f"{value:,.{_decimals(value)}f}".replace(",", THOUSANDS)


def _decimals(value: float) -> int:
    """Enough for three digits that count, at most six."""
    size = abs(value)
    return next((digits for digits, least in enumerate((100, 10, 1, 0.1, 0.01, 1e-3)) if size >= least), 6)


def percent(share: float) -> str:
    """A share, 0..1, in percent."""
    text = f"{100 * share:.1f}"
    return f"{text}{PERCENT}" if share == 0 or text != "0.0" else f"< 0.1{PERCENT}"


def count(number: int) -> str:
    """A whole number with its thousands apart."""
    return f"{number:,}".replace(",", THOUSANDS)


def capitalised(text: str) -> str:
    """The first letter upper case, the others as they are."""
    return text[:1].upper() + text[1:]


FILTERS: dict[str, Callable[..., str]] = {
    "shown": shown,
    "interval": interval,
    "percent": percent,
    "count": count,
    "capitalised": capitalised,
}
