"""The server of a map, asked over the loopback: its tiles against rasterio's own warp, its manners, its end."""

from __future__ import annotations

import http.client
import io
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from made_workspace import add_imagery, add_map, legend, patches
from PIL import Image
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.warp import reproject
from scenery import utm_grid

from eearth.errors import UsageError, WorkspaceError
from eearth.geo.cube import Cube
from eearth.geo.grid import Grid
from eearth.report.backdrop import median_of
from eearth.view.imagery import Imagery, _halved
from eearth.view.mercator import HALF_WORLD, MERCATOR, Tile, extent, own_zoom
from eearth.view.scene import Scene
from eearth.view.session import serving, view
from eearth.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from eearth.view.server import MapServer

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul")  # affine 3.1 warns of what rio-tiler does

# Share of a tile's pixels on which two warps of GDAL may differ: it reckons to an eighth of a pixel, from where its
# window begins.
EDGES = 0.001

NAMES = ("forest", "</script><b>water</b>", "maize")
CLASSES = legend(NAMES)


def mapped(root: Path, grid: Grid, *, imagery: bool = False, codes: NDArray[np.uint8] | None = None) -> Workspace:
    workspace = Workspace(root)
    if imagery:
        add_imagery(workspace, grid)
    add_map(workspace, grid, patches(grid.shape, 3) if codes is None else codes, CLASSES)
    return workspace


def grid_at(epsg: int, longitude: float, latitude: float, side: float, pixels: int = 130) -> Grid:
    """A square grid around a place; in degrees it goes on beyond 180."""
    x, y = Transformer.from_crs(4326, epsg, always_xy=True).transform(longitude, latitude)
    half = side * pixels / 2
    return Grid(CRS.from_epsg(epsg), Affine(side, 0, x - half, 0, -side, y + half), pixels, pixels)


def tile_at(longitude: float, latitude: float, z: int) -> Tile:
    x, y = Transformer.from_crs(4326, 3857, always_xy=True).transform(longitude, latitude)
    count = 2**z / (2 * HALF_WORLD)
    return Tile(z, int((x + HALF_WORLD) * count), int((HALF_WORLD - y) * count))


def warped(path: Path, tile: Tile, *, transform: Affine | None = None) -> NDArray[np.uint8]:
    """The oracle: rasterio's own warp of the class map onto the tile."""
    left, bottom, right, top = tile.bounds
    options: dict[str, Any] = {} if transform is None else {"src_transform": transform}
    place = rasterio.transform.from_bounds(left, bottom, right, top, 256, 256)
    with (
        rasterio.open(path) as file,
        WarpedVRT(
            file, crs="EPSG:3857", transform=place, width=256, height=256, resampling=Resampling.nearest, **options
        ) as vrt,
    ):
        return np.asarray(vrt.read(1))


