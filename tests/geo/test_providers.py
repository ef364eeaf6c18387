from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenery import make_item, utm_grid

from eearth.errors import SourceError, UsageError
from eearth.geo.providers import (
    COMMON_ENCODING,
    Encoding,
    MaskRule,
    Provider,
    Source,
    band_source,
    baseline_of,
    common_encoding,
    find_provider,
    mask_of,
    provider_names,
)
from eearth.geo.signing import Access

GRID = utm_grid(10, 10)


def named(name: str) -> Provider:
    return find_provider(name, "", "", {})


GENERIC = named("generic")


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
    source = band_source(item, band, GENERIC)
    assert (source.href, source.index) == ("/found.tif", index)


def test_a_picture_is_not_taken_for_a_band() -> None:
    item = item_with({"thumbnail": {"eo:bands": [{"common_name": "red"}]}, "B04": {}})
    item.assets["thumbnail"].media_type = pystac.MediaType.JPEG
    item.assets["B04"].href = "/found.tif"
    assert band_source(item, "red", GENERIC).href == "/found.tif"


def test_sentinel_2_numbers_are_those_of_the_satellite() -> None:
    numbers = list(GENERIC.aliases.values())
    assert numbers == sorted(numbers, key=lambda band: band.replace("8A", "085"))
    assert len(set(numbers)) == 13


def test_a_missing_band_names_what_there_is() -> None:
    item = item_with({"B02": {}, "B03": {}})
    item.add_asset("info", pystac.Asset("/a.json", media_type=pystac.MediaType.JSON))
    message = r"^expected the band 'swir16' in the item it, found the assets: B02, B03; name them with --bands$"
    with pytest.raises(SourceError, match=message):
        band_source(item, "swir16", GENERIC)


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
    source = band_source(item_with({"red": fields}), "red", GENERIC)
    assert (source.scale, source.offset, source.nodata, source.dtype) == expected


def test_each_band_of_a_file_has_its_own_scale() -> None:
    bands = [{"name": "B02"}, {"name": "B03"}]
    item = item_with({"all": {"eo:bands": bands, "raster:bands": [{"scale": 0.1}, {"scale": 0.2}]}})
    assert [band_source(item, band, GENERIC).scale for band in ("B02", "B03")] == [0.1, 0.2]


def test_sentinel_2_numbers_without_a_scale_are_ten_thousandths() -> None:
    assert band_source(item_with({"B04": {}}, **{"s2:processing_baseline": "05.09"}), "red", GENERIC).scale == 1e-4
    assert band_source(item_with({"B04": {}}), "red", GENERIC).scale == 1.0


def test_hrefs_are_absolute(real_data: Path) -> None:
    item = earth_search(real_data)
    expected = real_data / "austria" / "assets" / item.id / "red.tif"
    assert band_source(item, "red", GENERIC).href == str(expected)


def key_of(item: pystac.Item, provider: Provider, wanted: str | None, valid: tuple[int, ...] | None) -> str | None:
    for key, asset in item.assets.items():
        asset.href = f"/{key}"
    mask = mask_of(item, provider, wanted, valid)
    return mask.source.href[1:] if mask else None


def test_the_mask_is_the_scene_classification_where_there_is_one() -> None:
    assert key_of(item_with({"red": {}, "scl": {}}), GENERIC, None, None) == "scl"
    assert key_of(item_with({"B04": {}, "SCL": {}}), GENERIC, None, None) == "SCL"
    assert key_of(item_with({"red": {}}), GENERIC, None, None) is None
    assert key_of(item_with({"red": {}, "scl": {}}), GENERIC, "none", None) is None
    assert key_of(item_with({"red": {}, "clm": {}}), GENERIC, "clm", (0,)) == "clm"
    assert key_of(item_with({"SCL_60m": {}, "SCL_20m": {}}), named("cdse-sentinel-2-l2a"), None, None) == "SCL_20m"
    message = r"expected the mask asset 'qa' in the item it, found: red, scl; .*--mask-asset none$"
    with pytest.raises(SourceError, match=message):
        key_of(item_with({"red": {}, "scl": {}}), GENERIC, "qa", None)
    with pytest.raises(UsageError, match="expected --mask-valid with the mask asset 'clm'"):
        key_of(item_with({"red": {}, "clm": {}}), GENERIC, "clm", None)


def test_the_users_values_go_before_the_providers_rule() -> None:
    item, landsat = item_with({"red": {}, "qa_pixel": {}}), named("landsat-c2-l2")
    for valid, clear in ((None, [True, False, True]), ((22280,), [False, True, False])):
        mask = mask_of(item, landsat, None, valid)
        assert mask is not None
        assert mask.rule.clear(np.array([21824, 22280, 21952])).tolist() == clear


