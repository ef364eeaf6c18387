"""Whatever the network does, a map made straight from the provider is right, or says what it lacks.

`test_faults.py` has the same of a download. Here every tile asks anew, so that one may lack what its neighbours have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
import torch
from forked import eearth
from loopback.fault_kinds import Faults
from loopback.faults import Tally, read_access_log, serve_faulty, tally_of
from numpy.typing import NDArray
from small_map import CLASSES, SIDE, WINDOW, map_words, read_map, write_model, write_region
from small_site import PROVIDER, SHARED, Site, make_site

from eearth.events import Warned
from eearth.geo.products.landcover.prediction import Reason
from eearth.geo.remote import transport
from eearth.manifest import Manifest
from eearth.settings import PredictSettings
from eearth.stages.predict import predict
from eearth.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from eearth.events import Event

# The patience of a real run, shortened: what is tested is that there is some.
PATIENCE = {
    "FIRST_PAUSE_SECONDS": 0.02, "LONGEST_PAUSE_SECONDS": 0.2, "STALL_SECONDS": 0.2, "PATIENCE_SECONDS": 1.5,
}  # fmt: skip
LESS = "from eearth.geo.remote import transport\n" + "".join(
    f"assert hasattr(transport, '{name}')\ntransport.{name} = {value}\n" for name, value in PATIENCE.items()
)
EVERYTHING = ("unavailable", "reset", "stalled", "truncated", "garbage", "zeroed", "flipped")
ROWS, COLS = 60, 160
LOST, EAST = "W_2023-06-11", f"X_{SHARED}"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in PATIENCE.items():
        monkeypatch.setattr(transport, name, value)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass
class Mapped:
    """A map that was made, and what was told meanwhile."""

    manifest: Manifest
    bands: NDArray[np.uint8]
    warnings: list[str]

    @property
    def dropped(self) -> dict[str, str]:
        found: dict[str, str] = self.manifest.records["dropped"]
        return found


class Place:
    """The site, and the maps that it gives without a network, made when first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sites = {codec: make_site(folder / codec, codec) for codec in ("deflate", "none")}
        self.region = write_region(folder / "region.geojson", rows=ROWS, cols=COLS)
        self._references: dict[tuple[str, ...], Mapped] = {}

    def reference(self, codec: str = "deflate", lost: Iterable[str] = ()) -> Mapped:
        key = codec, *sorted(lost)
        if key not in self._references:
            folder, site = self.folder / "-".join(("ref", *key)), self.sites[codec]
            catalog = site.catalog(folder / "catalog", str(site.root), key[1:])
            self._references[key] = self.map(str(catalog), folder)
        return self._references[key]

    def map(self, catalog: str, folder: Path) -> Mapped:
        """Make the map in this process."""
        warnings: list[str] = []

        def told(event: Event) -> None:
            if isinstance(event, Warned):
                warnings.append(event.text)

        workspace, settings = Workspace(folder / "w"), self.settings(catalog, folder)
        manifest = predict(workspace, settings, told)
        place = workspace.folder("predict")
        assert {path.suffix for path in place.iterdir() if path.is_dir()} == set()  # no imagery stays
        return Mapped(manifest, read_map(place), warnings)

    def settings(self, catalog: str, folder: Path) -> PredictSettings:
        return PredictSettings(
            region=self.region, model=write_model(folder / "model", catalog), tile_size=SIDE, window_size=WINDOW,
            probabilities=True,
        )  # fmt: skip

    def over(
        self, faults: Faults, folder: Path, codec: str = "deflate", site: Site | None = None
    ) -> tuple[Mapped, Tally]:
        """The map over a bad network."""
        site = site or self.sites[codec]
        with serve_faulty(site.root, faults) as url:
            if faults.signed:
                (folder / "w").mkdir(parents=True)
                (folder / "w" / "eearth.toml").write_text(PROVIDER.format(url=url))
            found = self.map(str(site.catalog(folder / "catalog", url)), folder)
            return found, tally_of(url)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("map-faults"))


def spread(share: float, *kinds: str, **others: Any) -> Faults:
    return Faults(**dict.fromkeys(kinds, share / len(kinds)), **others)


def assert_told(found: Mapped) -> None:
    for name, reason in found.dropped.items():
        assert reason.strip()
        assert any(name in text for text in found.warnings), (name, found.warnings)


# --- What is compared with


