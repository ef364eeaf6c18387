from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pystac
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scenery import make_item, utm_grid

from eearth.geo.providers import Source, band_source, find_provider, mask_of
from eearth.geo.radiometry import FLAG, Case, Radiometry, decide_offsets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

GRID = utm_grid(64, 64)
BASELINE = "s2:processing_baseline"
EARTH_SEARCH = "https://earth-search.aws.element84.com/v1"
PLANETARY = "https://planetarycomputer.microsoft.com/api/stac/v1"
CDSE = "https://stac.dataspace.copernicus.eu/v1"
CMR = "https://cmr.earthdata.nasa.gov/stac/LPCLOUD"

# First percentile of true blue reflectance, and where the landscape's short-wave infrared begins.
GROUND = {"dark": (0.02, 0.05), "bright": (0.12, 0.35)}


@dataclass(frozen=True)
class Kind:
    """How a provider describes and stores a scene.

    `added` is the truth: what its numbers hold beside the ten-thousandths, whatever the metadata say.
    """

    name: str
    catalog: str
    collection: str
    properties: Mapping[str, Any]
    keys: tuple[str, str, str]
    facts: Mapping[str, Any] | None
    scale: float = 1e-4
    added: float = 0.0
    dtype: str = "uint16"
    fill: int = 0
    clear: int = 4
    cloud: int = 9
    date: str = "2023-06-01T10:00:00+00:00"
    alone: bool = True
    bare: bool = False

    def __str__(self) -> str:
        return self.name


COMMON = ("blue", "swir16", "scl")
BOILERPLATE = {"nodata": 0, "data_type": "uint16", "scale": 1e-4, "offset": -0.1}
S2 = {"platform": "sentinel-2a", "constellation": "sentinel-2", "grid:code": "MGRS-33TWM"}


def earth_search(name: str, flag: bool | None, baseline: str | None, added: float, **more: Any) -> Kind:  # noqa: FBT001
    said = ({} if flag is None else {FLAG: flag}) | ({} if baseline is None else {BASELINE: baseline})
    return Kind(name, EARTH_SEARCH, "sentinel-2-l2a", S2 | said, COMMON, BOILERPLATE, added=added, **more)


def c1(baseline: dict[str, str], facts: Mapping[str, Any]) -> Kind:
    name = f"c1, {baseline or 'no baseline'}, offset {facts.get('offset')}"
    return Kind(name, EARTH_SEARCH, "sentinel-2-c1-l2a", S2 | baseline, COMMON, facts, added=1000)


def planetary(baseline: str, added: float) -> Kind:
    said = {"platform": "Sentinel-2A", "s2:mgrs_tile": "33TWM", BASELINE: baseline}
    return Kind(
        f"pc {baseline}", PLANETARY, "sentinel-2-l2a", said, ("B02", "B11", "SCL"), None, added=added, bare=True
    )


def cdse(baseline: str, offset: float, added: float) -> Kind:
    facts = {"nodata": 0, "data_type": "uint16", "raster:scale": 1e-4, "raster:offset": offset}
    keys = ("B02_10m", "B11_20m", "SCL_20m")
    return Kind(
        f"cdse {baseline}", CDSE, "sentinel-2-l2a", S2 | {"processing:version": baseline}, keys, facts, added=added
    )