def test_what_is_known_of_the_bands_is_not_said_of_the_mask() -> None:
    mask = mask_of(item_with({"Fmask": {"nodata": 255}}), named("hls-l30"), None, None)
    assert mask is not None
    assert (mask.source.scale, mask.source.nodata) == (1.0, 255.0)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 15), min_size=1, max_size=6, unique=True),
    st.lists(st.integers(0, 65535), max_size=3),
    st.lists(st.integers(0, 65535), min_size=1),
)
def test_bits_are_read_one_by_one(bits: list[int], fill: list[int], values: list[int]) -> None:
    rule = MaskRule(bits=tuple(bits), fill=tuple(fill))
    naive = [value not in fill and all(f"{value:016b}"[15 - bit] == "0" for bit in bits) for value in values]
    assert rule.clear(np.array(values, dtype=np.uint16)).tolist() == naive


@pytest.mark.parametrize(
    ("name", "values", "clear"),
    [
        # Values that the USGS tabulates: fill; clear land, water; cloud; shadow; cirrus; dilated cloud; snow.
        ("landsat-c2-l2", [1, 21824, 21952, 22280, 23888, 54596, 21826, 30048], [0, 1, 1, 0, 0, 0, 0, 1]),
        # Fill; clear with low, high aerosol; water; snow; cirrus; cloud; adjacent; shadow.
        ("hls-s30", [255, 64, 192, 96, 80, 1, 66, 68, 72], [0, 1, 1, 1, 1, 0, 0, 0, 0]),
        ("generic", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 1]),
    ],
)
def test_masks_of_the_built_in_providers(name: str, values: list[int], clear: list[int]) -> None:
    rule = named(name).mask_rule
    assert rule is not None
    assert rule.clear(np.array(values, dtype=np.uint16)).tolist() == [bool(each) for each in clear]


def test_a_rule_says_one_thing() -> None:
    for rule in ({}, {"values": (1,), "bits": (1,)}):
        with pytest.raises(UsageError, match="expected either values or bits in a mask_rule"):
            MaskRule(**rule)


EARTH_SEARCH = "https://earth-search.aws.element84.com/v1"
PLANETARY = "https://planetarycomputer.microsoft.com/api/stac/v1"


@pytest.mark.parametrize(
    ("catalog", "collection", "name"),
    [
        (EARTH_SEARCH, "sentinel-2-l2a", "earth-search-sentinel-2-l2a"),
        (f"{EARTH_SEARCH}/", "sentinel-2-c1-l2a", "earth-search-sentinel-2-c1-l2a"),
        ("https://me:pw@earth-search.aws.element84.com/v1?a=b", "landsat-c2-l2", "earth-search-landsat-c2-l2"),
        (PLANETARY, "sentinel-2-l2a", "planetary-computer-sentinel-2-l2a"),
        (PLANETARY, "landsat-c2-l2", "planetary-computer-landsat-c2-l2"),
        (PLANETARY, "hls2-l30", "planetary-computer-hls2-l30"),
        (PLANETARY, "hls2-s30", "planetary-computer-hls2-s30"),
        ("https://stac.dataspace.copernicus.eu/v1", "sentinel-2-l2a", "cdse-sentinel-2-l2a"),
        ("https://landsatlook.usgs.gov/stac-server", "landsat-c2l2-sr", "usgs-landsat-c2-l2"),
        ("https://cmr.earthdata.nasa.gov/stac/LPCLOUD", "HLSL30_2.0", "earthdata-hls-l30"),
        ("https://cmr.earthdata.nasa.gov/stac/LPCLOUD", "HLSS30.v2.0", "earthdata-hls-s30"),
        ("/data/catalog.json", "HLSS30_2.0", "hls-s30"),
        ("/data/catalog.json", "landsat-c2-l2", "landsat-c2-l2"),
        ("/data/catalog.json", "sentinel-2-l2a", "generic"),
        (EARTH_SEARCH, "naip", "generic"),
    ],
)
def test_the_provider_is_found_by_catalog_and_collection(catalog: str, collection: str, name: str) -> None:
    assert find_provider(None, catalog, collection, {}).name == name


