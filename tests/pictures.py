"""`make pictures`: takes the README's pictures from the real pages, after a demo in a temporary folder.

Every photo in them is drawn, and the model was not trained on it.
"""

import io
import os
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from PIL import Image

from car_damage.machine import secret
from car_damage.server.address import token
from car_damage.server.api.page import link
from car_damage.settings import CONFIG_VARIABLE, PREFIX
from car_damage.settings_sources import load
from deployments.demo import UNSEEN_SEED
from deployments.demo_photos import photo
from deployments.demo_settings import LOCAL_SETTINGS
from deployments.processes import free_port
from deployments.stack import ENDPOINT_START, USER, endpoint_server, password_file, prefect_server
from tests.server.browser import Browser, chromium

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "pictures"
RUN, PAGE = FOLDER / "run.png", FOLDER / "page.png"
MAX_BYTES = 150_000
"""Limit for each picture, because some people read the README on a slow line."""
COLOURS = 256
PATIENCE = 120.0
"""Seconds within which a page must stop changing."""
STILL = 2.0
"""Seconds without a change after which a page counts as complete."""


@dataclass(frozen=True)
class View:
    """The size of a window in CSS pixels."""

    width: int
    height: int


RUN_VIEW = View(1280, 560)
"""Shows the name, state and graph of the run, but not its log."""
PAGE_VIEW = View(1000, 850)
"""Shows four answers in two rows."""
ASKED = ("minor", "moderate", "major", "moderate")


def main() -> None:
    """Write both pictures."""
    with tempfile.TemporaryDirectory(prefix="car-damage-pictures.") as folder:
        _use(_settings(Path(folder) / "home"))
        subprocess.run([sys.executable, "-m", "deployments", "demo"], cwd=ROOT, check=True)
        settings = load()
        with prefect_server(settings.home) as prefect, endpoint_server(settings) as endpoint, chromium(Path(folder)) as browser:
            prefect.await_ready()
            endpoint.await_ready(ENDPOINT_START)
            _save(_run(browser, prefect.url, secret(password_file(settings.home))), RUN)
            _save(_page(browser, link(str(settings.serving.host), token(settings.home)), list(_photos(Path(folder)))), PAGE)


def _settings(home: Path) -> dict[str, str]:
    return {
        CONFIG_VARIABLE: str(LOCAL_SETTINGS),
        f"{PREFIX}HOME": str(home),
        f"{PREFIX}LANDING__FOLDER": str(home / "landing"),
        f"{PREFIX}SERVING__HOST": f"http://127.0.0.1:{free_port()}",
    }


def _use(variables: Mapping[str, str]) -> None:
    """Replace the shell's settings by these variables, for this process and all that it starts."""
    for name in [name for name in os.environ if name.startswith((PREFIX, "PREFECT_"))]:
        del os.environ[name]
    os.environ.update(variables)


def _photos(folder: Path) -> Iterator[Path]:
    for number, label in enumerate(ASKED, 1):
        path = folder / f"{label}-{number}.jpg"
        path.write_bytes(photo(label, UNSEEN_SEED + number))
        yield path


def _run(browser: Browser, url: str, password: str) -> bytes:
    """Screenshot of the demo's run in the Prefect UI."""
    (run,) = httpx.post(f"{url}/api/flow_runs/filter", json={}, auth=(USER, password)).raise_for_status().json()
    _show(browser, RUN_VIEW, url)
    encoded = b64encode(f"{USER}:{password}".encode()).decode()
    browser.run(f"localStorage.setItem('prefect-password', {encoded!r})")  # as its page does once a person has given it
    _show(browser, RUN_VIEW, f"{url}/runs/flow-run/{run['id']}")
    return _still(browser, f"return document.body.textContent.includes({run['name']!r}) && document.querySelector('canvas') !== null")


def _page(browser: Browser, url: str, photos: list[Path]) -> bytes:
    """Screenshot of the endpoint's page with an answer to each photo."""
    _show(browser, PAGE_VIEW, url)
    _still(browser, "return document.querySelector('#state[data-ready=true]') !== null")
    browser.choose("#photos", *photos)
    return _still(browser, f"return document.querySelectorAll('.card[data-state=answered]').length === {len(photos)}")


def _show(browser: Browser, view: View, url: str) -> None:
    browser.cdp("Emulation.setDeviceMetricsOverride", width=view.width, height=view.height, deviceScaleFactor=1, mobile=False)
    browser.cdp("Emulation.setScrollbarsHidden", hidden=True)
    browser.open(url)


def _still(browser: Browser, condition: str) -> bytes:
    """Screenshot of the window once a JavaScript condition holds and the page has stopped changing.

    Raises:
        TimeoutError: the condition never holds, or the page never stops changing.
    """
    end = time.monotonic() + PATIENCE
    before = b""
    while time.monotonic() < end:
        shown = browser.screenshot()
        if shown == before and browser.run(condition):
            return shown
        before = shown
        time.sleep(STILL)
    raise TimeoutError(f"the page did not stand still within {PATIENCE:.0f} s: {condition}")


def _save(screenshot: bytes, path: Path) -> None:
    picture = Image.open(io.BytesIO(screenshot)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    path.parent.mkdir(exist_ok=True)
    picture.save(path, optimize=True)
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{path} has {size} bytes, more than {MAX_BYTES}: show less, or use fewer colours")
    sys.stdout.write(f"{path.relative_to(ROOT)}: {size / 1000:.0f} kB\n")


if __name__ == "__main__":
    try:
        main()
    except pytest.skip.Exception as missing:  # there is no browser
        sys.exit(str(missing))