KINDS = [
    earth_search("flag true", flag=True, baseline="05.09", added=0),
    earth_search("flag true, old", flag=True, baseline="02.12", added=0),
    earth_search("flag true, no baseline", flag=True, baseline=None, added=0),
    earth_search("flag true, wrong", flag=True, baseline="05.09", added=1000, alone=False),
    earth_search("flag true, wrong, 04.00", flag=True, baseline="04.00", added=1000, alone=False),
    earth_search("flag false", flag=False, baseline="05.11", added=1000),
    earth_search("flag false, 04.00", flag=False, baseline="04.00", added=1000),
    earth_search("flag false, wrong", flag=False, baseline="05.11", added=0, alone=False),
    earth_search("flag false, 02.12", flag=False, baseline="02.12", added=0),
    earth_search("flag false, 03.01", flag=False, baseline="03.01", added=0),
    earth_search("flag absent, added", flag=None, baseline="05.09", added=1000),
    earth_search("flag absent, taken off", flag=None, baseline="05.09", added=0, alone=False),
    earth_search("flag absent, 02.14", flag=None, baseline="02.14", added=0),
    earth_search("nothing said, 2019", flag=None, baseline=None, added=0, date="2019-06-01T10:00:00+00:00"),
    earth_search("nothing said, 2023", flag=None, baseline=None, added=1000),
    c1({BASELINE: "05.00"}, BOILERPLATE),
    c1({BASELINE: "05.10"}, {"nodata": 0, "data_type": "uint16"}),
    c1({"processing:version": "05.11"}, BOILERPLATE),
    c1({}, BOILERPLATE),
    planetary("02.12", 0),
    planetary("03.01", 0),
    planetary("04.00", 1000),
    planetary("05.10", 1000),
    cdse("02.14", -0.1, 0),
    cdse("05.11", -0.1, 1000),
    cdse("05.11", 0.0, 1000),
    Kind("landsat, es", EARTH_SEARCH, "landsat-c2-l2", {"platform": "landsat-8", "processing:version": "06.1"},
         ("blue", "swir16", "qa_pixel"), {"scale": 2.75e-5, "offset": -0.2, "nodata": 0, "data_type": "uint16"},
         scale=2.75e-5, added=0.2 / 2.75e-5, clear=21824, cloud=22280),
    Kind("landsat, silent", "catalog.json", "landsat-c2l2-sr", {"platform": "landsat-9"},
         ("blue", "swir16", "qa_pixel"), None, scale=2.75e-5, added=0.2 / 2.75e-5, clear=21952, cloud=23888, bare=True),
    Kind("hls s30", CMR, "HLSS30_2.0", {"platform": "sentinel-2b"}, ("B02", "B11", "Fmask"), None,
         dtype="int16", fill=-9999, clear=64, cloud=2, bare=True),
    Kind("hls l30", CMR, "HLSL30_2.0", {"platform": "landsat-8"}, ("B02", "B06", "Fmask"), None,
         dtype="int16", fill=-9999, clear=128, cloud=8, bare=True),
    Kind("hls s30, pc", PLANETARY, "hls2-s30", {"platform": "sentinel-2a"}, ("B02", "B11", "Fmask"), None,
         dtype="int16", fill=-9999, clear=0, cloud=1, bare=True),
]  # fmt: skip


def landscape(ground: str, date: int) -> dict[str, NDArray[np.float64]]:
    """Reflectance by band: the same fields at every date, a little brighter or darker by season."""
    fields = np.kron(np.random.default_rng(1).random((16, 16)), np.ones((4, 4)))
    season = 1 + 0.08 * np.sin(1.7 * date)
    blue, swir = GROUND[ground]
    return {"blue": (blue + 0.1 * fields) * season, "swir16": (swir + 0.2 * fields) * season}


@dataclass(frozen=True)
class Scene:
    """An item over real files, and the truth behind them."""

    case: Case
    bands: dict[str, Source]
    truth: dict[str, NDArray[np.float64]]
    observed: NDArray[np.bool_]


