"""The page of `eearth view` as a reader meets it: in Chromium, over the loopback and nothing else."""

from __future__ import annotations

import base64
import re
from threading import Thread
from typing import TYPE_CHECKING

import numpy as np
import pytest
from browser import chromium, messages, requests, resize
from made_workspace import add_imagery, add_map, legend
from scenery import utm_grid
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from eearth.view.session import serving
from eearth.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selenium.webdriver import Chrome

    from eearth.view.server import MapServer

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul")  # affine 3.1 warns of what rio-tiler does

NAMES = ("forest", "</script><b>water</b>", "maize")
CLASSES = legend(NAMES)
DESKTOP, PHONE = (900, 520), (390, 844)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MapServer]:
    """West half forest, east half water, and a strip of maize in the south."""
    workspace, grid = Workspace(tmp_path_factory.mktemp("view")), utm_grid(80, 80)
    add_imagery(workspace, grid)
    codes = np.where(np.arange(80) < 40, 1, 2).astype(np.uint8) * np.ones((80, 1), dtype=np.uint8)
    codes[60:] = 3
    add_map(workspace, grid, codes, CLASSES)
    with serving(workspace) as made:
        thread = Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture
def page(browser: Chrome, server: MapServer) -> Iterator[Chrome]:
    """The page, just opened at a desktop's width; afterwards nothing has complained or asked elsewhere."""
    resize(browser, *DESKTOP)
    messages(browser)
    requests(browser)
    browser.get(server.url)
    settle(browser)
    yield browser
    assert messages(browser) == []
    assert all(address.startswith((server.url, "blob:")) for address in requests(browser))


def settle(page: Chrome) -> None:
    def still(driver: Chrome) -> bool:
        frame = driver.find_element(By.ID, "map")
        return frame.get_attribute("data-ready") == "true" and frame.get_attribute("data-state") == "still"

    page.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    WebDriverWait(page, 20, poll_frequency=0.05).until(still)


def pixels(page: Chrome) -> np.ndarray:
    """(y, x, 4) of the canvas, opaque map."""
    page.execute_script(
        "const o = document.getElementById('opacity'); o.value = 100; o.dispatchEvent(new Event('input'))"
    )
    settle(page)
    width, height, data = page.execute_script(
        "const c = document.getElementById('canvas'), copy = new OffscreenCanvas(c.width, c.height);"
        "const p = copy.getContext('2d', { willReadFrequently: true }); p.drawImage(c, 0, 0);"
        "const d = p.getImageData(0, 0, c.width, c.height).data; let t = '';"
        "for (let i = 0; i < d.length; i += 8192) t += String.fromCharCode(...d.subarray(i, i + 8192));"
        "return [c.width, c.height, btoa(t)]"
    )
    return np.frombuffer(base64.b64decode(data), dtype=np.uint8).reshape(height, width, 4)


def share(page: Chrome, code: int) -> float:
    """The share of the canvas in the colour of a class."""
    colour = np.frombuffer(bytes.fromhex(CLASSES[code - 1].colour[1:]), dtype=np.uint8)
    return float((pixels(page)[..., :3] == colour).all(axis=-1).mean())


def status(page: Chrome) -> str:
    return str(page.find_element(By.ID, "status").get_attribute("textContent"))


def test_the_classes_lie_where_the_map_has_them(page: Chrome) -> None:
    shown = [share(page, code) for code in (1, 2, 3)]
    assert shown[0] == pytest.approx(shown[1], rel=0.05)
    assert shown[2] == pytest.approx(sum(shown) / 4, rel=0.05)
    assert sum(shown) > 0.4
    names = [element.text for element in page.find_elements(By.CSS_SELECTOR, "#legend bdi")]
    assert names == list(NAMES)
    picture = pixels(page)
    middle = picture.shape[0] // 2
    first = next(colour for colour in picture[middle] if colour[3])
    assert tuple(first[:3]) == tuple(bytes.fromhex(CLASSES[0].colour[1:])), "forest is in the west"


