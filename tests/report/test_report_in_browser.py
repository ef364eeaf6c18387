"""The page as a reader meets it: in Chromium, from a file, with the network blocked."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
from browser import chromium, messages, requests, resize
from made_workspace import whole_workspace
from scenery import utm_grid
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from eearth.settings import ReportSettings
from eearth.stages.report import report

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

    from eearth.workspace import Workspace

NAMES = ("forest", "</script><script>alert(1)</script>", "water")
DESKTOP, PHONE = (1440, 900), (390, 844)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = whole_workspace(tmp_path_factory.mktemp("whole"), utm_grid(60, 80), NAMES)
    report(made, ReportSettings())
    return made


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture
def page(browser: Chrome, workspace: Workspace) -> Chrome:
    """The page, just opened, at a desktop's width."""
    resize(browser, *DESKTOP)
    messages(browser)
    requests(browser)
    browser.get((workspace.folder("report") / "report.html").as_uri())
    WebDriverWait(browser, 20).until(lambda driver: map_of(driver).get_attribute("data-ready"))
    return browser


def map_of(page: Chrome) -> WebElement:
    return page.find_element(By.ID, "map")


def pixels(page: Chrome) -> np.ndarray:
    """(y, x, 4) of the map's canvas."""
    width, height, data = page.execute_script(
        "const c = document.getElementById('map-canvas'), p = c.getContext('2d');"
        "const d = p.getImageData(0, 0, c.width, c.height).data; let t = '';"
        "for (let i = 0; i < d.length; i += 8192) t += String.fromCharCode(...d.subarray(i, i + 8192));"
        "return [c.width, c.height, btoa(t)]"
    )
    return np.frombuffer(base64.b64decode(data), dtype=np.uint8).reshape(height, width, 4).astype(int)


def checkbox(page: Chrome, code: int) -> WebElement:
    return page.find_element(By.CSS_SELECTOR, f"#legend input[data-code='{code}']")


def status(page: Chrome) -> str:
    return str(page.find_element(By.ID, "status").text)


def focus(page: Chrome, element: WebElement) -> None:
    page.execute_script("arguments[0].focus({ preventScroll: true })", element)


def slide(page: Chrome, value: int) -> None:
    page.execute_script(
        "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))",
        page.find_element(By.ID, "opacity"),
        value,
    )


def test_it_opens_without_a_message_and_asks_for_nothing_but_itself(page: Chrome) -> None:
    assert map_of(page).get_attribute("data-ready") == "true"
    assert messages(page) == []
    asked = requests(page)
    assert len(asked) == 1
    assert asked[0].startswith("file:///")


def test_its_policy_lets_nothing_in_and_nothing_out(page: Chrome) -> None:
    page.execute_script(
        "const script = document.createElement('script'); script.textContent = 'window.intruder = true';"
        "document.body.append(script)"
    )
    assert page.execute_script("return window.intruder") is None
    failed = page.execute_async_script(
        "const done = arguments[0]; fetch('http://127.0.0.1:9/').then(() => done('answered'), (e) => done(e.name))"
    )
    assert failed == "TypeError"
    assert any("Content Security Policy" in entry["message"] for entry in messages(page))


def test_a_click_hides_a_class_and_another_shows_it_again(page: Chrome) -> None:
    slide(page, 100)
    before = pixels(page)
    checkbox(page, 1).click()
    without = pixels(page)
    changed = (before != without).any(axis=-1)
    assert 0.1 < changed.mean() < 0.6
    assert status(page) == "forest hidden. 2 of 3 classes shown."
    checkbox(page, 1).click()
    np.testing.assert_array_equal(pixels(page), before)
    assert status(page) == "forest shown. 3 of 3 classes shown."


def test_the_keyboard_reaches_and_toggles_a_class(page: Chrome) -> None:
    slide(page, 100)
    before = pixels(page)
    page.find_element(By.TAG_NAME, "body").click()
    for _ in range(40):
        ActionChains(page).send_keys(Keys.TAB).perform()
        if page.switch_to.active_element.get_attribute("data-code") == "2":
            break
    else:
        pytest.fail("Tab never came to the second class")
    outline = page.execute_script("return getComputedStyle(document.activeElement).outlineWidth")
    assert float(outline.removesuffix("px")) >= 2
    ActionChains(page).send_keys(Keys.SPACE).perform()
    assert (pixels(page) != before).any()
    assert status(page) == f"{NAMES[1]} hidden. 2 of 3 classes shown."


def test_the_map_draws_each_class_in_the_colour_of_its_legend(page: Chrome) -> None:
    slide(page, 100)
    page.find_element(By.ID, "show-none").click()
    base = pixels(page)
    for code in (1, 2, 3):
        checkbox(page, code).click()
        changed = pixels(page)[(pixels(page) != base).any(axis=-1)][:, :3]
        hexadecimal = page.execute_script(
            "return arguments[0].closest('label').querySelector('rect').getAttribute('fill')", checkbox(page, code)
        )
        colour = np.array(list(bytes.fromhex(hexadecimal[1:])))
        assert (abs(changed - colour).max(axis=1) <= 1).mean() > 0.99  # no blur at edges
        checkbox(page, code).click()


def test_the_slider_lets_the_imagery_through(page: Chrome) -> None:
    slide(page, 100)
    opaque = pixels(page)
    slide(page, 0)
    imagery = pixels(page)
    slide(page, 50)
    seen = (imagery[..., 3] == 255) & (opaque[..., 3] == 255)
    assert seen.mean() > 0.9
    np.testing.assert_allclose(pixels(page)[seen], (opaque + imagery)[seen] / 2, atol=2)
    focus(page, page.find_element(By.ID, "opacity"))
    ActionChains(page).send_keys(Keys.ARROW_RIGHT).perform()
    assert page.find_element(By.ID, "opacity-text").text == "55 %"


