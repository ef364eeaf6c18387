from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from matplotlib.image import imread

from eearth.pictures import _short, draw_confusion, draw_history, legible

if TYPE_CHECKING:
    from pathlib import Path

ROWS = [{"step": step, "loss": 1 / (step + 1), "mean_iou": "" if step % 3 else f"{step / 20}"} for step in range(12)]


def drawn(path: Path) -> np.ndarray:
    picture = imread(path)
    assert picture.shape[0] > 200
    assert np.ptp(picture[..., :3]) > 0.9
    return picture


@pytest.mark.parametrize("classes", [2, 7, 60])
def test_confusion_is_drawn_the_same_each_time(tmp_path: Path, classes: int) -> None:
    confusion = np.arange(classes * (classes + 1)).reshape(classes, -1)
    confusion[0] = 0
    for name in ("a.png", "b.png"):
        draw_confusion(tmp_path / name, confusion, [f"class {number}, $x_{number}$" for number in range(classes)])
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert drawn(tmp_path / "a.png").shape[1] < 3000


def test_names_in_a_script_without_a_font_do_no_harm(tmp_path: Path) -> None:
    draw_confusion(tmp_path / "a.png", [[3, 1], [0, 2]], ["गेहूँ", "森林"])
    drawn(tmp_path / "a.png")


def test_a_name_that_would_be_boxes_is_written_as_its_code() -> None:
    names = {1: "forêt", 2: "森林", 7: "лес", 8: "crops 🌾", 9: "water\n(lake)"}
    assert legible(names) == ["forêt", "class 2", "лес", "class 8", "water\n(lake)"]


def test_a_matrix_that_does_not_fit_the_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 classes"):
        draw_confusion(tmp_path / "a.png", np.ones((3, 3)), ["a", "b"])


def test_history_is_drawn_with_gaps_and_the_same_each_time(tmp_path: Path) -> None:
    panels = {"loss": ["loss", "never"], "mIoU": ["mean_iou"], "nothing": ["absent"]}
    for name in ("a.png", "b.png"):
        draw_history(tmp_path / name, ROWS, panels)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    two = drawn(tmp_path / "a.png")
    draw_history(tmp_path / "c.png", ROWS, {"loss": ["loss"]})
    assert drawn(tmp_path / "c.png").shape[0] < two.shape[0]


def test_a_history_without_figures_is_an_empty_frame(tmp_path: Path) -> None:
    draw_history(tmp_path / "a.png", [], {"loss": ["loss"]})
    drawn(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (999, "999"), (1000, "1k"), (12345, "12.3k"), (999_600, "1M"), (4_500_000, "4.5M")]
)
def test_counts_are_written_in_five_characters(count: int, text: str) -> None:
    assert _short(count) == text
