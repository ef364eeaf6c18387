"""The parts of the page that compute: imagery under the map, curves, reliability, confusion, words."""

from __future__ import annotations

import math
import re
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_workspace import CALIBRATION, DATES, SCALE, add_imagery, patches, whole_workspace
from scenery import utm_grid

from eearth.events import silent
from eearth.geo.cube import CUBE, Cube
from eearth.report.backdrop import _middle, _places, _thinned, median_of, read_backdrop
from eearth.report.confusion import read_confusion
from eearth.report.curves import BOTTOM, LEFT, RIGHT, TOP, _nice, reliability, training_charts
from eearth.report.sources import Document, Figure, Held
from eearth.report.words import count, interval, percent, shown
from eearth.workspace import Workspace

if TYPE_CHECKING:
    from pathlib import Path


def test_the_middle_is_the_lower_median_of_what_is_valid() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 65536, (9, 3, 6, 7)).astype(np.uint16)
    valid = rng.random(values.shape) < 0.5
    valid[:, :, 0, 0] = False
    found = _middle(values, valid)
    for row, col, band in np.ndindex(found.shape):
        seen = np.sort(values[:, band, row, col][valid[:, band, row, col]])
        expected = seen[(seen.size - 1) // 2] if seen.size else math.nan
        assert found[row, col, band] == expected or (math.isnan(expected) and np.isnan(found[row, col, band]))


@pytest.mark.parametrize(
    ("size", "left", "top"),
    [((150, 140), 0, 0), ((30, 30), 40, 50), ((200, 200), -30, -20), ((150, 140), 100, 100)],
    ids=["same", "inside", "around", "shifted"],
)
@pytest.mark.parametrize("step", [1, 4])
def test_the_imagery_lies_where_the_map_does(
    tmp_path: Path, size: tuple[int, int], left: int, top: int, step: int
) -> None:
    """Against each pixel of the map looked up by its coordinates."""
    workspace, own = Workspace(tmp_path), utm_grid(150, 140)
    add_imagery(workspace, own)
    cube = Cube.open(workspace.folder("download") / CUBE)
    grid = utm_grid(*size, left=500_000 + 10 * left, top=5_000_000 - 10 * top)
    shape = -(-size[0] // step), -(-size[1] // step)
    rows, cols = (
        _places(whole[_thinned(whole.size, to)], there)
        for whole, to, there in ((grid.y(), shape[0], cube.grid.y()), (grid.x(), shape[1], cube.grid.x()))
    )
    found = median_of(cube, rows, cols, silent)
    values, valid = np.asarray(cube.reflectance[:]), np.asarray(cube.valid[:])
    for i, j in [(0, 0), (shape[0] // 2, shape[1] // 2), (shape[0] - 1, shape[1] - 1), (shape[0] // 3, 1)]:
        row, col = int((i + 0.5) * size[0] / shape[0]) + top, int((j + 0.5) * size[1] / shape[1]) + left
        if not (0 <= row < 150 and 0 <= col < 140):
            assert np.isnan(found[i, j]).all()
            continue
        seen = np.sort(values[valid[:, row, col], :, row, col][:, [2, 1, 0]], axis=0)  # red, green, blue
        if len(seen):
            np.testing.assert_allclose(found[i, j], seen[(len(seen) - 1) // 2] * SCALE, rtol=1e-6)
        else:
            assert np.isnan(found[i, j]).all()


def test_what_was_never_seen_is_transparent(tmp_path: Path) -> None:
    workspace, grid = Workspace(tmp_path), utm_grid(20, 20)
    add_imagery(workspace, grid)
    picture = read_backdrop(Held.by(workspace), grid, grid.shape, silent)
    assert picture is not None
    valid = np.asarray(Cube.open(workspace.folder("download") / CUBE).valid[:])
    assert valid.shape[0] == DATES
    np.testing.assert_array_equal(picture[..., 3] > 0, valid.any(axis=0))


def test_curves_lie_in_their_frame_and_gaps_are_left_out() -> None:
    rows = [
        {"step": str(n), "loss": f"{3 - n / 10}", "validation_miou": "" if n % 4 else f"{n / 40}"} for n in range(21)
    ]
    charts = training_charts([*rows, {"step": "", "loss": "nan", "validation_miou": "odd"}])
    assert [chart.name for chart in charts] == ["loss", "validation miou"]
    assert [len(chart.points.split()) for chart in charts] == [21, 6]
    first, last = (tuple(map(float, charts[0].points.split()[end].split(","))) for end in (0, -1))
    assert first == (LEFT, TOP)  # 3 is a round number
    assert last == (RIGHT, BOTTOM)  # so is 1
    assert charts[0].text == "loss: 3 at step 0, 1 at step 20; lowest 1, highest 3"
    assert [tick.text for tick in charts[0].up] == ["1", "1.5", "2", "2.5", "3"]


@pytest.mark.parametrize(
    "rows", [[], [{"step": "0", "loss": "1"}], [{"step": "0", "loss": "1"}, {"step": "0", "loss": "2"}]]
)
def test_a_training_without_steps_has_no_curve(rows: list[dict[str, str]]) -> None:
    assert training_charts(rows) == []


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_axes_hold_their_values_between_few_round_numbers(low: float, span: float) -> None:
    high = low + span
    ticks = _nice(low, high)
    slack = 1e-6 * max(abs(low), abs(high), 1)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack
    assert 2 <= len(ticks) <= 7


def test_reliability_places_each_bin_by_confidence_and_accuracy() -> None:
    drawn = reliability(Document("finetune/metrics.json", {"calibration": CALIBRATION}))
    assert drawn is not None
    assert len(drawn.dots) == 9  # the first bin is empty
    share = [((dot.x - LEFT) / (RIGHT - LEFT), (BOTTOM - dot.y) / (BOTTOM - TOP)) for dot in drawn.dots]
    expected = [(entry["confidence"], entry["accuracy"]) for entry in CALIBRATION["bins"][1:]]
    np.testing.assert_allclose(share, expected, atol=1e-3)
    assert drawn.dots[0].radius < drawn.dots[-1].radius
    assert reliability(Document("finetune/metrics.json", {})) is None


def test_a_confusion_matrix_keeps_counts_shares_and_the_empty_column() -> None:
    document = Document("a.json", {"codes": [3, 9], "counts": [[8, 2, 0], [1, 3, 4]]})
    found = read_confusion(document, "/counts", "/codes", {3: "a", 9: "b"}, rows="r", columns="c", unit="pixels")
    assert found is not None
    assert found.heads == ("a", "b", "no data in the map")
    assert [[cell.count for cell in row] for row in found.table] == [[8, 2, 0], [1, 3, 4]]
    assert [[cell.shade for cell in row] for row in found.table] == [[8, 2, 0], [2, 4, 5]]
    assert [[cell.right for cell in row] for row in found.table] == [[True, False, False], [False, True, False]]
    assert found.totals == (10, 8)
    full = Document("a.json", {"codes": [3, 9], "counts": [[8, 2, 0], [1, 3, 0]]})
    narrow = read_confusion(full, "/counts", "/codes", {}, rows="r", columns="c", unit="pixels")
    assert narrow is not None
    assert narrow.heads == ("code 3", "code 9")
    assert read_confusion(Document("a.json", {"codes": [1], "counts": [[1, 2, 3]]}), "/counts", "/codes", {},
                          rows="r", columns="c", unit="pixels") is None  # fmt: skip


def test_of_many_classes_the_worst_pairs_are_listed() -> None:
    size = 60
    counts = np.eye(size, dtype=int) * 100
    counts[5, 7], counts[9, 2] = 40, 50
    document = Document("a.json", {"codes": list(range(1, size + 1)), "counts": counts.tolist()})
    names = {code: f"c{code}" for code in range(1, size + 1)}
    found = read_confusion(document, "/counts", "/codes", names, rows="r", columns="c", unit="pixels")
    assert found is not None
    assert found.table == ()
    assert [(pair.row, pair.column, pair.count) for pair in found.pairs] == [("c10", "c3", 50), ("c6", "c8", 40)]


def figure(value: object, unit: str, low: float | None = None, high: float | None = None) -> Figure:
    return Figure(name="x", value=value, unit=unit, low=low, high=high, artifact="a", field="b")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.94651, "share", "94.7\u202f%"), (0.0001, "share", "< 0.1\u202f%"), (0.0, "share", "0.0\u202f%"),
        (1234567, "pixels", "1\u202f234\u202f567"), (12345.678, "km2", "12\u202f346 km²"),
        (0.01234, "km2", "0.0123 km²"),
        (31.62, "m", "31.6 m"), (200.0, "m", "200 m"), ("2023-01-01", "", "2023-01-01"), (None, "share", "\u2013"),
        (1.423, "", "1.42"), (123.45, "km2", "123 km²"),
    ],
)  # fmt: skip
def test_figures_read_well(value: object, unit: str, text: str) -> None:
    assert shown(figure(value, unit)) == text


def test_intervals_read_well() -> None:
    assert interval(figure(0.9, "share", 0.85, 0.951)) == "85.0 to 95.1\u202f%"
    assert interval(figure(9.0, "km2", 8.5, 9.5)) == "8.50 to 9.50 km²"
    assert interval(figure(9.0, "km2")) == "no interval"
    assert (percent(0.5), count(1000)) == ("50.0\u202f%", "1\u202f000")


def _luminance(colour: str) -> float:
    """Relative luminance of "#rrggbb" as WCAG 2.2 defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(scheme: int) -> None:
    """WCAG 2.2, 1.4.3: at least 4.5:1; 1.4.11: 3:1 for lines and controls."""
    style = (files("eearth.report") / "templates" / "report.css").read_text(encoding="utf-8")
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", re.findall(r":root \{(.*?)\}", style, re.DOTALL)[scheme]))
    shades = re.findall(r"\.(s\d+) \{ background: var\(--s\d+\); color: var\(--([\w-]+)\); \}", style)
    assert len(shades) == 10
    text = [("ink", "page"), ("ink", "card"), ("soft", "page"), ("soft", "card"), ("soft", "wash"), ("ink", "wash"),
            ("accent", "page"), ("accent", "card"), ("note-ink", "note"), ("card", "ink"),
            *((ink, shade) for shade, ink in shades)]  # fmt: skip
    lines = [("curve", "card"), ("edge", "card"), ("accent", "card")]
    for least, pairs in ((4.5, text), (3.0, lines)):
        for front, back in pairs:
            light, dark = sorted((_luminance(colours[front]), _luminance(colours[back])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= least, (front, back)


@pytest.mark.parametrize("pointer", ["", "/a", "/a/b/c", "/list/9", "/list/x", "/missing/deep"])
def test_a_pointer_to_nothing_is_none(pointer: str) -> None:
    document = Document("a.json", {"a": {"b": 1}, "list": [1]})
    found = document.at(pointer)
    assert found == {"": document.data, "/a": {"b": 1}}.get(pointer)


def test_pointers_unescape_as_the_standard_says() -> None:
    document = Document("a.json", {"a/b": 1, "m~n": 2, "": 3})
    assert [document.at(pointer) for pointer in ("/a~1b", "/m~0n", "/")] == [1, 2, 3]


def test_only_finished_stages_are_told_of(tmp_path: Path) -> None:
    workspace = whole_workspace(tmp_path, utm_grid(20, 20), ("a", "b"), patches((20, 20), 2))
    workspace.folder("assess").rename(workspace.partial("assess"))
    held = Held.by(workspace)
    assert list(held.manifests) == ["download", "rasterize", "finetune", "predict"]
    assert held.document("assess", "assessment.json") is None
