"""Colours for land cover classes: the customary one where the name tells, a well-spread palette elsewhere."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

# The colours of ESA WorldCover v200 (Product User Manual, table 3). The first pattern that matches decides, so that a
# "herbaceous wetland" is a wetland and "bare cropland" a crop.
CUSTOMARY = (
    (r"\bmangrove", "#00cf75"),
    (r"\bwetland|\bmarsh|\bswamp|\bbog\b|\bpeat", "#0096a0"),
    (r"\bmoss|\blichen|\btundra", "#fae6a0"),
    (r"\bcrop|\bcultivat|\barable|\bfarm|\bagricult", "#f096ff"),
    (r"\bforest|\bwood|\btree", "#006400"),
    (r"\bshrub|\bscrub|\bschrub|\bbush", "#ffbb22"),
    (r"\bgrass|\bmeadow|\bpasture|\bherbaceous", "#ffff4c"),
    (r"\bbuil[dt]|\burban|\bartificial|\bresidential|\bsettlement|\bindustrial|\bimpervious", "#fa0000"),
    (r"\bbare\b|\bbarren|\bsparse", "#b4b4b4"),
    (r"\bsnow|\bice\b|\bglacier", "#f0f0f0"),
    (r"\bwater\b|\bwaterbod|\briver|\blake|\bsea\b|\bocean", "#0064c8"),
)

# Okabe & Ito (2008), Color Universal Design: told apart by people with every common form of colour blindness.
# Its black is left out (it reads as "no data" on a map).
OKABE_ITO = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")

# What the second, third and fourth class of one customary colour get: that share of white where the colour is dark, of
# black where it is light; below 0 the other way round.
SHADES = (0.0, 0.3, -0.35, 0.6)
DARK = 0.6  # OKLab lightness

# Distance in OKLab below which two neighbouring areas of a map are hard to tell apart: about five of the just
# noticeable differences of 0.02 that W3C's CSS Color 4 (section 14, gamut mapping) works with.
SEPARATE = 0.1

# Okabe and Ito's colours differ also in lightness; new colours keep to this range of OKLab lightness, so that they
# stand out from white paper and from the black of "no data".
LIGHTNESS = (0.35, 0.92)


def _oklab(colours: Sequence[str]) -> NDArray[np.float64]:
    """OKLab coordinates, (colour, 3), of "#rrggbb" strings (B. Ottosson 2020, "A perceptual color space")."""
    srgb = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in colours], dtype=float) / 255
    linear = np.where(
        srgb <= 0.04045,  # noqa: PLR2004 - sRGB, IEC 61966-2-1
        srgb / 12.92,
        ((srgb + 0.055) / 1.055) ** 2.4,
    )
    to_cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    from_cones = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    cones: NDArray[np.float64] = np.cbrt(linear @ to_cones.T)
    places: NDArray[np.float64] = cones @ from_cones.T
    return places


def _lattice() -> list[str]:
    """Colours on a regular RGB lattice within `LIGHTNESS`: more of them than a byte has class codes."""
    steps = np.linspace(0, 255, 10).round().astype(int)
    colours = [f"#{r:02x}{g:02x}{b:02x}" for r in steps for g in steps for b in steps]
    lightness = _oklab(colours)[:, 0]
    return [colour for colour, light in zip(colours, lightness, strict=True) if LIGHTNESS[0] <= light <= LIGHTNESS[1]]


def _customary(names: Sequence[str], given: Mapping[str, str]) -> dict[int, str]:
    """Class number → given or customary colour; of several with the same customary one the others get shades."""
    chosen = {number: given[name] for number, name in enumerate(names) if name in given}
    for shade in SHADES:
        for number, name in enumerate(names):
            text = name.casefold().replace("_", " ")
            base = next((colour for pattern, colour in CUSTOMARY if re.search(pattern, text)), None)
            if base is not None and number not in chosen and _stands_out(_mixed(base, shade), chosen.values()):
                chosen[number] = _mixed(base, shade)
    return chosen


def _mixed(colour: str, shade: float) -> str:
    """The colour mixed with white or black as `SHADES` says."""
    dark = _oklab([colour])[0, 0] < DARK
    toward, share = (255 if (shade > 0) == dark else 0), abs(shade)
    channels = (round(int(colour[i : i + 2], 16) * (1 - share) + toward * share) for i in (1, 3, 5))
    return "#" + "".join(f"{channel:02x}" for channel in channels)


def _stands_out(colour: str, others: Collection[str]) -> bool:
    """Whether a colour is told apart from all others."""
    return not others or bool(np.linalg.norm(_oklab([*others]) - _oklab([colour]), axis=1).min() >= SEPARATE)


def class_colours(names: Sequence[str], given: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """One colour for each class, all different but for those given, always the same for the same list of names.

    A class that speaks of forest, water, crops and the like gets ESA WorldCover's colour, or a shade of it
    where several do. The others get Okabe and Ito's, as far as they differ from those; then, again and again, the
    colour farthest from all in use (the greedy scheme of Glasbey et al. 2007, Color Research & Application 32:304).

    Args:
        names: Class names, at most 255.
        given: Class name → "#rrggbb", for classes whose colour somebody chose.

    Returns:
        "#rrggbb", lower case, in the order of `names`.
    """
    chosen = _customary(names, given or {})
    candidates = [*OKABE_ITO, *_lattice()]
    places = _oklab(candidates)
    distance = np.full(len(candidates), np.inf)
    for colour in chosen.values():
        distance = np.minimum(distance, np.linalg.norm(places - _oklab([colour]), axis=1))
    for number in range(len(names)):
        if number in chosen:
            continue
        first = np.flatnonzero(distance[: len(OKABE_ITO)] >= SEPARATE)
        best = int(first[0]) if first.size else int(np.argmax(distance))
        chosen[number] = candidates[best]
        distance = np.minimum(distance, np.linalg.norm(places - places[best], axis=1))
    return tuple(chosen[number] for number in range(len(names)))
