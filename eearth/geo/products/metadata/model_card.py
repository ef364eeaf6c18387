"""The model card: what a land cover model is, where it comes from, how good it is, and what it is not for.

Its parts are those of Mitchell et al. 2019, "Model Cards for Model Reporting" (https://arxiv.org/abs/1810.03993).
"""

from __future__ import annotations

import html
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from eearth.geo.products.landcover.prediction import printable
from eearth.manifest import write_text

if TYPE_CHECKING:
    from pathlib import Path

    from eearth.geo.products.metadata.model_facts import ModelFacts

NO_FIGURE = "—"


def write_model_card(path: Path, facts: ModelFacts) -> None:
    """Write the card as Markdown.

    Args:
        path: The file.
        facts: What to say.
    """
    loader = PackageLoader("eearth", "geo/products/metadata/templates")
    pages = Environment(  # noqa: S701 - Markdown; the words of users are escaped by `words`
        loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    pages.filters |= {"words": _words, "percent": _percent}
    start, end = facts.period
    text = pages.get_template("model_card.md").render(
        facts=facts,
        encoder=facts.encoder,
        start=start,
        end=end,
        months=_months(facts),
        rows=_rows(facts),
        eearth=version("eearth"),
        torch=version("torch"),
    )
    write_text(path, text)


def _words(text: str) -> str:
    """A name in a cell of a table."""
    return html.escape(printable(text), quote=False).replace("\\", "\\\\").replace("|", "\\|")


def _percent(share: float | None) -> str:
    return NO_FIGURE if share is None else f"{share:.1%}"


def _months(facts: ModelFacts) -> str:
    """The part of the year that the imagery spans, in words."""
    start, end = facts.period
    whole = (end - start).days >= 365  # noqa: PLR2004 - days of a year
    return "the whole year" if whole else f"{start:%-d %B} to {end:%-d %B}"


def _rows(facts: ModelFacts) -> list[dict[str, Any]]:
    """Each class with its labelled pixels over all regions, and its accuracy on the test blocks."""
    return [
        {
            "name": entry.name,
            "code": entry.code,
            "pixels": [sum(region.pixels[entry.code][part] for region in facts.regions) for part in range(3)],
            **_accuracy(facts, entry.code),
        }
        for entry in facts.classes
    ]


def _accuracy(facts: ModelFacts, code: int) -> dict[str, float | None]:
    names = ("users_accuracy", "producers_accuracy", "iou")
    if facts.test is None or code not in facts.test["codes"]:
        return dict.fromkeys(names)
    place = facts.test["codes"].index(code)
    return {name: facts.test[name][place] for name in names}