def write(path: Path, values: NDArray[Any], *, nodata: int | None) -> Path:
    """A GeoTIFF, or a lossless JPEG 2000 as the Copernicus Data Space holds them."""
    options: dict[str, Any] = {"driver": "GTiff", "tiled": True, "blockxsize": 32, "blockysize": 32}
    if path.suffix == ".jp2":
        options = {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"}
    shape = {"count": 1, "height": 64, "width": 64, "dtype": values.dtype}
    with rasterio.open(path, "w", crs=GRID.crs, transform=GRID.transform, nodata=nodata, **shape, **options) as file:
        file.write(values, 1)
    return path


def make(folder: Path, kind: Kind, ground: str, date: int) -> Scene:
    """Store the landscape as the provider does: fill in one corner, cloud in another, the rest clear."""
    folder.mkdir(parents=True)
    truth = landscape(ground, date)
    mask = np.full((64, 64), kind.clear, dtype="uint16" if "landsat" in kind.name else "uint8")
    mask[:8], mask[8:16] = kind.cloud, kind.clear
    observed = np.ones((64, 64), dtype=bool)
    observed[:, :4] = False
    suffix = ".jp2" if "cdse" in kind.name else ".tif"
    paths: dict[str, Path] = {}
    for band, key in zip(truth, kind.keys[:2], strict=True):
        stored = np.rint(truth[band] / kind.scale + kind.added)
        stored[:8] = 9000
        paths[key] = write(
            folder / f"{key}{suffix}",
            np.where(observed, stored, kind.fill).astype(kind.dtype),
            nodata=None if kind.bare or suffix == ".jp2" else kind.fill,
        )
    paths[kind.keys[2]] = write(folder / f"mask{suffix}", mask, nodata=None)
    if "cdse" in kind.name:
        paths["B02_60m"] = paths["B02_20m"] = folder / "none.jp2"
    item = make_item(
        folder.name, paths, GRID, time=str(datetime.fromisoformat(kind.date) + timedelta(days=5 * date)),
        properties=kind.properties, band_facts=[kind.facts] if kind.facts else None,
    )  # fmt: skip
    if "cdse" in kind.name:
        for asset in item.assets.values():
            asset.extra_fields, asset.media_type = dict(kind.facts or {}), pystac.MediaType.JPEG2000
    provider = find_provider(None, kind.catalog, kind.collection, {})
    bands = {band: band_source(item, band, provider) for band in truth}
    return Scene(Case(item, bands["blue"], provider), bands, truth, observed)


def read(source: Source) -> NDArray[Any]:
    with rasterio.open(source.href) as file:
        values: NDArray[Any] = file.read(source.index)
    return values


def asker(scenes: Sequence[Scene], band: str, asked: list[int] | None = None) -> Callable[[int], float | None]:
    """The first percentile of a band's clear DN, from the files."""

    def ask(number: int) -> float | None:
        if asked is not None:
            asked.append(number)
        scene = scenes[number]
        mask = mask_of(scene.case.item, scene.case.provider, None, None)
        assert mask is not None
        values = read(scene.bands[band])
        clear = mask.rule.clear(read(mask.source)) & (values != scene.bands[band].nodata)
        return float(np.percentile(values[clear], 1)) if clear.sum() >= 100 else None

    return ask


def worst_error(scene: Scene, radiometry: Radiometry) -> float:
    """Largest difference from the true reflectance over clear, observed ground."""
    errors = []
    for band, source in scene.bands.items():
        source = radiometry.apply(source)  # noqa: PLW2901 - the decided one
        values = read(source)
        seen = values != source.nodata
        assert np.array_equal(seen, scene.observed), "nodata is known"
        clear = seen & (np.arange(64)[:, None] >= 8)
        errors.append(np.abs(values * source.scale + source.offset - scene.truth[band])[clear].max())
    return float(max(errors))


@pytest.mark.parametrize("ground", GROUND)
@pytest.mark.parametrize("witnessed", [False, True])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_provider_yields_the_true_reflectance(
    tmp_path: Path, kind: Kind, ground: str, *, witnessed: bool
) -> None:
    honest = [earth_search(f"{n}", flag=True, baseline="05.09", added=0) for n in range(4)]
    group = [*honest, kind] if kind.collection == "sentinel-2-l2a" and kind.catalog == EARTH_SEARCH else [kind]
    scenes = [make(tmp_path / f"s{n}", each, ground, n) for n, each in enumerate(group)]
    witness = asker(scenes, "swir16") if witnessed else None
    decided = decide_offsets([scene.case for scene in scenes], asker(scenes, "blue"), witness=witness, workers=2)
    errors = [worst_error(scene, radiometry) for scene, radiometry in zip(scenes, decided, strict=True)]
    assert max(errors) <= kind.scale / 2 + 1e-9, decided[-1].reason


@pytest.mark.parametrize("ground", GROUND)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.alone], ids=str)
def test_most_scenes_need_no_others(tmp_path: Path, kind: Kind, ground: str) -> None:
    scene = make(tmp_path / "s", kind, ground, 0)
    [decided] = decide_offsets([scene.case], asker([scene], "blue"))
    assert worst_error(scene, decided) <= kind.scale / 2 + 1e-9, decided.reason


@pytest.mark.parametrize("name", ["flag false, wrong", "flag absent, taken off"])
def test_dark_ground_alone_shows_that_the_offset_is_gone(tmp_path: Path, name: str) -> None:
    [kind] = [kind for kind in KINDS if kind.name == name]
    scene = make(tmp_path / "s", kind, "dark", 0)
    [decided] = decide_offsets([scene.case], asker([scene], "blue"))
    assert decided.tested
    assert worst_error(scene, decided) <= 1e-4


