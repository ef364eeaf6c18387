from __future__ import annotations

import base64
import io
import itertools
import json
import re
from typing import TYPE_CHECKING, Any

import html5lib
import numpy as np
import pytest
import rasterio
from jsonpointer import resolve_pointer
from made_workspace import (
    CALIBRATION,
    add_assessment,
    add_imagery,
    add_labels,
    add_map,
    add_model,
    example_assessment,
    legend,
    patches,
    whole_workspace,
)
from PIL import Image
from rasterio.crs import CRS
from scenery import utm_grid

from eearth.geo.grid import Grid
from eearth.settings import ReportSettings
from eearth.stages.report import report
from eearth.workspace import Workspace

if TYPE_CHECKING:
    from pathlib import Path

GRID = utm_grid(40, 60)
NAMES = ("forest", "meadow", "water")
HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "a \"quoted\", 'name'",
    "&amp; {{ 7 * 7 }} {% raw %}",
    "two\nlines\tand\u2028more",
    "<!-- comment",
    "गेहूँ 🌾",
    "\u202eright to left",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = whole_workspace(tmp_path_factory.mktemp("whole"), GRID, NAMES)
    report(workspace, ReportSettings())
    return workspace


def page_of(workspace: Workspace) -> str:
    return (workspace.folder("report") / "report.html").read_text(encoding="utf-8")


def parsed(text: str) -> Any:
    """The page as a browser understands it; what is no valid HTML5 is an error."""
    return html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(text)


def words(element: Any) -> str:
    return " ".join(" ".join(element.itertext()).split())


def listed(workspace: Workspace) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((workspace.folder("report") / "report.json").read_text(encoding="utf-8"))
    return found


def pictures(tree: Any) -> dict[str, Image.Image]:
    contents = {image.get("id"): image.get("src").split(",")[1] for image in tree.iter("img") if image.get("id")}
    return {name: Image.open(io.BytesIO(base64.b64decode(content))) for name, content in contents.items()}


def test_every_figure_stands_where_its_source_says(whole: Workspace) -> None:
    figures = listed(whole)["figures"]
    assert {figure["part"] for figure in figures} == {
        "cards", "classes", "unfamiliar", "sample", "model", "calibration", "labels", "imagery"
    }  # fmt: skip
    quoted = [figure for figure in figures if figure["artifact"].endswith(".json")]
    assert len(quoted) > 80
    for figure in quoted:
        document = json.loads((whole.root / figure["artifact"]).read_text(encoding="utf-8"))
        assert resolve_pointer(document, figure["field"]) == figure["value"]
        if figure["low"] is not None:
            around = resolve_pointer(document, figure["field"].removesuffix("/estimate"))
            assert (around["low"], around["high"]) == (figure["low"], figure["high"])


def test_classes_are_counted_on_the_whole_map(whole: Workspace) -> None:
    with rasterio.open(whole.folder("predict") / "landcover.tif") as file:
        codes = file.read(1)
    for code, name in enumerate(NAMES, start=1):
        of = {f["name"]: f["value"] for f in listed(whole)["figures"] if f["of"] == name and f["part"] == "classes"}
        pixels = int((codes == code).sum())
        assert of["mapped pixels"] == pixels
        assert of["share of the mapped pixels"] == pytest.approx(pixels / (codes > 0).sum())
        assert of["mapped area"] == pytest.approx(pixels * 1e-4, rel=2e-3)  # UTM is within 0.1 % of true lengths


def test_the_page_shows_what_the_figures_say(whole: Workspace) -> None:
    text = words(parsed(page_of(whole)).find(".//main"))
    for shown in ("Overall 87.3 % (82.3 to 92.3 %) from 129 points", "81.0 %", "Temperature 1.42", "2.1 %", "31.6 m"):
        assert shown in text
    assert "Not a probability sample" in text
    assert "by counting pixels" in text
    assert "Contains modified Copernicus Sentinel data 2023." in text
    assert "CC-BY-4.0" in text
    assert "5 more are in labels/quality.json" in text
    assert "one stratum holds a single point" in text


def test_the_pictures_hold_the_codes_the_confidence_and_the_imagery(whole: Workspace) -> None:
    found = pictures(parsed(page_of(whole)))
    with rasterio.open(whole.folder("predict") / "landcover.tif") as file:
        codes = file.read(1)
    np.testing.assert_array_equal(np.asarray(found["classes-image"]), codes)
    assert found["classes-image"].convert("RGBA").getpixel((0, 0))[3] == 0
    colour = legend(NAMES)[codes[-1, -1] - 1].colour
    assert "#{:02x}{:02x}{:02x}".format(*found["classes-image"].convert("RGB").getpixel((59, 39))) == colour
    with rasterio.open(whole.folder("predict") / "confidence.tif") as file:
        confidence = file.read(1)
    shown = np.asarray(found["confidence-image"]).astype(int)
    assert (abs(shown - confidence)[confidence != 255] <= 2.5).all()
    assert (shown[confidence == 255] == 255).all()
    with rasterio.open(whole.folder("predict") / "confidence.tif") as file:
        strange = file.read(5)
    shown = np.asarray(found["unfamiliarity-image"]).astype(int)
    assert (abs(shown - np.minimum(strange, 200))[strange != 255] <= 2.5).all()
    assert (shown[strange == 255] == 255).all()
    share = f"{100 * (strange[strange < 255] > 100).mean():.1f}"
    assert f"{share} % of the map is unlike" in " ".join(page_of(whole).split())
    imagery = np.asarray(found["imagery-image"].convert("RGBA"))
    assert imagery[..., :3][:, :25].mean() < imagery[..., :3][:, 35:].mean() / 1.5  # its dark half is dark