def test_a_name_goes_first_and_the_users_own_before_the_built_in_ones() -> None:
    mine = {"mine": {"extends": "generic", "collections": ["sentinel-2-l2a"], "scale": 2e-4}}
    assert find_provider(None, EARTH_SEARCH, "sentinel-2-l2a", mine).name == "mine"
    assert find_provider("hls-l30", EARTH_SEARCH, "sentinel-2-l2a", mine).name == "hls-l30"
    assert find_provider(None, EARTH_SEARCH, "naip", {"bare": {"scale": 1.0}}).name == "generic"
    with pytest.raises(UsageError, match=r"^expected a provider, found 'hls-l31'; did you mean hls-l30\?$"):
        find_provider("hls-l31", "", "", {})


def test_a_table_extends_another_entry_by_entry() -> None:
    mine = {
        "near": {"extends": "planetary-computer-sentinel-2-l2a", "access": {"hosts": ["127.0.0.1:*"]}, "nodata": 7},
        "nearer": {"extends": "near", "aliases": {"blue": "b"}, "mask_rule": {"bits": [3]}},
    }
    base, own = named("planetary-computer-sentinel-2-l2a"), find_provider("nearer", "", "", mine)
    assert own.access == replace(base.access, hosts=("127.0.0.1:*",))
    assert own.aliases == {**base.aliases, "blue": "b"}
    assert (own.nodata, own.mask_rule, own.offset_rule) == (7.0, MaskRule(bits=(3,)), base.offset_rule)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"m": {"scael": 1.0}}, "[providers.m] sets scael, which is not known there; did you mean scale?"),
        (
            {"m": {"access": {"endpont": "x"}}},
            "access of [providers.m] sets endpont, which is not known there",
        ),
        ({"m": {"mask_rule": {"value": [1]}}}, "did you mean values?"),
        ({"m": {"scale": "big"}}, "expected a number for scale in [providers.m], found 'big'"),
        ({"m": {"mask_rule": 4}}, "expected a table for mask_rule in [providers.m], found 4"),
        ({"m": {"aliases": {"blue": [2]}}}, "expected text for blue in aliases of [providers.m], found [2]"),
        (
            {"m": {"offset_rule": "guess"}},
            "expected announced|sentinel-2|sentinel-2-baseline|earth-search for ",
        ),
        ({"m": {"extends": "genric"}}, "expected a provider to extend in [providers.m], found 'genric'; did you mean"),
        ({"m": {"extends": "n"}, "n": {"extends": "m"}}, "found 'm'; one that does not lead back"),
        ({"generic": {}}, "expected a new name instead of [providers.generic], which is built in"),
        (
            {"m": {"access": {"kind": "sas", "endpoint": "https://x/?key=hush"}}},
            "an endpoint without a user name or",
        ),
    ],
)
def test_what_a_table_may_not_say(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_provider(None, "", "", tables)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("name", provider_names())
def test_a_provider_survives_the_manifest(name: str) -> None:
    """What is written down is enough to read the same way again, and holds names of variables, no secrets."""
    provider = named(name)
    data = json.loads(json.dumps(provider.as_dict()))
    assert Provider.from_dict(data) == provider
    assert (provider.bands, provider.resolution) != ((), 0)
    assert not provider.access.key_variables or provider.access.kind != "none"
    hash(provider)


def test_a_provider_has_a_name() -> None:
    with pytest.raises(UsageError, match=r"^expected name in \[providers.\], found scale$"):
        Provider.from_dict({"scale": 1.0})


def test_every_provider_has_its_place_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "providers.md").read_text(encoding="utf-8")
    assert [name for name in provider_names() if f"`{name}`" not in page] == []
    assert [each.name for each in (*fields(Provider), *fields(Access)) if f"`{each.name}`" not in page] == []


def test_the_asset_of_the_nearest_resolution_is_read() -> None:
    keys = ["B02_60m", "B02_20m", "B02_10m", "B05_60m", "B05_20m", "TCI_10m", "SCL_20m"]
    item = item_with({key: {} for key in keys})
    for key, asset in item.assets.items():
        asset.href = f"s3://eodata/{key}.jp2"
    cdse = named("cdse-sentinel-2-l2a")
    for band, key in (("blue", "B02_10m"), ("B02", "B02_10m"), ("rededge1", "B05_20m"), ("B02_60m", "B02_60m")):
        source = band_source(item, band, cdse)
        assert source.href == f"s3://eodata/{key}.jp2"
        assert (source.scale, source.nodata, source.access) == (1e-4, 0.0, cdse.access)
    assert band_source(item, "blue", replace(cdse, resolution=60.0)).href == "s3://eodata/B02_60m.jp2"


