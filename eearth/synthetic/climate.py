"""Climates of the simulation: where their land lies, when it is green, and how bare it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eearth.synthetic.phenology import GREEN, NAMES, SPECTRA

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.floating]

YEAR = 365


@dataclass(frozen=True)
class Climate:
    """What a climate changes of the simulated land; the landscape and its classes stay.

    Attributes:
        north: UTM 33N metres of the region's upper edge.
        late: Days by which all seasons begin later than in central Europe.
        green: Factor on the green cover; what it leaves is bare soil.
        soil: Factor on the reflectance of soil, from the shortest to the longest wavelength, linear in between.
        snowy: Whether snow ever falls.
    """

    north: float
    late: int = 0
    green: float = 1.0
    soil: tuple[float, float] = (1.0, 1.0)
    snowy: bool = True

    def season(self, day: int) -> int:
        """The day of the year in central Europe on which vegetation is as far as here on `day`."""
        return (day - self.late - 1) % YEAR + 1 if self.late else day

    def covered(self, shares: Array) -> Array:
        """(object, surface) shares with this climate's green cover."""
        green, soil = [NAMES.index(name) for name in GREEN], NAMES.index("soil")
        shares[:, soil] += (1 - self.green) * shares[:, green].sum(axis=1)
        shares[:, green] *= self.green
        return shares

    @property
    def spectra(self) -> NDArray[np.float32]:
        """(surface, band) reflectance, see `phenology.SURFACES`."""
        spectra = SPECTRA.copy()
        spectra[NAMES.index("soil")] *= np.linspace(*self.soil, SPECTRA.shape[1], dtype=np.float32)
        return spectra


# Hills south of Graz: the region of the demo.
TEMPERATE = Climate(north=5_160_000.0)

# East of Lake Chad: rain from July to September, bright dry sand for the rest of the year.
SAHEL = Climate(north=1_550_000.0, late=70, green=0.5, soil=(1.2, 1.8), snowy=False)
