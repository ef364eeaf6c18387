from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from eearth.config import (
    SETTINGS_FILE,
    describe,
    parse,
    provider_tables,
    resolve,
    setting_names,
    setting_types,
    suggestion,
)
from eearth.errors import UsageError
from eearth.settings import (
    SETTINGS,
    DownloadSettings,
    PredictSettings,
    PretrainSettings,
    RasterizeSettings,
)

FLAGS: dict[str, Any] = {"region": "r.geojson"}


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("EEARTH_")]:
        monkeypatch.delenv(name)


def toml(folder: Path, text: str) -> Path:
    (folder / SETTINGS_FILE).write_text(text, encoding="utf-8")
    return folder


def test_flags_go_before_environment_before_file_before_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml(tmp_path, "[download]\nmax_cloud = 30\nworkers = 3\nresolution = 60\n[predict]\nbatch_size = 9\n")
    monkeypatch.setenv("EEARTH_DOWNLOAD_WORKERS", "4")
    monkeypatch.setenv("EEARTH_DOWNLOAD_RESOLUTION", "20")
    settings = resolve(DownloadSettings, {**FLAGS, "resolution": "40"}, tmp_path)
    assert (settings.resolution, settings.workers, settings.max_cloud, settings.grid) == (40.0, 4, 30.0, "snap")
    assert settings.origins == {"region": "flag", "resolution": "flag", "workers": "environment", "max_cloud": "file"}


def test_values_of_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml(
        tmp_path,
        '[download]\nbands = ["red", "nir"]\nmask_valid = [4, 5]\ndatetime = 2024-05-17\ncrs = "EPSG:3035"\n'
        'grid = "native"\n[pretrain]\nshuffle = true\nimagery = ["../a", "b"]\n',
    )
    monkeypatch.setenv("EEARTH_RASTERIZE_SKIP_NULL", "Yes")
    monkeypatch.setenv("EEARTH_RASTERIZE_BLOCK_SIZE", "250.5")
    download = resolve(DownloadSettings, FLAGS, tmp_path)
    assert (download.bands, download.mask_valid, download.datetime) == (("red", "nir"), (4, 5), "2024-05-17")
    assert (download.crs, download.grid, download.region) == ("EPSG:3035", "native", Path("r.geojson"))
    rasterize = resolve(RasterizeSettings, {"labels": "l.gpkg"}, tmp_path)
    assert (rasterize.skip_null, rasterize.block_size) == (True, 250.5)
    pretrain = resolve(PretrainSettings, {}, tmp_path)
    assert (pretrain.shuffle, pretrain.imagery) == (True, (Path("../a"), Path("b")))


def test_lists_on_the_command_line_are_separated_by_commas(tmp_path: Path) -> None:
    settings = resolve(DownloadSettings, {**FLAGS, "bands": "red, nir", "mask_valid": "4,5"}, tmp_path)
    assert (settings.bands, settings.mask_valid) == (("red", "nir"), (4, 5))


def test_defaults(tmp_path: Path) -> None:
    settings = resolve(DownloadSettings, FLAGS, tmp_path)
    assert settings == DownloadSettings(region=Path("r.geojson"))
    assert (settings.bands, settings.resolution, settings.mask_valid) == (None, None, None)  # the provider's
    assert (settings.max_cloud, settings.max_dates, settings.composite, settings.workers) == (80.0, None, "none", 32)
    assert dict(settings.origins) == {"region": "flag"}
    assert dict(DownloadSettings(region=Path("r"), workers=2).origins) == {"region": "call", "workers": "call"}


