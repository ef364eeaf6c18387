"""A headless Chromium that reaches nothing but files and 127.0.0.1, for tests that look at a page as a reader does."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from loopback.process import find_program
from selenium import webdriver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# What Chromium would do on its own account, and what it cannot do as root or without a graphics card. Every name is
# resolved to nothing and every connection goes to a proxy that is not there.
FLAGS = (
    "--headless=new",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--proxy-server=127.0.0.1:9",
)


@contextmanager
def chromium(folder: Path, *, width: int = 1440, height: int = 900, dark: bool = False) -> Iterator[webdriver.Chrome]:
    """A browser with a profile of its own below `folder`, that writes down every request and every message."""
    options = webdriver.ChromeOptions()
    options.binary_location = find_program("chromium", "chromium")
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}", *(["--no-sandbox"] if os.geteuid() == 0 else [])):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(find_program("chromedriver", "chromium-driver"))
    driver = webdriver.Chrome(options, service)
    try:
        resize(driver, width, height)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        yield driver
    finally:
        driver.quit()


def resize(driver: webdriver.Chrome, width: int, height: int) -> None:
    """Give the page exactly that many picture elements, as a phone or a screen has them."""
    sizes = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)
    driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": sizes["mobile"]})


def requests(driver: webdriver.Chrome) -> list[str]:
    """Addresses that the browser asked for since it was asked this last."""
    events = (json.loads(entry["message"])["message"] for entry in driver.get_log("performance"))
    return [
        str(event["params"]["request"]["url"])
        for event in events
        if event["method"] == "Network.requestWillBeSent"
        and not event["params"]["request"]["url"].startswith(("data:", "chrome:"))  # inside the page; the first tab
    ]


def messages(driver: webdriver.Chrome) -> list[Any]:
    """Everything on the console: errors, warnings, what violates the page's policy."""
    return list(driver.get_log("browser"))
