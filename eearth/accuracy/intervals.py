"""95 % intervals of estimated shares."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

# The quantile as Olofsson et al. (2014) and most who report accuracy write it; 1.959964 would move their fifth digit.
Z = 1.96


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval; NaN where there is none.

    Attributes:
        estimate: The estimate.
        low, high: The ends of the interval.
        standard_error: Square root of the estimated variance by the published formulas; NaN where none is known.
    """

    estimate: float
    low: float
    high: float
    standard_error: float = math.nan

    def as_dict(self) -> dict[str, Any]:
        """{"estimate", "low", "high"}, null where there is no value; with a standard error, that and 1.96 times it."""
        figures = {"estimate": self.estimate, "low": self.low, "high": self.high}
        if not math.isnan(self.standard_error):
            figures |= {"standard_error": self.standard_error, "plus_minus": Z * self.standard_error}
        return {name: None if math.isnan(value) else float(value) for name, value in figures.items()}

    def times(self, factor: float) -> Interval:
        """All figures multiplied, such as a share by an area."""
        values = (self.estimate, self.low, self.high, self.standard_error)
        return Interval(*(value * factor for value in values))


def wald(estimate: float, variance: float) -> tuple[float, float]:
    """The interval of the published formulas, estimate ± 1.96 standard errors; it may leave 0..1."""
    half = Z * math.sqrt(variance)
    return estimate - half, estimate + half


def wilson(estimate: float, shrunk: float, variance: float) -> tuple[float, float]:
    """Wilson's score interval of a share from a complex sample, within 0..1.

    The number of points in Wilson's (1927, JASA 22:209) formula is the effective one, that of a simple random sample
    with the same variance (Kott & Liu 2009, International Statistical Review 77:251). Where nothing was ever wrong, the
    sample's own variance is 0 and that number infinite; so both of its parts are those of the shrunk proportions.

    Args:
        estimate: The share.
        shrunk: The share as the shrunk proportions give it.
        variance: Its variance, from the shrunk proportions; 0 = known exactly.
    """
    spread = shrunk * (1 - shrunk)
    per_point = variance / spread if spread > 0 else 0.0  # 1 / effective points
    middle = estimate + Z**2 * per_point / 2
    # Rounding may leave a share of one a little above it.
    half = Z * math.sqrt(max(estimate * (1 - estimate), 0) * per_point + (Z * per_point) ** 2 / 4)
    whole = 1 + Z**2 * per_point
    return max((middle - half) / whole, 0.0), min((middle + half) / whole, 1.0)
