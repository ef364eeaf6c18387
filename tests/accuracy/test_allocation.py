from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eearth.accuracy.allocation import allocate, sample_size
from eearth.accuracy.expectation import expected_accuracies
from eearth.errors import LabelError, UsageError
from eearth.geo.labels.legend import code_named
from eearth.geo.sampling.classmap import Stratum
from eearth.geo.sampling.labelled import codes_of
from eearth.settings import FinetuneSettings
from eearth.training.weighting import class_weights

if TYPE_CHECKING:
    from pathlib import Path

PIXELS = np.array([200_000, 150_000, 3_200_000, 6_450_000])
EXPECTED = np.array([0.7, 0.6, 0.9, 0.95])

strata = st.lists(st.integers(1, 10**7), min_size=1, max_size=8).map(np.array)


def test_the_size_and_the_allocations_that_olofsson_2014_gives() -> None:
    """Section 5.1.1: 641 points; table 5: equal and proportional allocation of them."""
    assert sample_size(PIXELS, EXPECTED, 0.01) == 641
    assert allocate(PIXELS, 641, "proportional", 50).points.tolist() == [13, 10, 205, 413]
    assert sorted(allocate(PIXELS, 641, "equal", 50).points.tolist()) == [160, 160, 160, 161]
    assert allocate(PIXELS, 641, "olofsson", 50).points[:2].tolist() == [50, 50]
    assert allocate(PIXELS, 641, "olofsson", 100).points[:2].tolist() == [100, 100]


def test_a_small_map_needs_fewer_points() -> None:
    """Cochran's second term: with all pixels there is no sampling error."""
    assert sample_size(np.array([300, 700]), np.array([0.5, 0.5]), 0.01) < 1000
    assert sample_size(np.array([30_000, 70_000]), np.array([0.5, 0.5]), 0.01) == 2440  # 2500 / (1 + 2500 / 100,000)


@given(strata, st.integers(2, 3000), st.sampled_from(("olofsson", "proportional", "equal")), st.integers(2, 200))
def test_every_allocation_is_whole_and_fits(pixels: np.ndarray, size: int, scheme: str, minimum: int) -> None:
    found = allocate(pixels, size, scheme, minimum)  # type: ignore[arg-type]
    least = np.minimum(pixels, minimum if scheme == "olofsson" else 2)
    assert (found.points >= least).all()
    assert (found.points <= pixels).all()
    assert found.points.sum() == min(max(size, least.sum()), pixels.sum())
    assert len(found.reasons) == len(pixels)
    if scheme == "olofsson":  # above the minimum: by area, to the point
        free = (found.points > least) & (found.points < pixels)
        exact = found.points[free].sum() * pixels[free] / max(pixels[free].sum(), 1)
        assert (abs(found.points[free] - exact) <= 1).all()


def test_reasons_say_why() -> None:
    found = allocate(np.array([1, 500, 10_000, 90_000]), 300, "olofsson", 50)
    assert found.reasons == (
        "every pixel that it has", "the least that a class gets", "the least that a class gets",
        "in proportion to its 89.6% of the map",
    )  # fmt: skip
    assert allocate(np.array([1000, 10**7]), 100, "proportional", 50).reasons[0].startswith("two, the fewest")


CLASSES = [
    Stratum(1, "water", "#000000", 10, 1.0),
    Stratum(2, "a=b, c", "#000000", 10, 1.0),
    Stratum(3, "3 x", "#000000", 9, 1.0),
]


def test_expected_accuracies_come_from_the_user_then_the_test_blocks_then_nowhere() -> None:
    found = expected_accuracies(("water=0.99",), CLASSES, {1: 0.2, 2: 0.99})
    assert [(each.accuracy, each.source) for each in found.values()] == [
        (0.99, "as given"), (0.95, "on the test blocks"), (0.8, "assumed"),
    ]  # fmt: skip
    found = expected_accuracies(("0.7", "2=0.6"), CLASSES, {1: 0.2})
    assert [each.accuracy for each in found.values()] == [0.7, 0.6, 0.7]
    assert expected_accuracies((), CLASSES, {1: 0.2})[1].accuracy == 0.5  # test blocks are not believed that far
    assert expected_accuracies(("0",), CLASSES, {})[1].accuracy == 0


@pytest.mark.parametrize(
    ("given_text", "message"),
    [
        ("watr=0.9", "found 'watr'; did you mean water"),
        ("water=90", "a share of 0 to 1 in --expected, found 'water=90'"),
        ("water", "a share of 0 to 1 in --expected, found 'water'"),
        ("nan", "found 'nan'"),
    ],
)
def test_expected_accuracies_that_are_none(given_text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        expected_accuracies((given_text,), CLASSES, {})


def test_text_that_names_one_class_and_is_the_code_of_another_is_refused_everywhere(tmp_path: Path) -> None:
    """A column of numbers makes names of numbers, which were once taken for codes here and for names there."""
    legend = {1: "2", 2: "5", 3: "Late", 4: "late"}
    strata = [Stratum(code, name, "#000000", 10, 1.0) for code, name in legend.items()]
    codes, names, counts = (1, 2, 3, 4), {name: code for code, name in legend.items()}, np.full(4, 10)

    def weights(text: str) -> list[float]:
        settings = FinetuneSettings(class_weights=(f"{text}=2",), class_balance=0.0)
        return class_weights(counts, codes, settings, names).tolist()

    def accuracies(text: str) -> list[float]:
        return [each.accuracy for each in expected_accuracies((f"{text}=0.5",), strata, {}).values()]

    def references(text: str) -> list[int]:
        return codes_of(np.array([text]), legend, (), tmp_path)[0].tolist()

    for text, code in (("1", 1), ("5", 2), ("Late", 3), ("late", 4), ("4", 4)):
        assert code_named(text, legend, LabelError) == code
        assert np.flatnonzero(np.array(weights(text)) == 2).tolist() == [code - 1]
        assert np.flatnonzero(np.array(accuracies(text)) == 0.5).tolist() == [code - 1]
        assert references(text) == [code]
    assert code_named("LATE", legend, LabelError) is None
    assert references("4.0") == references("4.") == [4]  # as a spreadsheet writes a column with a gap
    assert code_named("4.5", legend, LabelError) is None
    assert code_named(" water  body", {7: "Water body"}, LabelError) == 7
    for refuse, error in ((weights, UsageError), (accuracies, UsageError), (references, LabelError)):
        with pytest.raises(error, match="found '2', the name of class 1 and the code of 5: give the classes") as caught:
            refuse("2")
        assert "\n" not in str(caught.value)


def test_no_uncertainty_needs_no_points() -> None:
    assert sample_size(PIXELS, np.ones(4), 0.01) == 0
    assert math.isclose(allocate(PIXELS, 0, "olofsson", 50).points.sum(), 200)
