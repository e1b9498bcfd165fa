"""A headless Chromium, controlled by chromedriver over the W3C WebDriver protocol (https://www.w3.org/TR/webdriver2)."""

import base64
import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from deployments.processes import free_port, service

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The protocol's key for a reference to an element."""
_START = 60.0
"""Seconds that the driver may take to answer."""


class Browser:
    """A browser with one tab."""

    def __init__(self, session: httpx.Client) -> None:
        self._session = session

    def call(self, path: str, **body: Any) -> Any:
        """Send one command to the session. Raises AssertionError with the driver's error message."""
        return self._value(self._session.post(path, json=body))

    def open(self, url: str) -> None:
        """Load a page from scratch, with empty session storage and an empty console, whatever page was open."""
        self.run("try { sessionStorage.clear() } catch {}")
        self.call("url", url="about:blank")
        self.console()
        self.call("url", url=url)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript in the page; return its return value."""
        return self.call("execute/sync", script=script, args=arguments)

    def choose(self, selector: str, *files: Path) -> None:
        """Choose files in a file input."""
        self.type(selector, "\n".join(map(str, files)))

    def type(self, selector: str, text: str) -> None:
        """Send keys to an element."""
        self.call(f"element/{self._find(selector)}/value", text=text)

    def click(self, selector: str) -> None:
        self.call(f"element/{self._find(selector)}/click")

    def cdp(self, command: str, **parameters: Any) -> None:
        """Send a command of the Chrome DevTools protocol."""
        self.call("goog/cdp/execute", cmd=command, params=parameters)

    def screenshot(self) -> bytes:
        """A PNG of the window."""
        return base64.b64decode(self._value(self._session.get("screenshot")))

    def console(self) -> list[str]:
        """Errors in the console since the previous call."""
        return [entry["message"] for entry in self.call("se/log", type="browser") if entry["level"] == "SEVERE"]

    def label(self, selector: str) -> str:
        """An element's accessible name, which a screen reader reads aloud."""
        return str(self._value(self._session.get(f"element/{self._find(selector)}/computedlabel")))

    @staticmethod
    def _value(response: httpx.Response) -> Any:
        value = response.json()["value"]
        assert response.status_code == 200, value
        return value

    def _find(self, selector: str) -> str:
        return str(self.call("element", using="css selector", value=selector)[_ELEMENT])


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """A browser that runs until the block ends. Without a browser the test is skipped; with CI=true it fails."""
    driver, binary = shutil.which("chromedriver"), next(filter(None, map(shutil.which, _BROWSERS)), None)
    if driver is None or binary is None:
        missing = "no Chromium with its chromedriver (Debian: apt-get install chromium chromium-driver)"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    profile = folder / "profile"
    arguments = [
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        f"--user-data-dir={profile}",
    ]
    wanted = {"goog:chromeOptions": {"binary": binary, "args": arguments}, "goog:loggingPrefs": {"browser": "ALL"}}
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with service("chromedriver", [driver, f"--port={port}"], folder / "chromedriver.log", f"{url}/status") as running:
        running.await_ready(_START)
        with httpx.Client(timeout=_START) as client:
            created = client.post(f"{url}/session", json={"capabilities": {"alwaysMatch": wanted}}).json()["value"]
            assert "sessionId" in created, created
            client.base_url = httpx.URL(f"{url}/session/{created['sessionId']}/")
            try:
                yield Browser(client)
            finally:
                client.delete("")
                _end(profile)


def _end(profile: Path) -> None:
    """End the browser processes that the driver has left behind."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if f"--user-data-dir={profile}" in process.cmdline():
                process.kill()