def test_confidence_takes_the_place_of_the_classes(page: Chrome) -> None:
    before = pixels(page)
    page.find_element(By.ID, "confidence").click()
    assert (pixels(page) != before).any(axis=-1).mean() > 0.9
    assert page.find_element(By.ID, "confidence-ramp").is_displayed()
    assert "confidence" in status(page)
    sure = pixels(page)
    page.find_element(By.ID, "unfamiliarity").click()
    assert (pixels(page) != sure).any(axis=-1).mean() > 0.9
    assert [page.find_element(By.ID, f"{name}-ramp").is_displayed() for name in ("confidence", "unfamiliarity")] == [
        False,
        True,
    ]
    assert "unfamiliarity" in status(page)
    page.find_element(By.ID, "unfamiliarity").click()
    np.testing.assert_array_equal(pixels(page), before)


def test_the_keyboard_zooms_and_moves_and_tells_what_is_in_the_middle(page: Chrome) -> None:
    whole, bar = pixels(page), page.find_element(By.ID, "scale-text").text
    focus(page, map_of(page))
    ActionChains(page).send_keys("+++").perform()
    near = pixels(page)
    assert (near != whole).any()
    assert page.find_element(By.ID, "scale-text").text != bar
    ActionChains(page).send_keys(Keys.ARROW_RIGHT).perform()
    assert (pixels(page) != near).any()
    assert "° N" in status(page)
    assert "confidence" in status(page)
    ActionChains(page).send_keys("0").perform()
    np.testing.assert_array_equal(pixels(page), whole)


def test_the_mouse_drags_zooms_and_reads(page: Chrome) -> None:
    whole, frame = pixels(page), map_of(page)
    ActionChains(page).move_to_element(frame).perform()
    readout = page.find_element(By.ID, "readout").text
    assert re.fullmatch(r".+ · confidence \d+ % · unfamiliarity \d+ % · 45\.15\d{3}° N, 15\.00\d{3}° E", readout)
    ActionChains(page).scroll_from_origin(_over(frame), 0, -400).perform()
    np.testing.assert_array_equal(pixels(page), whole)  # the page scrolls on until the map was clicked
    assert page.find_element(By.ID, "hint").is_displayed()
    ActionChains(page).move_to_element(frame).click().perform()
    ActionChains(page).scroll_from_origin(_over(frame), 0, -400).perform()
    near = pixels(page)
    assert (near != whole).any()
    ActionChains(page).move_to_element(frame).click_and_hold().move_by_offset(60, 30).release().perform()
    np.testing.assert_array_equal(pixels(page)[200:300, 200:300], near[170:270, 140:240])


def _over(frame: WebElement) -> ScrollOrigin:
    return ScrollOrigin.from_element(frame)


def test_two_fingers_zoom(page: Chrome) -> None:
    resize(page, *PHONE)
    page.execute_script("arguments[0].scrollIntoView({ block: 'center', behavior: 'instant' })", map_of(page))
    before, box = pixels(page), map_of(page).rect
    top = box["y"] - page.execute_script("return window.scrollY")
    x, y = box["x"] + box["width"] / 2, top + box["height"] / 2
    for kind, apart in (("touchStart", 20), ("touchMove", 40), ("touchMove", 80), ("touchEnd", None)):
        points = [] if apart is None else [{"x": x - apart, "y": y, "id": 1}, {"x": x + apart, "y": y, "id": 2}]
        page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    after = pixels(page)
    assert (after != before).any(axis=-1).mean() > 0.3
    assert "close" in map_of(page).get_attribute("class")


@pytest.mark.parametrize("size", [DESKTOP, PHONE, (320, 640)])
def test_no_page_is_wider_than_its_screen(page: Chrome, size: tuple[int, int]) -> None:
    resize(page, *size)
    assert page.execute_script("return document.documentElement.scrollWidth") == size[0]
    box = map_of(page).rect
    assert box["width"] > size[0] / 2
    assert box["height"] <= size[1] * 0.8


def test_it_prints_with_everything_unfolded(page: Chrome) -> None:
    folded = len(page.find_elements(By.CSS_SELECTOR, "details"))
    page.execute_script(
        "addEventListener('afterprint', () => { window.unfolded = window.counted; });"
        "const opened = () => document.querySelectorAll('details[open]').length;"
        "addEventListener('beforeprint', () => { window.counted = opened(); });"
    )
    pdf = base64.b64decode(page.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    assert pdf.startswith(b"%PDF")
    assert len(pdf) > 50_000
    assert page.execute_script("return window.unfolded") == folded


def test_a_browser_that_cannot_unpack_shows_the_plain_map(browser: Chrome, workspace: Workspace) -> None:
    script = browser.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument", {"source": "delete window.DecompressionStream"}
    )
    try:
        browser.get((workspace.folder("report") / "report.html").as_uri())
        WebDriverWait(browser, 20).until(lambda driver: map_of(driver).get_attribute("data-ready") == "plain")
        assert browser.find_element(By.ID, "classes-image").is_displayed()
        assert not browser.find_element(By.ID, "map-canvas").is_displayed()
        assert checkbox(browser, 1).get_attribute("disabled")
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def test_dark_is_dark(workspace: Workspace, tmp_path: Path) -> None:
    with chromium(tmp_path, dark=True) as driver:
        driver.get((workspace.folder("report") / "report.html").as_uri())
        colour = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert max(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")) < 60
