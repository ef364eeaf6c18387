from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pystac
import pytest
from scenery import make_item, utm_grid

from eearth.errors import SourceError
from eearth.geo.providers import (
    COMMON_ENCODING,
    SENTINEL_2_NUMBERS,
    Encoding,
    Source,
    band_source,
    common_encoding,
    decide_offset,
    mask_source,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GRID = utm_grid(10, 10)


def item_with(assets: dict[str, dict[str, Any]], **properties: Any) -> pystac.Item:
    return make_item("it", dict.fromkeys(assets, "/a.tif"), GRID, fields=assets, properties=properties, band_facts=None)


def earth_search(real_data: Path) -> pystac.Item:
    return pystac.Item.from_file(str(real_data / "austria" / "items" / "S2A_33TWL_20230815_0_L2A.json"))


@pytest.mark.parametrize(
    ("assets", "band", "key", "index"),
    [
        ({"blue": {}, "red": {}}, "red", "red", 1),
        ({"B04": {"eo:bands": [{"name": "B04", "common_name": "red"}]}}, "red", "B04", 1),
        ({"B04": {"eo:bands": [{"name": "B04", "common_name": "red"}]}}, "B04", "B04", 1),
        ({"b": {"eo:bands": [{"name": "B04"}]}}, "red", "b", 1),
        ({"b": {"eo:bands": [{"name": "SR_B4", "common_name": "red"}]}}, "SR_B4", "b", 1),
        ({"B04": {}}, "red", "B04", 1),
        ({"B8A": {}, "B08": {}}, "nir08", "B8A", 1),
        ({"nir08": {}, "nir": {}}, "B8A", "nir08", 1),
        ({"x": {"bands": [{"name": "B04", "eo:common_name": "red"}]}}, "red", "x", 1),
        ({"x": {"bands": [{"name": "red"}]}}, "red", "x", 1),
        ({"all": {"eo:bands": [{"name": "B02"}, {"name": "B03"}, {"common_name": "red"}]}}, "red", "all", 3),
        ({"all": {"bands": [{"name": "B02"}, {"name": "B03"}, {"name": "B04"}]}}, "green", "all", 2),
        (
            {"visual": {"eo:bands": [{"common_name": "red"}, {"common_name": "green"}]},
             "B04": {"eo:bands": [{"common_name": "red"}]}},
            "red", "B04", 1,
        ),
    ],
)  # fmt: skip
def test_a_band_is_found_by_any_of_its_names(assets: dict[str, Any], band: str, key: str, index: int) -> None:
    item = item_with(assets)
    item.assets[key].href = "/found.tif"
    source = band_source(item, band)
    assert (source.href, source.index) == ("/found.tif", index)


def test_a_picture_is_not_taken_for_a_band() -> None:
    item = item_with({"thumbnail": {"eo:bands": [{"common_name": "red"}]}, "B04": {}})
    item.assets["thumbnail"].media_type = pystac.MediaType.JPEG
    item.assets["B04"].href = "/found.tif"
    assert band_source(item, "red").href == "/found.tif"


def test_sentinel_2_numbers_are_those_of_the_satellite() -> None:
    assert list(SENTINEL_2_NUMBERS.values()) == sorted(
        SENTINEL_2_NUMBERS.values(), key=lambda b: b.replace("8A", "085")
    )
    assert len(set(SENTINEL_2_NUMBERS.values())) == 13


def test_a_missing_band_names_what_there_is() -> None:
    item = item_with({"B02": {}, "B03": {}})
    item.add_asset("info", pystac.Asset("/a.json", media_type=pystac.MediaType.JSON))
    message = r"^expected the band 'swir16' in the item it, found the assets: B02, B03; name them with --bands$"
    with pytest.raises(SourceError, match=message):
        band_source(item, "swir16")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"raster:bands": [{"scale": 2e-4, "offset": -0.2, "nodata": 7, "data_type": "int16"}]},
         (2e-4, -0.2, 7.0, "int16")),
        ({"raster:scale": 2e-4, "raster:offset": -0.2, "nodata": 7, "data_type": "int16"}, (2e-4, -0.2, 7.0, "int16")),
        ({"bands": [{"raster:scale": 2e-4, "raster:offset": -0.2, "nodata": 7, "data_type": "int16"}]},
         (2e-4, -0.2, 7.0, "int16")),
        ({"raster:scale": 1.0, "bands": [{"raster:scale": 2e-4, "data_type": "uint8"}]}, (2e-4, 0.0, None, "uint8")),
        ({"raster:bands": [{"nodata": 0}]}, (1.0, 0.0, 0.0, None)),
        ({}, (1.0, 0.0, None, None)),
    ],
)  # fmt: skip
def test_scale_offset_nodata_and_type_are_those_announced(fields: dict[str, Any], expected: tuple[Any, ...]) -> None:
    source = band_source(item_with({"red": fields}), "red")
    assert (source.scale, source.offset, source.nodata, source.dtype) == expected


