"""The user's accuracies that a sample is planned with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eearth.config import suggestion
from eearth.errors import UsageError
from eearth.geo.labels.legend import code_named

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eearth.geo.sampling.classmap import Stratum

# Where nothing is known of a class: a usual accuracy of land cover classes, and with 0.4 a spread near its maximum 0.5.
UNKNOWN = 0.8
# What test blocks say of a class is a guess about the map, mostly too good a one: none is believed beyond these.
LEAST_BELIEVED, MOST_BELIEVED = 0.5, 0.95


@dataclass(frozen=True)
class Expected:
    """An expected user's accuracy, and where it comes from."""

    accuracy: float
    source: str


def expected_accuracies(
    given: Sequence[str], strata: Sequence[Stratum], measured: Mapping[int, float]
) -> dict[int, Expected]:
    """The expected user's accuracy of each class.

    Args:
        given: The user's, each NAME=SHARE or CODE=SHARE, or one SHARE for all classes that are not named.
        strata: The classes of the map.
        measured: Class code → user's accuracy on the test blocks, for those that have one.

    Raises:
        UsageError: A class is unknown or could be two, or a share is not between 0 and 1.
    """
    others, named = None, {}
    for text in given:
        name, equals, share = text.rpartition("=")
        if equals:
            named[_code_of(name.strip(), strata)] = _share(share, text)
        else:
            others = _share(text, text)
    found = {}
    for stratum in strata:
        code = stratum.code
        if code in named or others is not None:
            found[code] = Expected(named.get(code, UNKNOWN if others is None else others), "as given")
        elif code in measured:
            believed = min(max(measured[code], LEAST_BELIEVED), MOST_BELIEVED)
            found[code] = Expected(believed, "on the test blocks")
        else:
            found[code] = Expected(UNKNOWN, "assumed")
    return found


def _code_of(name: str, strata: Sequence[Stratum]) -> int:
    legend = {stratum.code: stratum.name for stratum in strata}
    code = code_named(name, legend, UsageError)
    if code is None:
        msg = f"expected classes of the map in --expected, found {name!r}; {suggestion(name, list(legend.values()))}"
        raise UsageError(msg)
    return code


def _share(text: str, whole: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        msg = f"expected NAME=SHARE with a share of 0 to 1 in --expected, found {whole!r}"
        raise UsageError(msg)
    return share