@pytest.mark.parametrize("ground", GROUND)
@pytest.mark.parametrize("family", ["pc", "cdse", "flag"])
def test_a_cube_that_crosses_january_2022_has_no_step(tmp_path: Path, family: str, ground: str) -> None:
    """Two years, the offset in the second one: what differs is the season alone."""
    kinds = {kind.name: kind for kind in KINDS}
    first, second = {
        "pc": ("pc 03.01", "pc 04.00"),
        "cdse": ("cdse 02.14", "cdse 05.11"),
        "flag": ("flag false, 03.01", "flag false, 04.00"),
    }[family]
    scenes = [make(tmp_path / f"a{n}", kinds[first], ground, n) for n in range(3)]
    scenes += [make(tmp_path / f"b{n}", kinds[second], ground, n) for n in range(3)]
    decided = decide_offsets([scene.case for scene in scenes], asker(scenes, "blue"))
    means = [
        (read(scene.bands["blue"])[16:, 8:] * 1e-4 + radiometry.apply(scene.bands["blue"]).offset).mean()
        for scene, radiometry in zip(scenes, decided, strict=True)
    ]
    assert np.abs(np.subtract(means[:3], means[3:])).max() < 1e-4


def case(
    number: int = 0, *, tile: str = "MGRS-33TWM", catalog: str = EARTH_SEARCH, offset: float = -0.1, **said: Any
) -> Case:
    """A case without files, for what a percentile alone decides."""
    item = make_item(f"s{number}", {"blue": "/a.tif"}, GRID, properties={**S2, "grid:code": tile, **said})
    facts = {"scale": 1e-4, "nodata": 0} | ({"offset": offset} if offset else {})
    item.assets["blue"].extra_fields["raster:bands"] = [facts]
    provider = find_provider(None, catalog, "sentinel-2-l2a", {})
    return Case(item, band_source(item, "blue", provider), provider)


PRODUCT = "S2A_MSIL2A_20190815T095031_N0213_R079_T33TWL_20190815T155057.SAFE"
LANDSAT = {"platform": "landsat-8", "constellation": "landsat"}
TERRA = {"platform": "terra", "constellation": None}
TRUE = {FLAG: True, BASELINE: "05.09"}
FALSE = {FLAG: False, BASELINE: "05.09"}


def offsets(
    cases: Sequence[Case], darkest: Sequence[float | None], elsewhere: Sequence[float | None] | None = None
) -> list[float | None]:
    witness = elsewhere.__getitem__ if elsewhere else None
    return [each.offset for each in decide_offsets(cases, darkest.__getitem__, witness=witness)]


def never(number: int) -> float | None:
    pytest.fail(f"the pixels of {number} were asked although the metadata tell")


@pytest.mark.parametrize(
    ("said", "announced", "catalog", "offset", "reason"),
    [
        ({FLAG: True, BASELINE: "05.09"}, 0.0, EARTH_SEARCH, 0.0, "already in the numbers"),
        ({FLAG: True, BASELINE: "02.12"}, -0.1, EARTH_SEARCH, 0.0, "before baseline 04.00 (this is 02.12)"),
        ({FLAG: False, BASELINE: "03.01"}, -0.1, EARTH_SEARCH, 0.0, "before baseline 04.00"),
        ({BASELINE: "02.12"}, 0.0, "x", 0.0, "before baseline 04.00"),
        ({BASELINE: "05.09"}, -0.1, "x", None, "offset -0.1 as announced"),
        ({"s2:product_uri": PRODUCT}, 0.0, "x", 0.0, "(this is 02.13)"),
        ({**LANDSAT, "processing:version": "06.10"}, -0.2, "x", None, "-0.2 as announced"),
        ({**TERRA, "processing:version": "061"}, 0.0, "x", None, "offset 0 as announced"),
    ],
)  # fmt: skip
def test_metadata_that_agree_are_believed(
    said: dict[str, Any], announced: float, catalog: str, offset: float | None, reason: str
) -> None:
    one = case(catalog=catalog, offset=announced, **said)
    [decided] = decide_offsets([one], never)
    assert (decided.offset, decided.tested) == (offset, False)
    assert reason in decided.reason
    assert decided.apply(one.announced).offset == (announced if offset is None else offset)


def test_a_scene_alone_costs_nothing_and_its_flag_is_believed() -> None:
    decided = decide_offsets([case(n, **TRUE) for n in range(3)], never)
    assert [each.offset for each in decided] == [0.0] * 3
    assert not any(each.tested for each in decided)


@pytest.mark.parametrize(
    ("dn", "offset", "reason"),
    [
        (1050.0, -0.1, "tested, first percentile of blue is DN 1050"),
        (900.0, -0.1, "tested"),
        (899.0, 0.0, "no offset left to apply: tested"),
        (None, -0.1, "by its baseline; no clear pixel to test"),
    ],
)
@pytest.mark.parametrize("said", [FALSE, {BASELINE: "05.09"}, {"processing:version": "05.10"}])
def test_doubtful_metadata_let_the_pixels_decide(
    said: dict[str, Any], dn: float | None, offset: float, reason: str
) -> None:
    [decided] = decide_offsets([case(**said)], lambda _: dn)
    assert decided.offset == offset
    assert reason in decided.reason
    assert decided.tested == (dn is not None)