def test_settings_for_the_manifest_are_json_without_secrets() -> None:
    settings = DownloadSettings(
        region=Path("a/r.geojson"), catalog="https://me:pw@stac.example/v1?token=hush", bands=("red", "nir")
    )
    data = settings.what()
    assert "region" not in data
    assert settings.how()["region"] == "a/r.geojson"
    assert data["bands"] == ["red", "nir"]
    assert data["catalog"] == "https://stac.example/v1"
    assert settings.catalog.endswith("?token=hush")
    assert "origins" not in data


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[download]\nmaxcloud = 3", "sets maxcloud, which download does not have; did you mean max_cloud?"),
        ("[download]\nzzz = 3", "sets zzz, which download does not have; known: region, catalog"),
        ("[downloads]\nworkers = 3", "expected one table a stage (assess, compare, download"),
        ("workers = 3", "found 'workers'"),
        ("download = 3", "found 'download'"),
        ("[download", "expected TOML in"),
        ("[download]\nworkers = 2.5", "expected a whole number for workers in eearth.toml, found 2.5"),
        ("[download]\nworkers = true", "expected a whole number for workers in eearth.toml, found True"),
        ('[download]\nworkers = "many"', "expected a whole number for workers in eearth.toml, found 'many'"),
        ("[download]\nworkers = 0", "expected workers in eearth.toml of at least 1, found 0"),
        ("[download]\nresolution = nan", "expected a number for resolution in eearth.toml, found nan"),
        ("[download]\nresolution = inf", "expected a number for resolution in eearth.toml, found inf"),
        ('[download]\nresolution = "ten"', "expected a number for resolution in eearth.toml, found 'ten'"),
        ("[download]\nmax_cloud = -1", "expected max_cloud in eearth.toml of 0 to 100, found -1"),
        ("[download]\nmin_coverage = 101", "expected min_coverage in eearth.toml of 0 to 100, found 101"),
        ("[download]\nmax_dates = 0", "expected max_dates in eearth.toml of at least 1, found 0"),
        ('[download]\ncomposite = "weekly"', "expected none|monthly for composite in eearth.toml, found 'weekly'"),
        ("[download]\nresolution = 0", "expected resolution in eearth.toml of at least 1e-09, found 0"),
        ('[download]\ngrid = "any"', "expected snap|native for grid in eearth.toml, found 'any'"),
        ("[download]\nbands = []", "expected text, or several separated by commas for bands in eearth.toml, found []"),
        ("[download]\nbands = 3", "expected text, or several separated by commas for bands in eearth.toml, found 3"),
        ('[download]\nbands = ["red", ["nir"]]', "expected text, or several separated by commas for bands"),
        ('[download]\nmask_valid = ["a"]', "expected a whole number, or several separated by commas for mask_valid"),
        ('[download]\ncatalog = ["a"]', "expected text for catalog in eearth.toml, found ['a']"),
        ("[download.catalog]\na = 1", "expected text for catalog in eearth.toml, found {'a': 1}"),
    ],
)
def test_what_a_file_may_not_say(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(DownloadSettings, FLAGS, toml(tmp_path, text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_providers_have_tables_of_their_own(tmp_path: Path) -> None:
    assert provider_tables(tmp_path) == {}
    toml(tmp_path, '[download]\nworkers = 3\n[providers.mine]\nscale = 1e-4\n[providers.mine.access]\nkind = "s3"\n')
    assert provider_tables(tmp_path) == {"mine": {"scale": 1e-4, "access": {"kind": "s3"}}}
    assert resolve(DownloadSettings, FLAGS, tmp_path).workers == 3


def test_a_provider_is_a_table(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected a table \[providers.NAME\] in .*, found 'scale' in \[providers\]"):
        provider_tables(toml(tmp_path, "[providers]\nscale = 1.0\n"))
    with pytest.raises(UsageError, match=r"or \[providers.NAME\] in .*, found 'provider'"):
        provider_tables(toml(tmp_path, "[provider.mine]\nscale = 1.0\n"))


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / SETTINGS_FILE).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="expected TOML in"):
        resolve(DownloadSettings, FLAGS, tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("EEARTH_DOWNLOAD_MAXCLOUD", "3", "EEARTH_DOWNLOAD_MAXCLOUD.* did you mean EEARTH_DOWNLOAD_MAX_CLOUD"),
        ("EEARTH_DOWNLOAD_WORKERS", "x", r"expected a whole number for EEARTH_DOWNLOAD_WORKERS, found 'x'"),
        ("EEARTH_DOWNLOAD_BANDS", "", r"expected text, or several separated by commas for EEARTH_DOWNLOAD_BANDS"),
        ("EEARTH_DOWNLOAD_GRID", "Native", r"expected snap\|native for EEARTH_DOWNLOAD_GRID"),
    ],
)
def test_what_the_environment_may_not_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=message):
        resolve(DownloadSettings, FLAGS, tmp_path)