def test_classes_are_hidden_by_mouse_and_by_keyboard(page: Chrome) -> None:
    box = page.find_element(By.CSS_SELECTOR, "#legend input[data-code='1']")
    box.click()
    assert share(page, 1) == 0
    assert share(page, 2) > 0.1
    assert status(page) == "forest hidden. 2 of 3 shown."
    box.send_keys(Keys.SPACE)
    assert share(page, 1) > 0.1
    page.find_element(By.ID, "show-none").send_keys(Keys.ENTER)
    assert [share(page, code) for code in (1, 2, 3)] == [0, 0, 0]
    assert len(np.unique(pixels(page).reshape(-1, 4), axis=0)) > 50, "the imagery below is seen"


def test_a_click_and_enter_tell_the_pixel(page: Chrome) -> None:
    frame = page.find_element(By.ID, "map")
    ActionChains(page).move_to_element_with_offset(frame, -150, 0).click().perform()
    card = page.find_element(By.ID, "pixel")
    WebDriverWait(page, 20, poll_frequency=0.05).until(lambda _: card.is_displayed())
    assert re.search(r"forest\nConfidence\n\d+ %\nClear observations\n5\n", card.text)
    assert re.search(r"45\.1\d+° N, 15\.0\d+° E\n\d+\.\d, \d+\.\d \(EPSG:32633\)", card.text)
    for _ in range(2):
        frame.send_keys(Keys.ARROW_RIGHT)
    frame.send_keys(Keys.ENTER)
    WebDriverWait(page, 20, poll_frequency=0.05).until(lambda _: "water" in card.text)
    assert "</script><b>water</b>, Confidence" in status(page)
    frame.send_keys(Keys.ESCAPE)
    assert not card.is_displayed()


def test_it_zooms_and_moves_by_mouse_and_keyboard(page: Chrome) -> None:
    frame = page.find_element(By.ID, "map")
    before, bar = share(page, 1), page.find_element(By.ID, "scale-text").text
    for _ in range(6):
        frame.send_keys("+")
    settle(page)
    assert page.find_element(By.ID, "scale-text").text != bar
    assert share(page, 1) > before
    assert share(page, 2) == pytest.approx(0.5, abs=0.02)
    ActionChains(page).drag_and_drop_by_offset(frame, frame.rect["width"] // 4, 0).perform()
    assert share(page, 2) == pytest.approx(0.25, abs=0.02)
    frame.send_keys("0")
    assert share(page, 1) == pytest.approx(before, rel=0.01)


def test_layers_take_turns_over_imagery_or_none(page: Chrome) -> None:
    page.find_element(By.CSS_SELECTOR, "#layers input[value='confidence']").click()
    page.find_element(By.ID, "imagery").click()
    assert [share(page, code) for code in (1, 2, 3)] == [0, 0, 0]
    assert len(np.unique(pixels(page).reshape(-1, 4), axis=0)) > 50, "of confidences from 30 to 100 %"
    assert page.find_element(By.ID, "ramp-high").text == "100 %"
    page.find_element(By.CSS_SELECTOR, "#layers input[value='landcover']").send_keys(Keys.SPACE)
    assert share(page, 1) > 0.1
    page.find_element(By.ID, "show-none").click()
    assert not pixels(page).any()


def test_on_a_phone_the_map_comes_first_and_nothing_is_cut_off(page: Chrome, server: MapServer) -> None:
    resize(page, *PHONE)
    page.get(server.url)
    settle(page)
    assert page.execute_script("return document.documentElement.scrollWidth") <= PHONE[0]
    assert page.find_element(By.ID, "map").rect["height"] > 0.8 * PHONE[1]
    page.find_element(By.CSS_SELECTOR, "summary").click()
    settle(page)
    assert page.find_element(By.ID, "legend").is_displayed()
    assert page.find_element(By.ID, "map").rect["height"] > 0.5 * PHONE[1]
    assert share(page, 1) > 0.05