def ask(server: MapServer, path: str, **headers: str) -> tuple[int, bytes, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    found = answer.status, answer.read(), answer.headers
    connection.close()
    return found


def colours_of(picture: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGBA"))


def in_class_colours(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(y, x, 4) by the legend that the map was made with."""
    table = np.zeros((256, 4), dtype=np.uint8)
    for entry in CLASSES:
        table[entry.code] = (*bytes.fromhex(entry.colour[1:]), 255)
    return table[codes]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return mapped(tmp_path_factory.mktemp("view"), utm_grid(150, 130), imagery=True)


@pytest.fixture(scope="module")
def server(workspace: Workspace) -> Iterator[MapServer]:
    from threading import Thread

    with serving(workspace) as made:
        thread = Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


PLACES = {
    "utm": (grid_at(32633, 15, 46, 10), 15.0, 46.0),
    "degrees": (grid_at(4326, -60.2, -12, 0.0001), -60.2, -12.0),
    "mercator itself": (grid_at(3857, 20, 50, 12), 20.0, 50.0),
    "arctic": (grid_at(3413, -45, 74, 40), -45.0, 74.0),
    "antarctic": (grid_at(3031, 10, -72, 40), 10.0, -72.0),
    "lambert": (grid_at(3035, 12, 50, 20), 12.0, 50.0),
    "utm, east of the antimeridian": (grid_at(32760, 180, -17, 10), -179.999, -17.0),
    "utm, west of the antimeridian": (grid_at(32701, 180, -17, 10), 179.999, -17.0),
    "degrees, west of the antimeridian": (grid_at(4326, 180, -17, 0.0001), 179.999, -17.0),
}


@pytest.mark.parametrize("name", PLACES)
def test_tiles_are_rasterios_own_warp_in_the_colours_of_the_classes(tmp_path: Path, name: str) -> None:
    grid, longitude, latitude = PLACES[name]
    workspace = mapped(tmp_path, grid)
    scene = Scene(workspace)
    for z in (own_zoom(grid) - 3, own_zoom(grid), own_zoom(grid) + 2):
        tile = tile_at(longitude, latitude, z)
        expected = warped(workspace.folder("predict") / "landcover.tif", tile)
        assert (expected > 0).sum() > 20
        shown = colours_of(scene.values_tile("landcover", tile))
        other = (shown != in_class_colours(expected)).any(axis=-1)
        assert other.mean() < EDGES
        assert {tuple(colour) for colour in shown.reshape(-1, 4)} <= {
            tuple(colour) for colour in in_class_colours(np.arange(4, dtype=np.uint8))
        }


def test_a_map_in_degrees_goes_on_beyond_the_antimeridian(tmp_path: Path) -> None:
    grid = grid_at(4326, 180, -17, 0.0001)
    workspace = mapped(tmp_path, grid)
    tile = tile_at(-179.999, -17, own_zoom(grid))
    path = workspace.folder("predict") / "landcover.tif"
    assert not warped(path, tile).any(), "GDAL alone finds nothing there"
    expected = warped(path, tile, transform=Affine.translation(-360, 0) @ grid.transform)
    assert expected.any()
    shown = colours_of(Scene(workspace).values_tile("landcover", tile))
    np.testing.assert_array_equal(shown, in_class_colours(expected))
    west, _, east, _ = extent(grid)
    assert (west, east) == pytest.approx((179.9935, 180.0065))
    found = Scene(workspace).point(-179.999, -17.0)
    assert found["class"] is not None


def test_far_zooms_show_the_most_frequent_class_and_never_a_blend(tmp_path: Path) -> None:
    grid = utm_grid(700, 700)
    codes = np.where(np.indices(grid.shape).sum(axis=0) % 3 == 0, 1, 3).astype(np.uint8)  # two of three pixels are 3
    scene = Scene(mapped(tmp_path, grid, codes=codes))
    west, south, east, north = extent(grid)
    for z in range(own_zoom(grid) - 4, own_zoom(grid) + 1):
        shown = colours_of(scene.values_tile("landcover", tile_at((west + east) / 2, (south + north) / 2, z)))
        colours = {tuple(colour) for colour in shown.reshape(-1, 4)}
        assert colours <= {tuple(colour) for colour in in_class_colours(np.array([0, 1, 3], dtype=np.uint8))}
    far = colours_of(
        scene.values_tile("landcover", tile_at((west + east) / 2, (south + north) / 2, own_zoom(grid) - 3))
    )
    ones = (far == in_class_colours(np.array(1, dtype=np.uint8))).all(axis=-1).sum()
    assert ones < 0.02 * (far[..., 3] > 0).sum()


def test_a_pixel_is_that_of_the_full_size_map(server: MapServer, workspace: Workspace) -> None:
    grid = server.scene.grid
    with rasterio.open(workspace.folder("predict") / "landcover.tif") as file:
        codes = file.read(1)
    with rasterio.open(workspace.folder("predict") / "confidence.tif") as file:
        percent = file.read(1)
    to_lonlat = Transformer.from_crs(grid.crs.to_wkt(), 4326, always_xy=True)
    for row, col in ((75, 60), (149, 129), (20, 3), (1, 1)):
        longitude, latitude = to_lonlat.transform(*(grid.transform @ (col + 0.5, row + 0.5)))
        status, body, _ = ask(server, f"/point.json?longitude={longitude}&latitude={latitude}")
        found = json.loads(body)
        assert status == 200
        assert found["class"]["name"] == ("no data" if codes[row, col] == 0 else NAMES[codes[row, col] - 1])
        told = {fact["title"]: fact["text"] for fact in found["facts"]}
        assert told.get("Confidence") == (None if percent[row, col] == 255 else f"{percent[row, col]} %")
    assert json.loads(ask(server, "/point.json?longitude=0&latitude=0")[1])["class"] is None
    assert ask(server, "/point.json?longitude=east")[0] == 400


def test_imagery_is_the_median_of_clear_observations(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eearth.view.imagery.webp", lambda picture: picture.tobytes())  # which loses some
    cube = Cube.open(workspace.folder("download") / "cube.zarr")
    grid, imagery = cube.grid, Imagery(cube)
    tile = tile_at(*np.array(extent(grid)).reshape(2, 2).mean(axis=0), own_zoom(grid) + 1)
    assert imagery.tile(Tile(0, 0, 0)) is None, "the picture of the whole is not made yet"
    imagery.prepare()
    assert imagery.tile(Tile(0, 0, 0))
    shown = np.frombuffer(imagery.tile(tile) or b"", dtype=np.uint8).reshape(256, 256, 4)
    median = median_of(cube, np.arange(grid.height), np.arange(grid.width), lambda _: None)
    low, high = imagery._ends
    assert (low, high) == pytest.approx(np.nanpercentile(median, (2, 98)), rel=0.1)
    expected = np.full((3, 256, 256), np.nan, dtype=np.float32)
    reproject(
        np.moveaxis(median, -1, 0).copy(), expected, src_transform=grid.transform, src_crs=grid.crs,
        dst_transform=rasterio.transform.from_bounds(*tile.bounds, 256, 256), dst_crs=MERCATOR,
        resampling=Resampling.nearest, init_dest_nodata=True, src_nodata=np.nan, dst_nodata=np.nan,
    )  # fmt: skip
    seen = np.isfinite(expected).all(axis=0)
    assert seen.mean() > 0.3
    assert (seen != (shown[..., 3] > 0)).mean() < EDGES
    wanted = 255 * np.clip((expected - low) / (high - low), 0, 1)
    off = abs(wanted - np.moveaxis(shown[..., :3], -1, 0).astype(float)).max(axis=0)
    assert (off[seen & (shown[..., 3] > 0)] > 1).mean() < 10 * EDGES


def test_large_imagery_is_read_where_it_is_near(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eearth.view.imagery.LONGEST_SIDE", 40)
    workspace = Workspace(tmp_path)
    grid = utm_grid(150, 130)
    add_imagery(workspace, grid)
    cube = Cube.open(workspace.folder("download") / "cube.zarr")
    thinned = Imagery(cube)
    assert thinned.step == 4
    monkeypatch.setattr("eearth.view.imagery.LONGEST_SIDE", 2048)
    whole = Imagery(cube)
    whole.prepare()
    tile = tile_at(*np.array(extent(grid)).reshape(2, 2).mean(axis=0), own_zoom(grid) + 1)
    assert thinned.tile(tile) == whole.tile(tile), "near zooms need no picture of the whole"


def test_halved_pictures_do_not_darken_at_their_edge() -> None:
    picture = np.zeros((3, 2, 4), dtype=np.uint8)
    picture[0, 0], picture[1, 1], picture[2, 0] = (100, 0, 50, 255), (200, 0, 50, 255), (7, 8, 9, 255)
    np.testing.assert_array_equal(_halved(picture), [[[150, 0, 50, 255]], [[7, 8, 9, 255]]])


def test_only_its_own_name_is_answered_and_nothing_else_may_load(server: MapServer) -> None:
    for host in ("evil.example", f"evil.example:{server.server_port}", "127.0.0.1", ""):
        status, body, _ = ask(server, "/map.json", Host=host)
        assert (status, b"title" in body) == (421, False)
    for name in ("127.0.0.1", "localhost", "LOCALHOST"):
        assert ask(server, "/map.json", Host=f"{name}:{server.server_port}")[0] == 200
    for path in ("/", "/page.js", "/map.json", "/tiles/landcover/0/0/0.png", "/nowhere"):
        headers = ask(server, path)[2]
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in headers
    assert server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere", "/../server.py", "/tiles/landcover/3/8/0.png", "/tiles/landcover/99/0/0.png",
        "/tiles/none/0/0/0.png", "/tiles/landcover/0/0/0.webp", "/tiles/imagery/0/0/0.png",
        "/tiles/imagery/3/8/0.webp",
    ],
)  # fmt: skip
def test_what_is_not_there_is_not_found(server: MapServer, path: str) -> None:
    assert ask(server, path)[0] == 404


def test_a_map_that_cannot_be_shown_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="which is missing: run `eearth predict` first"):
        Scene(Workspace(tmp_path))
    workspace = mapped(tmp_path, utm_grid(600, 600), codes=np.random.default_rng(1).integers(1, 4, (600, 600), "u1"))
    path = workspace.folder("predict") / "landcover.tif"
    whole = path.read_bytes()
    for content in (b"", b"II*\0 no map", whole[: len(whole) * 3 // 4]):
        path.write_bytes(content)
        with pytest.raises(WorkspaceError, match=r"expected the rasters of a map in .*: run `eearth predict` again"):
            Scene(workspace)


def test_a_taken_port_is_one_line(server: MapServer, workspace: Workspace) -> None:
    with (
        pytest.raises(UsageError, match=f"expected a free port, found {server.server_port}: .* another --port"),
        serving(workspace, port=server.server_port),
    ):
        pass


def test_without_the_library_one_line_says_what_to_install(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eearth.view.session.find_spec", lambda _name: None)
    with pytest.raises(Exception, match=r"pip install 'eearth\[view\]'"):
        view(workspace, opened=print)


def test_the_command_prints_its_address_and_ends_with_ctrl_c(workspace: Workspace) -> None:
    screens = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    process = subprocess.Popen(
        [sys.executable, "-m", "eearth", "view", "-w", str(workspace.root)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1,
        env={name: value for name, value in os.environ.items() if name not in screens},
    )  # fmt: skip
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    connection = http.client.HTTPConnection(url.removeprefix("http://").removesuffix("/"), timeout=20)
    connection.request("GET", "/map.json")
    assert json.loads(connection.getresponse().read())["title"] == "Land cover of the valley"
    connection.close()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=20)
    assert (process.returncode, output) == (0, "")
    assert "Traceback" not in errors
    assert "Error" not in errors