def test_a_scene_shows_in_the_map(place: Place) -> None:
    """Every class is there, and without a scene much is another: a map with a wrong byte would not go unseen."""
    whole = place.reference()
    assert set(np.unique(whole.bands[0])) == {0, *(entry.code for entry in CLASSES)}
    assert whole.manifest.figures["grid"] == f"{ROWS} x {COLS}"
    for lost in (LOST, EAST):
        assert (whole.bands != place.reference(lost=[lost]).bands).any(axis=0).mean() > 0.3


def test_where_tiles_meet_does_not_show_though_every_tile_asks_for_itself(place: Place, tmp_path: Path) -> None:
    """Not even where the model's own imagery was the clearest dates of its region: of each tile these are others."""
    site, maps = place.sites["deflate"], []
    for side in (SIDE, 4 * SIDE):
        folder = tmp_path / str(side)
        model = write_model(folder, str(site.catalog(folder / "catalog", str(site.root))), max_dates=2)
        settings = PredictSettings(
            region=place.region, model=model, tile_size=side, window_size=WINDOW, probabilities=True
        )
        predict(Workspace(folder / "w"), settings)
        maps.append(read_map(folder / "w" / "map").astype(int))
    many, one = maps
    np.testing.assert_array_equal(many[0], one[0])
    np.testing.assert_allclose(many, one, atol=1)  # a percentage may be rounded the other way in other windows


# --- The matrix

MENDED = {
    "30 % 503, reset or truncated": spread(0.3, "unavailable", "reset", "truncated"),
    "1 % 429 with Retry-After": Faults(limited=0.01),
    "3 % stall": Faults(stalled=0.03, stall_seconds=20),
    "20 % garbage, none": Faults(garbage=0.2),
    "20 % zeroed, none": Faults(zeroed=0.2),
    "20 % flipped, deflate": Faults(flipped=0.2),
    "assets down for 1 s in the middle": Faults(down_after=40, down_seconds=1.0, latency_seconds=0.002),
    "signatures that expire": Faults(signature_uses=15),
    "all at once at 20 %, deflate": spread(0.2, *EVERYTHING, stall_seconds=20),
    "all at once at 20 %, none": spread(0.2, *EVERYTHING[:-1], stall_seconds=20),
}


@pytest.mark.parametrize("name", MENDED)
def test_what_a_network_does_shows_nowhere(place: Place, tmp_path: Path, name: str) -> None:
    faults, codec = MENDED[name], "none" if name.endswith("none") else "deflate"
    found, tally = place.over(faults, tmp_path, codec)
    reference = place.reference(codec)
    np.testing.assert_array_equal(found.bands, reference.bands)
    assert found.manifest.records["items"] == reference.manifest.records["items"]
    assert found.dropped == {}
    assert found.warnings == reference.warnings
    assert tally.injected > 0
    assert tally.impatient == 0