def test_the_same_band_of_two_resolutions_is_told_by_gsd() -> None:
    bands = [{"name": "B8A", "common_name": "nir08"}]
    item = item_with({"far": {"eo:bands": bands, "gsd": 60}, "near": {"eo:bands": bands, "gsd": 20}})
    item.assets["near"].href = "/near.tif"
    assert band_source(item, "nir08", GENERIC).href == "/near.tif"


@pytest.mark.parametrize(
    ("name", "band", "key"),
    [("hls-l30", "nir", "B05"), ("hls-l30", "nir08", "B05"), ("hls-s30", "nir", "B08"),
     ("hls-s30", "nir08", "B8A"), ("hls-l30", "swir16", "B06"),
     ("hls-s30", "swir16", "B11"), ("landsat-c2-l2", "nir", "nir08")],
)  # fmt: skip
def test_each_half_of_hls_numbers_its_bands_in_its_own_way(name: str, band: str, key: str) -> None:
    keys = ["B02", "B05", "B06", "B08", "B8A", "B11"] if "hls" in name else ["red", "nir08", "swir16"]
    item = item_with({each: {} for each in keys})
    item.assets[key].href = "/found.tif"
    assert band_source(item, band, named(name)).href == "/found.tif"


def test_landsat_has_no_red_edge() -> None:
    with pytest.raises(SourceError, match="expected the band 'rededge1'"):
        band_source(item_with({"B05": {}}), "rededge1", named("hls-l30"))


def test_the_alternate_address_is_read_where_there_is_one() -> None:
    item = item_with({"red": {"alternate": {"s3": {"href": "s3://usgs-landsat/red.TIF"}}}, "blue": {}})
    landsat = named("earth-search-landsat-c2-l2")
    assert band_source(item, "red", landsat).href == "s3://usgs-landsat/red.TIF"
    assert band_source(item, "blue", landsat).href == "/a.tif"
    assert band_source(item, "red", named("planetary-computer-landsat-c2-l2")).href == "/a.tif"


def test_what_a_table_knows_goes_before_what_an_item_says() -> None:
    said = {"raster:bands": [{"scale": 1.0, "offset": 5.0, "nodata": 3, "data_type": "int16"}]}
    source = band_source(item_with({"B04": said}), "red", named("hls-l30"))
    assert (source.scale, source.offset, source.nodata, source.dtype) == (1e-4, 0.0, -9999.0, "int16")


@pytest.mark.parametrize(
    ("name", "said", "expected"),
    [
        ("it", {"s2:processing_baseline": "05.09"}, 5.09),
        ("it", {"platform": "Sentinel-2A", "processing:version": "02.14"}, 2.14),
        ("it", {"platform": "landsat-9", "processing:version": "06.1"}, None),
        ("it", {"constellation": "sentinel-2", "s2:product_uri": "S2A_MSIL2A_20230815T095031_N0509_R079_T33TWL_1.SAFE"},
         5.09),
        ("S2B_MSIL2A_20250302T095029_N0511_R079_T33UXP_20250302T104753", {"platform": "sentinel-2b"}, 5.11),
        ("S2A_33TWL_20230815_0_L2A", {"platform": "sentinel-2a"}, None),
        ("it", {"platform": "sentinel-2a", "processing:version": "new"}, None),
    ],
)  # fmt: skip
def test_the_baseline_is_found_in_properties_or_names(name: str, said: dict[str, Any], expected: float | None) -> None:
    item = item_with({"blue": {}}, **said)
    item.id = name
    assert baseline_of(item) == expected


def test_a_real_earth_search_item(real_data: Path) -> None:
    item = earth_search(real_data)
    provider = find_provider(None, EARTH_SEARCH, "sentinel-2-l2a", {})
    blue = band_source(item, "blue", provider)
    assert (blue.scale, blue.offset, blue.nodata, blue.dtype, blue.access) == (1e-4, -0.1, 0, "uint16", None)
    mask = mask_of(item, provider, None, None)
    assert mask is not None
    assert mask.source.href.endswith("scl.tif")
    assert band_source(item, "B08", provider).href.endswith("nir.tif")


def test_real_chips_of_eight_bits_are_described_as_they_are(real_data: Path) -> None:
    folder = real_data / "india" / "items"
    for path in folder.glob("*.json"):
        item = pystac.Item.from_file(str(path))
        for band in GENERIC.bands:
            source = band_source(item, band, GENERIC)
            assert (source.scale, source.offset, source.nodata, source.dtype) == (1.0, 0.0, 0.0, "uint8")
        assert mask_of(item, GENERIC, None, None) is None


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