def test_the_map_of_the_labels_is_carried_along(whole: Workspace) -> None:
    source = parsed(page_of(whole)).find(".//img[@class='picture']").get("src")
    picture = whole.folder("rasterize") / "quality.png"
    assert base64.b64decode(source.removeprefix("data:image/png;base64,")) == picture.read_bytes()


def test_nothing_is_asked_of_the_network(whole: Workspace) -> None:
    tree = parsed(page_of(whole))
    policy = tree.find(".//meta[@http-equiv='Content-Security-Policy']").get("content")
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for element in tree.iter():
        for name in ("src", "srcset", "poster", "data", "action"):
            assert (element.get(name) or "data:").startswith("data:")
        assert "style" not in element.attrib
        assert not [name for name in element.attrib if str(name).startswith("on")]
    assert [link.get("href") for link in tree.iter("link")] == ["data:,"]
    assert "url(" not in tree.find(".//style").text
    assert "@import" not in tree.find(".//style").text


def test_no_folder_of_the_users_and_no_secret_is_named(whole: Workspace) -> None:
    for text in (page_of(whole), json.dumps(listed(whole))):
        assert "somebody/" not in text
        assert "pass@" not in text
        assert "key=secret" not in text
        assert str(whole.root) not in text


def test_of_a_catalogue_on_the_disk_only_the_name_is_told(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    add_imagery(workspace, GRID, catalog="/home/somebody/secret/catalog.json")
    add_map(workspace, GRID, patches(GRID.shape, 3), legend(NAMES))
    report(workspace, ReportSettings())
    assert "catalog.json" in page_of(workspace)
    assert "secret" not in page_of(workspace)


def test_names_of_classes_are_only_text(tmp_path: Path) -> None:
    workspace = whole_workspace(tmp_path, GRID, HOSTILE)
    report(workspace, ReportSettings(title="<b>Bold</b> & 'odd'"))
    tree = parsed(page_of(workspace))
    assert words(tree.find(".//h1")) == "<b>Bold</b> & 'odd'"
    assert not next(tree.iter("b")).get("src")
    assert [script.get("type") for script in tree.iter("script")] == ["application/json", None]
    assert all(image.get("src").startswith("data:") for image in tree.iter("img"))
    shown = [words(entry) for entry in tree.findall(".//ul[@id='legend']//bdi")]
    assert shown == [" ".join(name.replace("\u202e", " ").split()) for name in HOSTILE]
    data = json.loads(tree.find(".//script[@id='map-data']").text)
    assert [entry["name"] for entry in data["classes"].values()] == shown


def test_the_same_workspace_makes_the_same_page(tmp_path: Path, whole: Workspace) -> None:
    workspace = whole_workspace(tmp_path / "elsewhere", GRID, NAMES)
    report(workspace, ReportSettings())
    for name in ("report.html", "report.json"):
        same = (folder / name for folder in (workspace.folder("report"), whole.folder("report")))
        assert len({path.read_bytes() for path in same}) == 1


ADDERS: dict[str, Any] = {
    "imagery": lambda workspace: add_imagery(workspace, GRID),
    "labels": lambda workspace: add_labels(workspace, legend(NAMES)),
    "model": lambda workspace: add_model(workspace, legend(NAMES)),
    "map": lambda workspace: add_map(workspace, GRID, patches(GRID.shape, 3), legend(NAMES)),
    "assessment": lambda workspace: add_assessment(workspace, example_assessment(legend(NAMES))),
}


@pytest.mark.parametrize(
    "parts",
    [
        parts
        for count in range(1, 4)
        for parts in itertools.combinations(ADDERS, count)
        if {"map", "model"} & set(parts) and not ("labels" in parts and "imagery" not in parts)
        and not ("model" in parts and not {"imagery", "labels"} <= set(parts))
    ],
)  # fmt: skip
def test_what_is_missing_is_left_out_with_the_command_that_makes_it(tmp_path: Path, parts: tuple[str, ...]) -> None:
    workspace = Workspace(tmp_path)
    for part in parts:
        ADDERS[part](workspace)
    report(workspace, ReportSettings())
    tree = parsed(page_of(workspace))
    commands = [words(code) for code in tree.findall(".//p[@class='missing']/code")]
    for part, command in (
        ("imagery", "download"),
        ("labels", "rasterize"),
        ("map", "predict"),
        ("assessment", "assess"),
    ):
        mentioned = any(f"eearth {command}" in text for text in commands)
        wanted = part not in parts or part == "labels"  # these labels have no quality.json
        assert mentioned == (wanted and (part != "assessment" or "map" in parts)), command
    assert (tree.find(".//canvas") is not None) == ("map" in parts)


def test_without_a_map_the_model_is_shown(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    add_imagery(workspace, GRID)
    add_labels(workspace, legend(NAMES))
    add_model(workspace, legend(NAMES), CALIBRATION)
    report(workspace, ReportSettings())
    tree = parsed(page_of(workspace))
    assert tree.find(".//canvas") is None
    assert len(tree.findall(".//{http://www.w3.org/2000/svg}polyline")) == 3  # loss, mIoU, reliability
    assert "no intervals" in words(tree.find(".//main"))


def test_a_map_without_confidence_and_without_imagery(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    add_map(workspace, GRID, patches(GRID.shape, 3), legend(NAMES), confidence=False)
    report(workspace, ReportSettings())
    tree = parsed(page_of(workspace))
    assert set(pictures(tree)) == {"classes-image"}
    assert tree.find(".//input[@id='confidence']") is None
    assert "the workspace holds none of this ground" in words(tree.find(".//main"))


def test_imagery_of_other_ground_is_not_put_under_the_map(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    add_imagery(workspace, GRID)
    add_map(workspace, utm_grid(40, 60, left=900_000), patches(GRID.shape, 3), legend(NAMES))
    report(workspace, ReportSettings())
    assert "imagery-image" not in pictures(parsed(page_of(workspace)))


@pytest.mark.parametrize(
    "grid",
    [
        utm_grid(1, 1),
        utm_grid(1, 50),
        Grid(CRS.from_epsg(4326), rasterio.Affine(1e-4, 0, 15, 0, -1e-4, 46), 30, 20),
        Grid(CRS.from_epsg(3832), rasterio.Affine(1000, 0, 3_200_000, 0, -1000, -1_900_000), 40, 300),  # across 180°
        Grid(CRS.from_epsg(3413), rasterio.Affine(1000, 0, -20_000, 0, -1000, 20_000), 40, 40),  # the pole
    ],
    ids=["one pixel", "one row", "degrees", "antimeridian", "pole"],
)
def test_any_grid_is_shown(tmp_path: Path, grid: Grid) -> None:
    workspace, classes = Workspace(tmp_path), legend(NAMES[:1])
    add_imagery(workspace, grid)
    add_map(workspace, grid, np.ones(grid.shape, dtype=np.uint8), classes)
    report(workspace, ReportSettings())
    tree = parsed(page_of(workspace))
    data = json.loads(tree.find(".//script[@id='map-data']").text)
    assert (data["across"], data["down"]) == (grid.width, grid.height)
    longitude = np.array(data["lonlat"]["longitude"]).reshape(17, 17)
    if grid.crs.to_epsg() == 3832:
        assert longitude.max() > 180 > longitude.min()  # in one piece
        assert np.ptp(longitude) < 10
    area = next(f for f in listed(workspace)["figures"] if f["name"] == "mapped area")["value"]
    metres = grid.pixel_metres**2 * grid.height * grid.width / 1e6
    assert area == pytest.approx(metres, rel=0.15)  # of a polar or Mercator metre, only roughly
    assert data["metres"] > 0


def test_a_legend_of_255_classes(tmp_path: Path) -> None:
    names = [f"class {number}" for number in range(1, 256)]
    workspace = whole_workspace(tmp_path, GRID, names, patches(GRID.shape, 255, side=2))
    report(workspace, ReportSettings())
    tree = parsed(page_of(workspace))
    assert len(tree.findall(".//ul[@id='legend']/li")) == 255
    assert not tree.findall(".//table[@class='confusion']")
    assert "255 classes are too many for a table of all pairs" in words(tree.find(".//main"))
    assert len(page_of(workspace)) < 1_500_000


def test_a_large_map_is_thinned_by_the_most_frequent_class(tmp_path: Path) -> None:
    workspace, grid = Workspace(tmp_path), utm_grid(300, 450)
    codes = np.ones(grid.shape, dtype=np.uint8)
    codes[1::3, 1::3] = 2  # the middle one of nine
    codes[150:, 225:] = 3
    add_map(workspace, grid, codes, legend(NAMES))
    report(workspace, ReportSettings(max_side=150))
    shown = np.asarray(pictures(parsed(page_of(workspace)))["classes-image"])
    assert shown.shape == (100, 150)
    assert (shown[:50] == 1).all()
    assert (shown[50:, 75:] == 3).all()


def test_codes_that_the_legend_lacks_are_shown_all_the_same(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    codes = patches(GRID.shape, 3)
    codes[-5:, -5:] = 77
    add_map(workspace, GRID, codes, legend(NAMES))
    report(workspace, ReportSettings())
    names = [words(entry) for entry in parsed(page_of(workspace)).findall(".//ul[@id='legend']//bdi")]
    assert names == [*NAMES, "code 77"]


def test_the_policy_names_the_page_s_own_script_and_style(whole: Workspace) -> None:
    import hashlib

    text = page_of(whole)
    for kind in ("script", "style"):
        content = re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        assert len(content) == 1
        digest = base64.b64encode(hashlib.sha256(content[0].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in text.replace("&#39;", "'")