LEFT_OUT: dict[str, tuple[str, dict[str, str]]] = {
    "404 of one asset": (LOST, {f"{LOST}/nir.tif": "missing"}),
    "404 of one half of a date": (f"W_{SHARED}", {f"W_{SHARED}/red.tif": "missing"}),
    "one asset never whole": (LOST, {f"{LOST}/red.tif": "truncated"}),
    "one asset always 503": (LOST, {f"{LOST}/red.tif": "unavailable"}),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_a_scene_that_cannot_be_had_is_left_out_and_told(place: Place, tmp_path: Path, name: str) -> None:
    lost, always = LEFT_OUT[name]
    found, _ = place.over(Faults(always=always), tmp_path)
    assert list(found.dropped) == [lost]
    assert_told(found)
    np.testing.assert_array_equal(found.bands, place.reference(lost=[lost]).bands)
    assert lost not in " ".join(found.manifest.records["items"])


# --- What one tile lacks and the next one has


def tiles() -> list[slice]:
    """Columns of each tile."""
    return [slice(first, min(first + SIDE, COLS)) for first in range(0, COLS, SIDE)]


def broken(site: Site, folder: Path, names: Iterable[str], col: int) -> Site:
    """The same scenes, of some of which the blocks that begin at a column of the red band are no deflate stream."""
    root = folder / "files"
    for path in site.root.rglob("*.tif"):
        copy = root / path.relative_to(site.root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        content = bytearray(path.read_bytes())
        if path.parent.name in names and path.stem == "red":
            with rasterio.open(path) as file:
                for row in range(file.height // 64):
                    tag = f"{col // 64}_{row}"
                    first = int(file.get_tag_item(f"BLOCK_OFFSET_{tag}", "TIFF", bidx=1))
                    size = int(file.get_tag_item(f"BLOCK_SIZE_{tag}", "TIFF", bidx=1))
                    content[first : first + size] = b"\xff" * size
        copy.write_bytes(content)
    return Site(root, site.items, site.region)


def test_a_scene_that_is_broken_in_one_place_is_whole_elsewhere(place: Place, tmp_path: Path) -> None:
    site = broken(place.sites["deflate"], tmp_path, [LOST], 10 * 64)
    found, _ = place.over(Faults(), tmp_path / "map", site=site)
    assert list(found.dropped) == [LOST]
    assert_told(found)
    first, *others = tiles()
    without, whole = place.reference(lost=[LOST]).bands, place.reference().bands
    np.testing.assert_array_equal(found.bands[..., first], without[..., first])
    for tile in others:
        np.testing.assert_array_equal(found.bands[..., tile], whole[..., tile])
    assert LOST in " ".join(found.manifest.records["items"])
    told = found.manifest.records["radiometry"]
    assert set(told) == set(" ".join(found.manifest.records["items"]).split())
    assert all(told.values())


def assert_hole_in_the_east(place: Place, found: Mapped) -> None:
    reference = place.reference(lost=[EAST]).bands
    np.testing.assert_array_equal(found.bands, reference)
    reasons = found.bands[4]
    assert (reasons[:, tiles()[2]] == Reason.NEVER_OBSERVED).all()
    assert (reasons[:, tiles()[0]] == Reason.MAPPED).mean() > 0.9
    assert list(found.dropped) == [EAST]
    assert_told(found)
    assert any("1 of 3 tiles have no imagery" in text for text in found.warnings)


def test_a_tile_whose_only_scene_cannot_be_read_is_a_hole_and_the_map_goes_on(place: Place, tmp_path: Path) -> None:
    found, _ = place.over(Faults(always={f"{EAST}/scl.tif": "missing"}), tmp_path)
    assert_hole_in_the_east(place, found)


def test_a_tile_whose_only_scene_lacks_a_band_is_a_hole_and_the_map_goes_on(place: Place, tmp_path: Path) -> None:
    site = place.sites["deflate"]
    lacking = tuple(
        {**item, "assets": {key: asset for key, asset in item["assets"].items() if item["id"] != EAST or key != "nir"}}
        for item in site.items
    )
    found, _ = place.over(Faults(), tmp_path, site=Site(site.root, lacking, site.region))
    assert_hole_in_the_east(place, found)


# --- What cannot be mended


def test_a_catalog_over_a_bad_network(place: Place, tmp_path: Path) -> None:
    site = place.sites["deflate"]
    with serve_faulty(site.root) as assets:
        catalog = site.catalog(tmp_path / "catalog", assets)
        with serve_faulty(catalog.parent, spread(0.4, "unavailable", "reset", "truncated")) as url:
            found = place.map(f"{url}/collection.json", tmp_path)
            assert tally_of(url).injected >= 3
    np.testing.assert_array_equal(found.bands, place.reference().bands)


def test_a_server_that_goes_away_ends_in_one_line_and_nothing_finished_is_lost(place: Place, tmp_path: Path) -> None:
    site, log = place.sites["deflate"], tmp_path / "log"
    faults = Faults(down_after=150, down_seconds=7.0)
    with serve_faulty(site.root, faults, access_log=log) as url:
        model = write_model(tmp_path / "model", str(site.catalog(tmp_path / "catalog", url)))
        words = map_words(place.region, model, tmp_path / "w")
        done = eearth(*words, prelude=LESS)
        assert done.returncode == 1
        *others, last = done.stderr.splitlines()
        assert last.startswith("Error: ")
        assert "run the same command again" in last
        assert not [line for line in others if "Error" in line or "Traceback" in line], done.stderr
        finished = (tmp_path / "w" / "map.partial" / "scratch" / "finished-tiles.txt").read_text().splitlines()[1:]
        assert 0 < len(finished) < len(tiles())
        tally_of(url)  # waits until it is back
        before = len(read_access_log(log))
        again = eearth(*words, prelude=LESS)
        assert again.returncode == 0, again.stderr
        assert len(read_access_log(log)) - before < before
    np.testing.assert_array_equal(read_map(tmp_path / "w" / "map"), place.reference().bands)