def test_a_wrong_flag_among_right_ones_is_overruled() -> None:
    cases = [case(n, **TRUE) for n in range(5)]
    decided = decide_offsets(cases, [310.0, 280.0, 1290.0, 350.0, 300.0].__getitem__)
    assert [each.offset for each in decided] == [0.0, 0.0, -0.1, 0.0, 0.0]
    assert [each.tested for each in decided] == [False, False, True, False, False]
    assert "says that it is applied, but the first percentile of blue is DN 1290, +985" in decided[2].reason


def test_a_desert_with_right_flags_is_left_alone() -> None:
    assert offsets([case(n, **TRUE) for n in range(5)], [1200, 1350, 1500, 1250, 1300]) == [0.0] * 5


def test_a_wrong_flag_in_a_desert() -> None:
    assert offsets([case(n, **TRUE) for n in range(5)], [1200, 1150, 2260, 1250, 1300])[2] == -0.1
    mixed = [case(n, **TRUE) for n in range(4)] + [case(4, **FALSE), case(5, **FALSE)]
    assert offsets(mixed, [1200, 1150, 1250, 1300, 1210, 2190])[4:] == [0.0, -0.1]


@pytest.mark.parametrize("dn", [950.0, 2400.0, 6000.0])
def test_bright_scenes_that_are_not_a_thousand_brighter_keep_their_flag(dn: float) -> None:
    assert offsets([case(n, **TRUE) for n in range(5)], [310, 280, dn, 350, 300]) == [0.0] * 5


@pytest.mark.parametrize(("elsewhere", "offset"), [(1900, -0.1), (35, 0.0), (1324, 0.0), (None, -0.1)])
def test_haze_and_snow_are_told_by_another_band(elsewhere: float | None, offset: float) -> None:
    darkest, other = [155, 170, 1086, 140, 160], [880, 900, elsewhere, 860, 890]
    assert offsets([case(n, **TRUE) for n in range(5)], darkest, other)[2] == offset


def test_another_band_shows_that_the_offset_of_a_doubtful_scene_is_gone() -> None:
    [decided] = decide_offsets([case(**FALSE)], lambda _: 1400.0, witness=lambda _: 60.0)
    assert decided.offset == 0.0
    assert "of another band less than 900" in decided.reason


def test_other_tiles_show_other_ground() -> None:
    cases = [case(n, tile="MGRS-33TWL", **TRUE) for n in range(4)] + [case(n, **TRUE) for n in range(4, 8)]
    assert offsets(cases, [300, 310, 290, 305, 1300, 1290, 1310, 1305]) == [0.0] * 8


def test_settled_scenes_are_asked_for_comparison_only_when_needed() -> None:
    asked: list[int] = []
    old = [case(n, **{FLAG: True, BASELINE: "02.12"}) for n in range(20)]

    def ask(number: int) -> float:
        asked.append(number)
        return 1250.0 if number < 20 else 1300.0

    decided = decide_offsets([*old, case(20, **FALSE)], ask)
    assert decided[20].offset == 0.0, "a desert whose flag is wrong"
    assert asked.count(20) == 1
    assert len(asked) == 6
    asked.clear()
    decide_offsets(old, ask)
    assert asked == []


def test_announced_offsets_are_taken_off_before_scenes_are_compared() -> None:
    """A generic catalog: four scenes announce the offset, the fifth says nothing; the ground is bright."""
    cases = [case(n, catalog="x", **{BASELINE: "05.10"}) for n in range(4)]
    cases.append(case(4, catalog="x", offset=0.0, **{BASELINE: "05.10"}))
    assert offsets(cases, [2200, 2210, 2190, 2205, 1200]) == [None, None, None, None, 0.0]
    assert offsets(cases, [2200, 2210, 2190, 2205, 2195])[4] == -0.1


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["true", "false", "silent", "old"]), min_size=1, max_size=12),
    st.integers(100, 2000),
    st.randoms(use_true_random=False),
)
def test_honest_metadata_are_never_overruled(kinds: list[str], level: int, random: Any) -> None:
    """Whatever the ground, as long as its first percentile varies by less than 400 DN; three true flags to compare."""
    says: dict[str, tuple[dict[str, Any], int]] = {
        "true": (TRUE, 0), "false": (FALSE, 1000), "silent": ({BASELINE: "05.09"}, 1000),
        "old": ({FLAG: False, BASELINE: "02.12"}, 0),
    }  # fmt: skip
    chosen = ["true"] * 4 + kinds
    darkest = [level + random.uniform(-200, 200) + says[kind][1] for kind in chosen]
    expected = [says[kind][1] / -10_000 for kind in chosen]
    assert offsets([case(n, **says[kind][0]) for n, kind in enumerate(chosen)], darkest) == expected