def test_a_wrong_flag_is_called_as_it_was_typed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a number for --max-cloud, found 'much'"):
        resolve(DownloadSettings, {**FLAGS, "max_cloud": "much"}, tmp_path)


def test_another_stages_settings_do_not_disturb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EEARTH_PREDICT_BATCH_SIZE", "7")
    monkeypatch.setenv("EEARTH_WORKSPACE", "elsewhere")
    assert resolve(DownloadSettings, FLAGS, tmp_path).origins == {"region": "flag"}
    assert resolve(PredictSettings, FLAGS, tmp_path).batch_size == 7


def test_a_missing_argument_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a value for region: see `eearth download --help`"):
        resolve(DownloadSettings, {}, tmp_path)


@pytest.mark.parametrize(("raw", "value"), [("true", True), ("No", False), ("1", True), (0, False), (True, True)])
def test_yes_and_no(raw: Any, value: bool) -> None:  # noqa: FBT001 - a value like any other here
    assert parse(raw, bool, "x") is value


@pytest.mark.parametrize("raw", ["maybe", 2, "", []])
def test_neither_yes_nor_no(raw: Any) -> None:
    with pytest.raises(UsageError, match="expected true or false for x"):
        parse(raw, bool, "x")


@pytest.mark.parametrize("stage", SETTINGS)
def test_every_setting_has_a_sentence_a_readable_type_and_a_default_that_fits(stage: str) -> None:
    cls = SETTINGS[stage]
    assert cls.stage == stage
    types = setting_types(cls)
    for item in dataclasses.fields(cls):
        if item.metadata.get("hidden"):
            continue
        text = item.metadata["text"]
        assert text.endswith("."), item.name
        assert len(text) > 10, item.name
        assert describe(types[item.name]) in {
            "a whole number", "a number", "true or false", "a path", "text", "snap|native", "bilinear|nearest",
            "auto|cpu|cuda", "full|frozen|gradual", "none|monthly", "cog|zarr", "float32|int8", "auto|off",
            "info_nce|vicreg|barlow_twins", "auto|whole|cut", "majority|nearest", "balanced|plain",
            "seasonal-unet|temporal-attention-unet|unet3d|convlstm-unet|tsvit",
            "last|first|error|largest|drop", "gpkg|parquet|none",
            "olofsson|proportional|equal", "wilson|wald", "model|map", "blocks|features",
            "text, or several separated by commas",
            "a whole number, or several separated by commas", "a path, or several separated by commas",
            "a number, or several separated by commas",
            "pretrained|scratch|probe|forest, or several separated by commas",
        }  # fmt: skip
        if item.metadata["argument"]:
            assert item.default is dataclasses.MISSING
        elif item.default not in (None, ()):
            assert parse(item.default, types[item.name], item.name) == item.default
    assert setting_names(cls) == [item.name for item in dataclasses.fields(cls) if not item.metadata.get("hidden")]
    assert cls.__doc__


def test_where_an_input_lies_is_not_what_is_made() -> None:
    """A workspace or file that was moved is the same input: its content counts, by its digest."""
    locations = {"download": {"region"}, "rasterize": {"labels"}, "pretrain": {"imagery"}}
    locations |= {"finetune": {"also", "encoder"}, "predict": {"region", "model", "output"}}
    locations |= {"embed": {"region", "encoder", "output"}, "compare": {"encoder"}}
    locations |= {"sample": {"map", "classes"}, "assess": {"reference", "design", "map"}}
    for stage, names in locations.items():
        assert names <= {n for n, f in SETTINGS[stage].__dataclass_fields__.items() if f.metadata.get("incidental")}


def test_how_a_download_works_is_not_what_it_makes() -> None:
    plain = DownloadSettings(region=Path("r.geojson"))
    other = DownloadSettings(
        region=Path("r.geojson"), workers=1, update=True, estimate=True, rate=3.0, scheduler="tcp://a:1",
        min_coverage=0.0,
    )  # fmt: skip
    assert other.what() == plain.what()
    assert DownloadSettings(region=Path("r.geojson"), composite="monthly").what() != plain.what()


def test_known_names_with_commas_are_quoted() -> None:
    assert suggestion("zzz", ["water", "maize, silage"]) == 'known: water, "maize, silage"'
