"""Puts the settings of a stage where a page says `<!-- settings: STAGE -->`, straight from the code.

MkDocs calls `on_page_markdown`; see https://www.mkdocs.org/user-guide/configuration/#hooks.
"""  # noqa: INP001 - a script that MkDocs loads by its path

from __future__ import annotations

import re
from dataclasses import MISSING
from typing import Any

from eearth.config import describe, setting_names, setting_types
from eearth.settings import SETTINGS

MARK = re.compile(r"<!-- settings: (\w+) -->")
HEADER = "| Setting | Value | Default | What it is |\n|---|---|---|---|"


def on_page_markdown(markdown: str, **_context: Any) -> str:
    """Replace every mark by the table of its stage.

    Raises:
        KeyError: A page names a stage that does not exist; the build stops.
    """
    return MARK.sub(lambda mark: settings_table(mark[1]), markdown)


def settings_table(stage: str) -> str:
    """One row a setting, in the order of the class."""
    cls = SETTINGS[stage]
    kinds = setting_types(cls)
    rows = [_row(name, cls.__dataclass_fields__[name], kinds[name]) for name in setting_names(cls)]
    return "\n".join([HEADER, *rows])


def _row(name: str, declared: Any, kind: Any) -> str:
    argument = declared.metadata["argument"]
    spelled = name.upper() if argument else f"--{name.replace('_', '-')}"
    cells = (f"`{spelled}`", describe(kind), _default(declared.default), declared.metadata["text"])
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _default(default: Any) -> str:
    if default is MISSING:
        return "required"
    if default is None or default == ():
        return ""
    if isinstance(default, bool):
        return "on" if default else "off"
    return f"`{','.join(map(str, default)) if isinstance(default, tuple) else default}`"