def test_each_band_of_a_file_has_its_own_scale() -> None:
    bands = [{"name": "B02"}, {"name": "B03"}]
    item = item_with({"all": {"eo:bands": bands, "raster:bands": [{"scale": 0.1}, {"scale": 0.2}]}})
    assert [band_source(item, band).scale for band in ("B02", "B03")] == [0.1, 0.2]


def test_sentinel_2_numbers_without_a_scale_are_ten_thousandths() -> None:
    assert band_source(item_with({"B04": {}}, **{"s2:processing_baseline": "05.09"}), "red").scale == 1e-4
    assert band_source(item_with({"B04": {}}), "red").scale == 1.0


def test_hrefs_are_absolute(real_data: Path) -> None:
    item = earth_search(real_data)
    expected = real_data / "austria" / "assets" / item.id / "red.tif"
    assert band_source(item, "red").href == str(expected)


def test_the_mask_is_the_scene_classification_where_there_is_one() -> None:
    def key_of(item: pystac.Item, wanted: str | None) -> str | None:
        for key, asset in item.assets.items():
            asset.href = f"/{key}"
        source = mask_source(item, wanted)
        return source.href[1:] if source else None

    assert key_of(item_with({"red": {}, "scl": {}}), None) == "scl"
    assert key_of(item_with({"B04": {}, "SCL": {}}), None) == "SCL"
    assert key_of(item_with({"red": {}}), None) is None
    assert key_of(item_with({"red": {}, "scl": {}}), "none") is None
    assert key_of(item_with({"red": {}, "clm": {}}), "clm") == "clm"
    with pytest.raises(
        SourceError, match=r"expected the mask asset 'qa' in the item it, found: red, scl; .*--mask-asset none$"
    ):
        key_of(item_with({"red": {}, "scl": {}}), "qa")


def never() -> float | None:
    pytest.fail("the pixels were asked although the metadata tell")


FLAG, BASELINE = "earthsearch:boa_offset_applied", "s2:processing_baseline"


