"""The values of a class column, whatever their type → tidy names and codes."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Any

import pandas as pd

from eearth.errors import LabelError
from eearth.events import Report, Warned
from eearth.geo.labels.legend import MAX_CODE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# White space, and the characters that are invisible in a name but make two names differ.
BLANKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u200b\ufeff]+")
# A longer name fits no legend of a map; it is most likely a column of remarks.
LONGEST_NAME = 200


def tidy(name: str) -> str:
    """One spelling (Unicode NFC) and one blank between words."""
    return BLANKS.sub(" ", unicodedata.normalize("NFC", name)).strip()


def in_order(names: Iterable[str]) -> list[str]:
    """Class names in the order in which they are numbered: by code point, or by number where all are integers."""
    listed = list(names)
    numeric = all(re.fullmatch(r"-?\d+", name, re.ASCII) for name in listed)
    return sorted(listed, key=int) if numeric else sorted(listed)


def listed(names: Iterable[str], *, most: int = 12) -> str:
    """Names for a message: the first ones in back quotes, each cut short, and how many more there are."""
    every = list(names)
    shown = ", ".join(f"`{name if len(name) <= 40 else name[:39] + '…'}`" for name in every[:most])  # noqa: PLR2004
    return shown + (f" and {len(every) - most} more" if len(every) > most else "")


def class_names(column: pd.Series[Any], path: Path) -> pd.Series[Any]:
    """The classes as tidy text; missing where there is none.

    Raises:
        LabelError: Numbers that are not whole, or names that are too long for a legend.
    """
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        msg = f"expected classes in the column `{column.name}` of {path}, found dates: name another with --class-column"
        raise LabelError(msg)
    if pd.api.types.is_float_dtype(column.dtype):
        column = _whole(column, path)
    texts = column[column.notna()].map(str)
    names = {text: tidy(text) or None for text in texts.unique()}
    longest = max((name for name in names.values() if name), key=len, default="")
    if len(longest) > LONGEST_NAME:
        msg = (
            f"expected class names of at most {LONGEST_NAME} characters in the column `{column.name}` of {path}, found "
            f"one of {len(longest)} (`{longest[:40]}…`): choose another column with --class-column"
        )
        raise LabelError(msg)
    return texts.map(names).reindex(column.index)


def _whole(column: pd.Series[Any], path: Path) -> pd.Series[Any]:
    """Floats as integers, so that 3.0 is the class 3."""
    broken = column.notna() & (column % 1 != 0)
    if broken.any():
        msg = (
            f"expected classes in the column `{column.name}` of {path}, found numbers that are not whole, such as "
            f"{float(column[broken].iloc[0]):g}: choose another column with --class-column"
        )
        raise LabelError(msg)
    return column.astype("Int64")


def file_codes(codes: pd.Series[Any], names: pd.Series[Any], path: Path, report: Report) -> pd.Series[Any] | None:
    """The file's own codes, where its column `code` numbers the classes; None, and a warning, elsewhere."""
    there = names.notna()
    if not pd.api.types.is_numeric_dtype(codes.dtype) or pd.api.types.is_bool_dtype(codes.dtype):
        fault = "is not of integers"
    elif codes[there].isna().any() or (codes[there] % 1 != 0).any():
        fault = "has values that are missing or not whole"
    elif not codes[there].between(1, MAX_CODE).all():
        fault = f"has values outside 1..{MAX_CODE}"
    elif not _one_to_one(codes[there], names[there]):
        fault = "does not give each class one code of its own"
    else:
        return codes
    report(Warned(text=f"the column `code` of {path} {fault}: classes are numbered in alphabetical order instead"))
    return None


def _one_to_one(codes: pd.Series[Any], names: pd.Series[Any]) -> bool:
    """Whether each class has one code and each code one class."""
    pairs = pd.DataFrame({"code": codes, "name": names}).drop_duplicates()
    return bool(pairs["code"].is_unique and pairs["name"].is_unique)
