"""What a pixel is made of on a given day, and how that reflects.

Each object is a mixture of a few surfaces whose shares follow the season. No date tells all classes apart: maize and
beet are bare soil in April and alike in July, cereals and rapeseed are alike in March and both straw in July, a mown
meadow looks like a catch crop. The course over the year does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eearth.synthetic.noise import rising, smooth_field

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.floating]

BANDS = ("blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "swir16", "swir22")

# Bottom-of-atmosphere reflectance in the order of BANDS: rounded values of the size that Sentinel-2 L2A shows over
# such surfaces in central Europe.
SURFACES = {
    "crop": (0.030, 0.065, 0.032, 0.098, 0.30, 0.39, 0.42, 0.44, 0.200, 0.095),
    "broad crop": (0.032, 0.074, 0.034, 0.108, 0.34, 0.44, 0.47, 0.49, 0.215, 0.100),
    "grass": (0.034, 0.072, 0.040, 0.112, 0.27, 0.34, 0.37, 0.39, 0.220, 0.115),
    "broadleaf": (0.022, 0.045, 0.023, 0.075, 0.25, 0.33, 0.35, 0.37, 0.165, 0.072),
    "conifer": (0.018, 0.030, 0.020, 0.047, 0.13, 0.17, 0.18, 0.20, 0.090, 0.042),
    "litter": (0.040, 0.055, 0.068, 0.092, 0.12, 0.14, 0.16, 0.18, 0.210, 0.140),
    "straw": (0.080, 0.120, 0.160, 0.195, 0.23, 0.25, 0.28, 0.30, 0.350, 0.270),
    "soil": (0.075, 0.100, 0.130, 0.155, 0.17, 0.18, 0.20, 0.215, 0.285, 0.240),
    "flower": (0.050, 0.160, 0.130, 0.185, 0.33, 0.38, 0.41, 0.43, 0.220, 0.110),
    "water": (0.032, 0.040, 0.024, 0.020, 0.014, 0.013, 0.012, 0.011, 0.007, 0.005),
    "roof": (0.110, 0.125, 0.145, 0.165, 0.180, 0.190, 0.205, 0.215, 0.245, 0.225),
}
NAMES = tuple(SURFACES)
SPECTRA = np.array(list(SURFACES.values()), dtype=np.float32)
GREEN = ("crop", "broad crop", "grass", "broadleaf", "conifer")
HALF = 0.5  # of the fields, for what a farmer may do or leave
NEVER = 999.0  # a day of the year that does not come


@dataclass(frozen=True)
class Traits:
    """What makes two objects of one class differ; each array's first axis is the object, 0 = headland.

    Attributes:
        shift: Days by which the object's season is late.
        vigour: Factor on its green cover.
        brightness: Factor on its soil.
        colour: (object, band) factor on its reflectance: variety, nutrition, row direction.
        habit: (object, 3) uniform numbers that decide on catch crops, tillage dates and mixtures.
        cuts: (object, 4) days on which it is mown; NEVER where not.
    """

    shift: Array
    vigour: Array
    brightness: Array
    colour: Array
    habit: Array
    cuts: Array

    def of(self, chosen: NDArray[np.intp]) -> Traits:
        """The traits of some objects."""
        return Traits(*(getattr(self, name)[chosen] for name in Traits.__dataclass_fields__))


def draw_traits(count: int, *, seed: int, year: int) -> Traits:
    """Draw the traits of `count` objects and of the headland; a year is early or late as a whole."""
    place, season = np.random.default_rng([seed, 3]), np.random.default_rng([seed, 4, year])
    n = count + 1
    visible, infrared, shortwave = np.exp(place.normal(0, 0.08, (3, n, 1)))
    colour = np.concatenate([visible.repeat(4, 1), infrared.repeat(4, 1), shortwave.repeat(2, 1)], axis=1)
    first, pause = season.normal(142, 13, (n, 1)), season.normal(45, 9, (n, 1))
    cuts = first + pause * np.arange(4)
    cuts[np.arange(4) >= season.integers(2, 5, (n, 1))] = NEVER
    return Traits(
        shift=season.normal(season.normal(0, 4), 8, n),
        vigour=np.clip(season.normal(0.92, 0.1, n), 0.6, 1.08),
        brightness=np.exp(place.normal(0, 0.22, n)),
        colour=colour,
        habit=season.uniform(0, 1, (n, 3)),
        cuts=cuts,
    )


def textures(size: int, *, seed: int) -> Array:
    """(surface, y, x) factors on the shares, standing still over the year: patches inside a field, single roofs."""
    rng = np.random.default_rng([seed, 5])
    growth, ground = (smooth_field(rng, size, scale=scale) for scale in (4.0, 8.0))
    grain = smooth_field(rng, size, scale=0.8)
    factors = np.ones((len(NAMES), size, size), dtype=np.float32)
    for name in GREEN:
        factors[NAMES.index(name)] += np.float32(0.10) * growth
    factors[NAMES.index("soil")] += np.float32(0.12) * ground
    factors[NAMES.index("roof")] = np.exp(np.float32(0.35) * grain)
    factors[[NAMES.index("broadleaf"), NAMES.index("conifer")]] += np.float32(0.08) * grain
    return np.clip(factors, 0.2, 3.0)


def shares(classes: Sequence[str], traits: Traits, day: float) -> Array:
    """(object, surface) shares on a day of the year; row 0 is the headland, row k belongs to `classes[k - 1]`."""
    names = np.array(["headland", *classes])
    result = np.zeros((len(names), len(NAMES)), dtype=np.float32)
    for name, mixture in MIXTURES.items():
        chosen = np.flatnonzero(names == name)
        for surface, share in mixture(traits.of(chosen), day).items():
            result[chosen, NAMES.index(surface)] = share
    result = np.clip(result, 0, None)
    result /= np.maximum(result.sum(axis=1, keepdims=True), 1)
    soil = NAMES.index("soil")
    result[:, soil] = (result[:, soil] + 1 - result.sum(axis=1)) * traits.brightness
    return result


def _autumn(traits: Traits, d: Array, tilled: Array) -> Array:
    """Green after the harvest: half of the fields get a catch crop in August, the others winter corn in October."""
    catch = 0.7 * rising((d - 252) / 6) * (1 - 0.5 * rising((d - 325) / 8))
    return tilled * np.where(traits.habit[:, 1] < HALF, catch, 0.3 * rising((d - 296) / 7))


def _winter_cereal(traits: Traits, day: float) -> dict[str, Array]:
    d = day - traits.shift
    green = traits.vigour * (0.25 + 0.65 * rising((d - 92) / 9))
    ripe, tilled = rising((d - 178) / 5), rising((d - 222 - 30 * traits.habit[:, 0]) / 2)
    straw = green * ripe * (1 - 0.4 * rising((d - 204) / 1.5)) * (1 - tilled)
    return {"crop": green * (1 - ripe) + _autumn(traits, d, tilled), "straw": straw}


def _rapeseed(traits: Traits, day: float) -> dict[str, Array]:
    d = day - traits.shift
    green = traits.vigour * (0.5 + 0.4 * rising((d - 82) / 8))
    ripe, tilled = rising((d - 181) / 5), rising((d - 226 - 30 * traits.habit[:, 0]) / 2)
    flower = 0.7 * green * rising((d - 108) / 3) * (1 - rising((d - 136) / 3))
    straw = green * ripe * (1 - 0.4 * rising((d - 200) / 1.5)) * (1 - tilled)
    return {
        "crop": _autumn(traits, d, tilled),
        "broad crop": green * (1 - ripe) - flower,
        "flower": flower,
        "straw": straw,
    }


def _winter_cover(traits: Traits, d: Array) -> dict[str, Array]:
    """Before a summer crop: half of the fields carry a catch crop until spring, the others old straw."""
    covered = traits.habit[:, 1] < HALF
    left = 1 - rising((d - 100) / 3)
    return {"crop": np.where(covered, 0.4, 0.08) * left, "straw": np.where(covered, 0.1, 0.25) * left}


def _maize(traits: Traits, day: float) -> dict[str, Array]:
    d = day - traits.shift
    before = _winter_cover(traits, d)
    standing = 0.95 * traits.vigour * rising((d - 173) / 8)
    ripe, harvested = rising((d - 252) / 7), rising((d - 266 - 20 * traits.habit[:, 0]) / 1.5)
    sown = harvested * np.where(traits.habit[:, 2] < HALF, 0.3 * rising((d - 312) / 7), 0)
    straw = before["straw"] + standing * ripe * (1 - harvested) + 0.25 * harvested
    return {"crop": before["crop"] + standing * (1 - ripe) * (1 - harvested) + sown, "straw": straw}


def _sugar_beet(traits: Traits, day: float) -> dict[str, Array]:
    d = day - traits.shift
    before = _winter_cover(traits, d)
    standing = 0.92 * traits.vigour * rising((d - 152) / 9) * (1 - rising((d - 285 - 20 * traits.habit[:, 0]) / 2))
    return {
        "crop": before["crop"] + 0.3 * standing,
        "broad crop": standing * (0.7 - 0.12 * rising((d - 215) / 8)),
        "straw": before["straw"],
    }


def _grassland(traits: Traits, day: float) -> dict[str, Array]:
    d = day - traits.shift
    level = traits.vigour * (0.42 + 0.5 * rising((d - 88) / 10) - 0.35 * rising((d - 306) / 14))
    since = day - traits.cuts
    # A cut leaves 40 % of the green cover; it grows back with a time constant of 16 days.
    left = np.prod(1 - 0.6 * np.where(since >= 0, np.exp(-np.maximum(since, 0) / 16), 0), axis=1)
    return {"grass": level * left, "straw": 0.55 * (level - level * left) + 0.25 * (1 - level)}


def _forest(traits: Traits, day: float) -> dict[str, Array]:
    d = day - 0.5 * traits.shift
    conifer = traits.habit[:, 0]
    leaf = rising((d - 117) / 5) * (1 - rising((d - 300) / 7))
    turning = 0.3 * leaf * rising((d - 283) / 5)
    broadleaf = (1 - conifer) * (leaf - turning)
    return {
        "broadleaf": broadleaf,
        "conifer": conifer,
        "straw": (1 - conifer) * turning,
        "litter": (1 - conifer) * (1 - leaf),
    }


def _built_up(traits: Traits, day: float) -> dict[str, Array]:
    garden = 0.15 + 0.25 * traits.habit[:, 0]
    season = 0.45 + 0.5 * rising(np.array((day - 90) / 10)) - 0.35 * rising(np.array((day - 306) / 14))
    return {"grass": garden * season, "roof": 1 - garden}


def _water(traits: Traits, day: float) -> dict[str, Array]:
    """Open water, with some sediment after the snow melt and in June."""
    flood = np.exp(-(((day - 85) / 25) ** 2)) + np.exp(-(((day - 165) / 20) ** 2))
    sediment = 0.02 + 0.08 * traits.habit[:, 0] * (0.4 + flood)
    return {"water": 1 - sediment, "soil": sediment}


def _headland(traits: Traits, day: float) -> dict[str, Array]:
    meadow = _grassland(traits, day)
    return {name: 0.6 * share for name, share in meadow.items()}


MIXTURES: dict[str, Callable[[Traits, float], dict[str, Array]]] = {
    "built-up": _built_up,
    "forest": _forest,
    "grassland": _grassland,
    "headland": _headland,
    "maize": _maize,
    "rapeseed": _rapeseed,
    "sugar beet": _sugar_beet,
    "water": _water,
    "winter cereal": _winter_cereal,
}