def test_real_earth_search_items(real_data: Path) -> None:
    """They announce an offset of -0.1 and say that it has been applied: the latter is the truth."""
    folder = real_data / "austria"
    items = [pystac.Item.from_file(str(path)) for path in sorted((folder / "items").glob("*.json"))]
    provider = find_provider(None, EARTH_SEARCH, "sentinel-2-l2a", {})
    cases = [Case(item, band_source(item, "blue", provider), provider) for item in items]
    assert {(c.announced.scale, c.announced.offset, c.announced.nodata) for c in cases} == {(1e-4, -0.1, 0.0)}

    def darkest(number: int, *, more: int = 0) -> float:
        mask = mask_of(items[number], provider, None, None)
        assert mask is not None
        values = read(cases[number].announced)
        return float(np.percentile(values[(values > 0) & mask.rule.clear(read(mask.source))], 1)) + more

    decided = decide_offsets(cases, darkest)
    assert [(each.offset, each.tested) for each in decided] == [(0.0, False)] * 10
    for wrong in range(10):
        spoilt = decide_offsets(cases, lambda n, wrong=wrong: darkest(n, more=1000 * (n == wrong)))
        assert [n for n, each in enumerate(spoilt) if each.offset == -0.1] == [wrong]
    for item in items:
        item.properties[FLAG] = False
    cases = [Case(item, case.announced, provider) for item, case in zip(items, cases, strict=True)]
    assert {each.offset for each in decide_offsets(cases, darkest)} == {0.0}
    assert {each.offset for each in decide_offsets(cases, lambda n: darkest(n, more=1000))} == {-0.1}


def test_real_items_without_a_baseline_are_read_as_announced(real_data: Path) -> None:
    for site, scale in (("india", 1.0), ("romania", 1e-4), ("slovenia", 1e-4), ("brandenburg", 1e-4)):
        path = min((real_data / site / "items").glob("*.json"))
        item = pystac.Item.from_file(str(path))
        provider = find_provider(None, str(real_data / "catalog.json"), site, {})
        blue = band_source(item, "blue", provider)
        [decided] = decide_offsets([Case(item, blue, provider)], never)
        assert (provider.name, blue.scale, decided.apply(blue).offset) == ("generic", scale, 0.0)


def test_how_often_a_hazy_year_misleads(real_data: Path) -> None:
    """Six years of a real forest, as if every scene had a flag: haze and snow must not look like the 1000."""
    folder = real_data / "romania"
    provider = find_provider("earth-search-sentinel-2-l2a", "", "", {})
    items = [pystac.Item.from_file(str(path)) for path in sorted((folder / "items").glob("*.json"))]
    ground = {}
    for item in items:
        classes = np.kron(read(band_source(item, "scl", provider)), np.ones((2, 2)))
        clear = np.isin(classes, (4, 5, 6))
        if clear.sum() >= 100:
            ground[item.id] = {
                band: float(np.percentile(np.kron(values, np.ones((side, side)))[clear], 1))
                for band, side in (("blue", 1), ("swir16", 2))
                for values in (read(band_source(item, band, provider)),)
            }
    flagged = [item for item in items if item.id in ground]
    for item in flagged:
        item.properties |= TRUE
    cases = [Case(item, Source("/a", 1, 1e-4, -0.1, 0, "uint16"), provider) for item in flagged]
    blue, swir = ([ground[item.id][band] for item in flagged] for band in ("blue", "swir16"))
    assert len(cases) == 114
    assert offsets(cases, blue).count(-0.1) == 3, "blue alone"
    assert offsets(cases, blue, swir).count(-0.1) == 0, "with another band"
    caught = 0
    for wrong in range(len(cases)):
        spoilt = [[dn + 1000 * (n == wrong) for n, dn in enumerate(band)] for band in (blue, swir)]
        caught += offsets(cases, *spoilt)[wrong] == -0.1
    assert caught == 87, "of 114 flags that were made wrong"
