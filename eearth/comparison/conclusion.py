"""What the comparison says, in one sentence for each pre-trained encoder, and no more than it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eearth.comparison.contenders import ALL, LABELS, PRETRAINED, SCRATCH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eearth.comparison.summary import Difference, Summary

NOTHING_TO_TELL = "no difference can be told"


def conclude(summary: Summary) -> str:
    """One sentence a pre-trained encoder; a difference is claimed only where its 95 % interval leaves out 0."""
    if not summary.pretrained or not summary.references:
        return "Nothing is compared with pre-training."
    return " ".join(_sentence(summary, label) for label in summary.pretrained)


def gain_text(difference: Difference) -> str:
    """Such as `+4.2 (+1.0 to +7.4)`."""
    if np.isnan(difference.half):
        return f"{difference.mean:+.1f}"
    low, high = difference.mean - difference.half, difference.mean + difference.half
    return f"{difference.mean:+.1f} ({low:+.1f} to {high:+.1f})"


def _sentence(summary: Summary, label: str) -> str:
    scratch = LABELS[SCRATCH]
    subject = f"pre-training {label.removeprefix(LABELS[PRETRAINED]).strip()}".strip()
    references = summary.references_of(label)
    clauses = _against_scratch(summary, label, subject) if scratch in references else [subject]
    clauses += [_against(summary, label, other) for other in references if other != scratch]
    text = "; ".join(clauses)
    return f"{text[0].upper()}{text[1:]}."


def _against_scratch(summary: Summary, label: str, subject: str) -> list[str]:
    """One clause for each budget with a difference, and one for those without."""
    gaps = {budget: summary.difference(label, LABELS[SCRATCH], budget) for budget in summary.budgets}
    told = {budget: gap for budget, gap in gaps.items() if gap.told}
    clauses = [
        f"{_with([budget])} {subject} {'gains' if gap.mean > 0 else 'loses'} {gain_text(gap)} points of mIoU "
        f"{'over' if gap.mean > 0 else 'against'} training from scratch"
        for budget, gap in told.items()
    ]
    unknown = [budget for budget in gaps if budget not in told]
    if unknown:
        intervals = ", ".join(_narrow(gaps[budget]) for budget in unknown)
        whose = "" if told else f" between {subject} and training from scratch"
        clauses.append(f"{_with(unknown)} {NOTHING_TO_TELL}{whose} ({intervals})")
    return clauses


def _against(summary: Summary, label: str, other: str) -> str:
    """One clause: where it is ahead, where behind, where nothing can be told."""
    gaps = {budget: summary.difference(label, other, budget) for budget in summary.budgets}
    parts = {
        "ahead": [budget for budget, gap in gaps.items() if gap.told and gap.mean > 0],
        "behind": [budget for budget, gap in gaps.items() if gap.told and gap.mean < 0],
    }
    said = [f"it is {verdict} with {_listed(budgets)}" for verdict, budgets in parts.items() if budgets]
    unknown = [budget for budget, gap in gaps.items() if not gap.told]
    said += [f"{NOTHING_TO_TELL} with {_listed(unknown)}"] if unknown else []
    return f"against the {other} {', '.join(said)}"


def _narrow(difference: Difference) -> str:
    """A difference inside brackets."""
    return f"{difference.mean:+.1f}" + ("" if np.isnan(difference.half) else f" ± {difference.half:.1f}")


def _with(budgets: Sequence[str]) -> str:
    """`with 1 labelled pixel a class`."""
    if list(budgets) == [ALL]:
        return f"with {_listed(budgets)}"
    unit = "pixel" if list(budgets) == ["1"] else "pixels"
    return f"with {_listed(budgets)} labelled {unit} a class"


def _listed(budgets: Sequence[str]) -> str:
    """`1`, `1 and 5`, `1, 5 and all`, `all labels`."""
    if list(budgets) == [ALL]:
        return "all labels"
    return " and ".join(part for part in (", ".join(budgets[:-1]), budgets[-1]) if part)