@pytest.mark.parametrize(
    ("properties", "announced", "test", "offset", "reason"),
    [
        ({FLAG: True, BASELINE: "05.09"}, -0.1, never, 0.0, "already in the numbers"),
        ({FLAG: True, BASELINE: "02.12"}, 0.0, never, 0.0, "already in the numbers"),
        ({FLAG: False, BASELINE: "02.12"}, 0.0, never, 0.0, "before baseline 04.00 (this is 02.12)"),
        ({FLAG: False, BASELINE: "03.01"}, -0.1, never, 0.0, "before baseline 04.00"),
        ({FLAG: False, BASELINE: "04.00"}, -0.1, lambda: 1050.0, -0.1, "tested, first percentile of blue is DN 1050"),
        ({FLAG: False, BASELINE: "05.09"}, -0.1, lambda: 900.0, -0.1, "tested"),
        ({FLAG: False, BASELINE: "05.09"}, -0.1, lambda: 899.0, 0.0, "no offset left to apply: tested"),
        ({FLAG: False, BASELINE: "05.09"}, -0.1, lambda: None, -0.1, "no valid pixel to test"),
        ({BASELINE: "05.09"}, -0.1, never, None, "offset -0.1 as announced"),
        ({BASELINE: "05.09"}, 0.0, lambda: 1050.0, -0.1, "tested"),
        ({BASELINE: "05.09"}, 0.0, lambda: 300.0, 0.0, "tested"),
        ({BASELINE: "02.12"}, 0.0, never, 0.0, "before baseline 04.00"),
        ({}, 0.0, never, None, "offset 0 as announced"),
        ({}, -0.2, never, None, "offset -0.2 as announced"),
        ({"platform": "sentinel-2a", "processing:version": "05.10"}, 0.0, lambda: 1200.0, -0.1, "tested"),
        ({"platform": "landsat-8", "processing:version": "06.10"}, 0.0, never, None, "as announced"),
        ({"platform": "terra", "processing:version": "061"}, 0.0, never, None, "as announced"),
    ],
)
def test_the_offset_is_applied_once(
    properties: dict[str, Any],
    announced: float,
    test: Callable[[], float | None],
    offset: float | None,
    reason: str,
) -> None:
    source = Source("/a.tif", 1, 1e-4, announced, 0, "uint16")
    radiometry = decide_offset(item_with({"blue": {}}, **properties), source, test)
    assert radiometry.offset == offset
    assert reason in radiometry.reason
    assert radiometry.apply(source).offset == (announced if offset is None else offset)
    assert radiometry.apply(source).scale == 1e-4


def test_a_real_earth_search_item(real_data: Path) -> None:
    """It announces an offset of -0.1 and says that it has been applied: the latter is the truth."""
    item = earth_search(real_data)
    blue = band_source(item, "blue")
    assert (blue.scale, blue.offset, blue.nodata, blue.dtype) == (1e-4, -0.1, 0, "uint16")
    assert decide_offset(item, blue, never).apply(blue).offset == 0.0
    mask = mask_source(item, None)
    assert mask is not None
    assert mask.href.endswith("scl.tif")
    assert band_source(item, "B08").href.endswith("nir.tif")
    del item.properties["earthsearch:boa_offset_applied"]
    assert decide_offset(item, blue, never).apply(blue).offset == -0.1
    item.properties["earthsearch:boa_offset_applied"] = False
    assert decide_offset(item, blue, lambda: 300.0).apply(blue).offset == 0.0


def test_sources_of_one_form_pass_unchanged() -> None:
    source = Source("/a.tif", 1, 1e-4, -0.1, 0, "uint16")
    other = Source("/b.tif", 2, 1e-4, -0.1, 0, "uint16")
    assert common_encoding([source, other]) == Encoding("uint16", 1e-4, -0.1, 0)


@pytest.mark.parametrize(
    "other",
    [
        Source("/b.tif", 1, 1e-4, 0.0, 0, "uint16"),
        Source("/b.tif", 1, 2e-4, -0.1, 0, "uint16"),
        Source("/b.tif", 1, 1e-4, -0.1, 1, "uint16"),
        Source("/b.tif", 1, 1e-4, -0.1, 0, "int16"),
    ],
)
def test_sources_that_differ_take_the_common_form(other: Source) -> None:
    assert common_encoding([Source("/a.tif", 1, 1e-4, -0.1, 0, "uint16"), other]) == COMMON_ENCODING


@pytest.mark.parametrize(
    "source", [Source("/a.tif", 1, 1.0, 0.0, -1, "float32"), Source("/a.tif", 1, 1e-4, 0.0, None, "uint16")]
)
def test_floats_and_numbers_without_nodata_take_the_common_form(source: Source) -> None:
    assert common_encoding([source]) == COMMON_ENCODING


def test_the_common_form_holds_what_reflectance_can_be() -> None:
    ends = [COMMON_ENCODING.scale * step for step in (COMMON_ENCODING.fill + 1, np.iinfo(COMMON_ENCODING.dtype).max)]
    assert ends == pytest.approx([-3.2767, 3.2767])
