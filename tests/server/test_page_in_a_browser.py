"""The endpoint's page in a real browser: what a person sees, and which data leaves the machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from car_damage.data.people.desk import Desk
from car_damage.data.people.doubts import Doubt, Doubts
from car_damage.data.people.waiting import Answer
from car_damage.server.address import token
from deployments.demo_photos import photo as drawn
from tests.corpus import heic, picture
from tests.fakes import sha256
from tests.server.browser import Browser, chromium
from tests.server.conftest import CLASSES, Server, emptied, until

PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
TAB = "\ue004"
SMALLEST_TARGET = 44
"""CSS pixels. Source: https://www.w3.org/TR/WCAG22/#target-size-enhanced."""
LEAST_CONTRAST = 4.5
"""Contrast ratio. Source: https://www.w3.org/TR/WCAG22/#contrast-minimum."""

# Each check of the endpoint hides the token form, so the script that measures the form also shows it.
SHOW = "for (const id of ['key', 'choice']) document.getElementById(id).hidden = false;"
CONTRASTS = (
    SHOW
    + """
const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
const luminance = (colour) => {
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  const [red, green, blue] = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((byte) => {
    const part = byte / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
};
const ground = (element) => {
  const colour = getComputedStyle(element).backgroundColor;
  return colour === "rgba(0, 0, 0, 0)" && element.parentElement ? ground(element.parentElement) : colour;
};
return [...document.body.querySelectorAll("*")]
  .filter((element) => element.checkVisibility() && [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
  .map((element) => {
    const [light, dark] = [getComputedStyle(element).color, ground(element)].map(luminance).sort((one, other) => other - one);
    return [element.textContent.trim().slice(0, 40), (light + 0.05) / (dark + 0.05)];
  });
"""
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture
def page(browser: Browser, ready: Server) -> Browser:
    """The page, opened by the link that `car-damage serve` prints in a terminal."""
    browser.open(f"{ready.url}/#token={token(ready.settings.home)}")
    until(lambda: "ready" in state(browser), "a look at the endpoint")
    return browser


@pytest.fixture
def car(tmp_path: Path) -> Path:
    path = tmp_path / "car.jpg"
    path.write_bytes(drawn("major", 3))
    return path


@pytest.fixture
def letter(tmp_path: Path) -> Path:
    """A .jpg file that is not a photo."""
    path = tmp_path / "letter.jpg"
    path.write_bytes(b"<b>Hi</b> there, this is a letter")
    return path


def state(page: Browser) -> str:
    return str(page.run("return document.getElementById('state').textContent"))


def cards(page: Browser) -> list[dict[str, Any]]:
    """Every photo on the page from top to bottom: its state, and the text of each visible part."""
    return list(
        page.run(
            """return [...document.querySelectorAll(".card")].map((card) => ({
              state: card.dataset.state,
              ...Object.fromEntries(["h3", ".file", ".facts", ".problem", ".review", ".again"].map((name) => {
                const part = card.querySelector(name);
                return [name.replace(".", ""), part.checkVisibility() ? part.textContent : null];
              })),
              bars: [...card.querySelectorAll(".bars div")].map((bar) => {
                const [track, fill] = [".track", ".track span"].map((name) => bar.querySelector(name).getBoundingClientRect().width);
                return [bar.querySelector("dt").textContent, bar.lastElementChild.textContent, fill / track];
              }),
            }))"""
        )
    )


def done(page: Browser, count: int) -> list[dict[str, Any]]:
    """Wait until the page has this many cards and none is waiting; return them."""

    def ended() -> Any:
        seen = cards(page)
        return seen if len(seen) == count and all(card["state"] != "waiting" for card in seen) else None

    seen: list[dict[str, Any]] = until(ended, "the last answer")
    return seen


def test_a_photo_gets_its_class_its_probabilities_its_version_and_its_time(page: Browser, ready: Server, car: Path) -> None:
    page.choose("#photos", car)
    (card,) = done(page, 1)
    (answer,) = ready.serving.query([car.read_bytes()])
    assert card["h3"] == answer.label
    assert [name for name, _, _ in card["bars"]] == list(CLASSES)
    assert [said for _, said, _ in card["bars"]] == [f"{answer.probabilities[name] * 100:.1f} %" for name in CLASSES]
    assert [width for _, _, width in card["bars"]] == pytest.approx([answer.probabilities[name] for name in CLASSES], abs=0.01)
    assert card["facts"].startswith("Answered by car_damage_classifier-1 in")
    assert answer.review is True
    assert card["review"] == f"A person must look: it may be {' or '.join(answer.classes or ())}."
    assert int(card["facts"].split()[-2]) > 0
    assert page.run("return document.querySelector('.card img').naturalWidth") > 0
    assert state(page) == f"{ready.settings.serving.endpoint}: ready, version 1"
    assert f"car.jpg: {answer.label}" in page.run("return document.querySelector('[role=log]').textContent")


def test_a_card_shows_where_the_damage_was_seen_if_it_is_asked(page: Browser, car: Path) -> None:
    page.choose("#photos", car)
    (before,) = done(page, 1)
    assert not page.run("return document.querySelector('.card .map').checkVisibility()")
    page.run("document.querySelector('.card .why').click()")
    until(lambda: page.run("return document.querySelector('.card .map').checkVisibility()"), "the map")
    painted = """const canvas = document.querySelector(".card canvas");
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return [canvas.width / canvas.height, new Set(data.filter((_, place) => place % 4 === 0)).size];"""
    shape, reds = page.run(painted)
    assert shape == pytest.approx(
        page.run("const photo = document.querySelector('.card img'); return photo.naturalWidth / photo.naturalHeight"), abs=0.02
    )
    assert reds > 2
    assert cards(page)[0]["h3"] == before["h3"]
    assert page.console() == []


def test_nothing_leaves_the_server_and_the_console_has_no_errors(page: Browser, ready: Server, car: Path) -> None:
    page.choose("#photos", car)
    done(page, 1)
    asked = page.run("return performance.getEntries().map((entry) => entry.name).filter((name) => /^\\w+:/.test(name))")
    assert any(name.endswith("/invocations") for name in asked)
    assert [name for name in asked if not name.startswith((f"{ready.url}/", f"blob:{ready.url}/"))] == []
    assert page.console() == []


def test_the_token_is_taken_out_of_the_address_bar_and_survives_a_reload(page: Browser, ready: Server) -> None:
    assert page.run("return location.href") == f"{ready.url}/"
    page.call("refresh")
    until(lambda: "ready" in state(page), "a look at the endpoint")


def test_several_photos_keep_their_order_and_two_at_most_are_asked_about_at_once(page: Browser, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.jpg" for number in range(6)]
    for number, path in enumerate(paths):
        path.write_bytes(drawn("minor", number))
    page.choose("#photos", *paths)
    assert [card["file"].split(",")[0] for card in done(page, 6)] == [path.name for path in paths]
    spans = page.run(
        "return performance.getEntriesByType('resource').filter(({ name }) => name.endsWith('/invocations'))"
        ".map(({ startTime, responseEnd }) => [startTime, responseEnd])"
    )
    assert len(spans) == 6
    assert max(sum(start <= began < end for start, end in spans) for began, _ in spans) <= 2


def test_a_dropped_photo_is_asked_about(page: Browser, car: Path) -> None:
    page.run(
        """const dropped = new DataTransfer();
        dropped.items.add(new File([Uint8Array.from(arguments[0])], "dropped.jpg", { type: "image/jpeg" }));
        document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: dropped, bubbles: true, cancelable: true }))""",
        list(car.read_bytes()),
    )
    (card,) = done(page, 1)
    assert (card["state"], card["file"].split(",")[0]) == ("answered", "dropped.jpg")


def test_a_file_that_is_no_photo_is_refused_with_the_servers_reason_as_text(page: Browser, letter: Path, car: Path) -> None:
    page.choose("#photos", letter, car)
    refused, answered = done(page, 2)
    assert refused["problem"] == "The server cannot use this file: not an image: starts with b'<b>Hi</b'"
    assert refused["again"] is None, "it would be refused again"
    assert page.run("return document.querySelectorAll('#answers b').length") == 0
    assert answered["state"] == "answered"


def test_a_file_that_is_too_large_is_not_sent(page: Browser, ready: Server, tmp_path: Path) -> None:
    largest = (ready.settings.serving.max_request_bytes - len('{"dataframe_records":[{"image":""}]}')) // 4 * 3
    paths = [tmp_path / "fits.jpg", tmp_path / "large.jpg"]
    for path, size in zip(paths, (largest, largest + 1), strict=True):
        path.write_bytes(bytes(size))
    page.choose("#photos", *paths)
    fits, large = done(page, 2)
    assert "not an image" in fits["problem"]
    assert large["problem"] == "This file is too large: at most 786 kB can be sent. Send a smaller photo."
    assert page.run("return performance.getEntries().filter(({ name }) => name.endsWith('/invocations')).length") == 1


def test_a_wrong_token_is_told_and_the_right_one_answers_the_photo_that_waited(browser: Browser, ready: Server, car: Path) -> None:
    browser.open(f"{ready.url}/#token=guess")
    browser.choose("#photos", car)
    (card,) = done(browser, 1)
    assert "not the server's token" in card["problem"]
    assert "not the server's token" in browser.run("return document.getElementById('key-why').textContent")
    browser.type("#token", f" {token(ready.settings.home)} \n")
    until(lambda: cards(browser)[0]["state"] == "answered", "an answer with the right token")
    assert browser.run("return document.getElementById('key').hidden")


def test_without_a_token_the_page_asks_for_it_and_says_where_it_lies(browser: Browser, ready: Server) -> None:
    browser.open(ready.url)
    until(lambda: state(browser) == "Waiting for the token.", "a look at the endpoint")
    assert browser.run("return document.activeElement.id") == "token"
    assert "endpoint/token" in browser.run("return document.getElementById('key').innerText")
    assert browser.console() == [], "it asked nothing that it cannot be told"


def test_a_busy_server_is_asked_again_and_the_page_says_so(page: Browser, ready: Server, car: Path) -> None:
    with ready.full_queue():
        page.choose("#photos", car)
        until(
            lambda: "busy with other requests. Trying again in 1 s (1 of 19)" in cards(page)[0]["facts"],
            "the first answer: too many requests",
        )
    until(lambda: cards(page)[0]["state"] == "answered", "an answer once the places are free")


def test_a_server_where_nothing_is_live_and_one_that_is_gone_are_told(browser: Browser, ready: Server, tmp_path: Path, car: Path) -> None:
    empty = Server(tmp_path / "home", ready.settings.tracking_uri).start()
    try:
        browser.open(f"{empty.url}/#token={token(empty.settings.home)}")
        browser.choose("#photos", car)
        assert "Nothing is live yet" in done(browser, 1)[0]["problem"]
        assert "Nothing is live yet" in state(browser)
    finally:
        empty.end()
    browser.click(".again")
    until(lambda: "The server does not answer" in (cards(browser)[0]["problem"] or ""), "the end of the second try")
    assert "The server does not answer" in state(browser)


def test_one_of_several_endpoints_is_chosen(page: Browser, ready: Server) -> None:
    entity = {"entity_name": ready.settings.tracking.model, "entity_version": "2", "workload_size": "Small", "scale_to_zero_enabled": True}
    ready.call("POST", "/api/2.0/serving-endpoints", json={"name": "other", "config": {"served_entities": [entity]}})
    try:
        page.call("refresh")
        until(lambda: page.run("return document.getElementById('choice').checkVisibility()"), "a choice of endpoints")
        page.type("#endpoints", "other")
        until(lambda: state(page).startswith("other: "), "a look at the other endpoint")
        assert "version 2" in state(page)
    finally:
        ready.call("DELETE", "/api/2.0/serving-endpoints/other")


def entity(version: str, message: str = "") -> dict[str, Any]:
    return {"served_entities": [{"entity_version": version, "state": {"deployment_state_message": message}}]}


@pytest.mark.parametrize(
    ("ready_state", "update", "configs", "says"),
    [
        ("READY", "IN_PROGRESS", {"config": entity("1"), "pending_config": entity("2")}, "ep: ready, version 1; updating to version 2"),
        (
            "READY",
            "UPDATE_FAILED",
            {"config": entity("1"), "pending_config": entity("2", "see its build log")},
            "ep: ready, version 1; version 2 could not be started (see its build log)",
        ),
        ("NOT_READY", "NOT_UPDATING", {"config": entity("1", "its process ended")}, "ep: not ready, version 1 (its process ended)"),
        ("READY", "NOT_UPDATING", {"config": entity("1", "Scaled to zero")}, "ep: ready, version 1 (Scaled to zero)"),
        ("NOT_READY", "IN_PROGRESS", {"pending_config": entity("1")}, "ep: version 1 is starting"),
    ],
)
def test_an_endpoints_state_is_told_in_a_sentence(page: Browser, ready_state: str, update: str, configs: Any, says: str) -> None:
    described = {"name": "ep", "state": {"ready": ready_state, "config_update": update}, **configs}
    assert page.run("return import('/endpoint.js').then(({ describe }) => describe(arguments[0]))", described) == says


def test_a_phone_scrolls_in_one_direction_and_its_targets_are_large(page: Browser, tmp_path: Path, letter: Path, car: Path) -> None:
    page.cdp("Emulation.setDeviceMetricsOverride", **PHONE)
    try:
        long = tmp_path / f"{'IMG_' * 40}.jpg"
        long.write_bytes(car.read_bytes())
        page.choose("#photos", car, letter, long)
        done(page, 3)
        assert page.run(SHOW + "return [innerWidth, document.documentElement.scrollWidth]") == [PHONE["width"]] * 2
        heights = page.run(
            SHOW
            + "return [...document.querySelectorAll('button, select, #drop label, #token')].filter((element) => element.checkVisibility())"
            ".map((element) => [element.textContent.trim(), element.getBoundingClientRect().height])"
        )
        assert len(heights) == 9
        assert [target for target in heights if target[1] < SMALLEST_TARGET] == []
    finally:
        page.cdp("Emulation.clearDeviceMetricsOverride")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_its_ground(page: Browser, letter: Path, car: Path, scheme: str) -> None:
    page.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    page.choose("#photos", car, letter)
    done(page, 2)
    contrasts = page.run(CONTRASTS)
    assert len(contrasts) > 15
    assert [found for found in contrasts if found[1] < LEAST_CONTRAST] == []


def test_the_page_is_worked_by_keyboard_and_its_controls_have_names(browser: Browser, ready: Server) -> None:
    browser.open(ready.url)
    until(lambda: browser.run("return document.activeElement.id") == "token", "the question for the token")
    browser.type("#token", TAB)
    browser.type("#key button", TAB)
    assert browser.run("return document.activeElement.id") == "photos"
    assert browser.run("return getComputedStyle(document.activeElement.nextElementSibling).outlineStyle") == "solid"
    assert browser.label("#photos").startswith("Choose photos of a damaged car")
    assert browser.label("#token") == "Token"
    browser.run(SHOW)
    assert browser.label("#endpoints") == "Endpoint"


@pytest.fixture
def desk(ready: Server) -> Iterator[Desk]:
    """The desk of the server, with nothing on it and nothing said: answers to photos of other tests have asked for a person, too."""
    with emptied(ready) as found:
        yield found


def sign(page: Browser) -> None:
    page.run("localStorage.setItem('reviewer', 'Ann Lee')")


def text(page: Browser, part: str) -> str:
    return str(page.run("return document.getElementById(arguments[0]).textContent", part))


def labels(desk: Desk, data: bytes) -> list[tuple[str, str]]:
    return [(word.label, word.by) for word in desk.said(sha256(data)).history]


def test_a_person_reviews_what_waits_by_keys_largest_doubt_first_and_takes_a_word_back(page: Browser, ready: Server, desk: Desk) -> None:
    """One story, from the name that is asked once to the files that the next run reads."""
    page.run("localStorage.clear()")
    waiting = {sure: drawn("major", number) for number, sure in enumerate((0.9, 0.5, 0.7))}
    for sure, data in waiting.items():
        chances = {"minor": sure, "moderate": 1 - sure, "major": 0.0}
        assert desk.keep(data, Answer("minor", chances, ("minor", "moderate"), "car_damage_classifier-3", "2026-06-01T12:00:00+00:00"))
    page.click("#to-reviewing")
    until(lambda: text(page, "count").startswith("3 answers ask for a person"), "the desk")
    (card,) = done(page, 1)
    assert (card["h3"], [said for _, said, _ in card["bars"]]) == ("minor", ["50.0 %", "50.0 %", "0.0 %"])
    assert card["review"] == "A person must look: it may be minor or moderate."
    until(lambda: page.run("return document.querySelector('#current img')?.naturalWidth > 0"), "the photo")

    page.type("body", "3")
    until(lambda: page.run("return document.activeElement.id") == "name", "the question for the name")
    page.type("#name", "Ann Lee\ue007")
    until(lambda: text(page, "count").startswith("2 answers ask"), "the next photo")
    assert labels(desk, waiting[0.5]) == [("major", "Ann Lee")]
    assert [path.name for path in Path(ready.settings.answers.corrections, "photos").iterdir()] == [f"{sha256(waiting[0.5])}.jpg"]
    assert [done(page, 1)[0]["bars"][0][1], text(page, "lately")] == ["70.0 %", "major is noted."]

    page.run("for (let held = 0; held < 5; held += 1) dispatch('1', true); dispatch('n', false);".replace("dispatch", HELD))
    until(lambda: text(page, "count").startswith("1 answer asks"), "the last photo")
    page.type("body", "u")
    until(lambda: text(page, "count").startswith("2 answers ask"), "the photo that came back")
    assert labels(desk, waiting[0.7]) == [("not_a_car", "Ann Lee"), ("undone", "Ann Lee")]
    for count in ("1 answer asks", "No photo waits"):
        until(lambda: page.run("return document.querySelector('#current button[data-word=cannot_tell]') !== null"), "the buttons")
        page.click("#current button[data-word=cannot_tell]")
        until(lambda count=count: text(page, "count").startswith(count), count)
    assert labels(desk, waiting[0.9]) == [("cannot_tell", "Ann Lee")]
    assert page.console() == []


HELD = "((key, repeat) => document.body.dispatchEvent(new KeyboardEvent('keydown', { key, repeat, bubbles: true })))"
"""Sends a key to the page; with `repeat` as a browser does while it is held."""
HOLD = """
    window.asked = []; window.real = window.fetch;
    window.fetch = (...given) => new Promise((go) => { window.asked.push([String(given[0]), () => go(window.real(...given))]); });
"""
"""Holds each request of the page until `LET_GO`."""
LET_GO = "window.fetch = window.real; for (const [, go] of window.asked) go(); return window.asked.map(([path]) => path);"


def test_a_view_that_was_left_shows_nothing_any_more_and_a_word_is_taken_back_once(page: Browser, desk: Desk) -> None:
    sign(page)
    data = drawn("major", 1)
    chances = {"minor": 0.5, "moderate": 0.5, "major": 0.0}
    desk.keep(data, Answer("minor", chances, ("minor", "moderate"), "car_damage_classifier-3", "2026-06-01T12:00:00+00:00"))
    page.run(HOLD)
    page.click("#to-reviewing")
    page.click("#to-asking")
    assert page.run(LET_GO) == ["/reviews"]
    page.click("#to-reviewing")
    until(lambda: text(page, "count").startswith("1 answer asks"), "the desk")
    done(page, 1)
    page.type("body", "3")
    until(lambda: text(page, "count").startswith("No photo waits"), "the word")
    page.run(HOLD)
    page.type("body", "uu")
    until(lambda: page.run("return window.asked.length") > 0, "the word that takes it back")
    assert page.run(LET_GO) == ["/reviews"]
    until(lambda: text(page, "count").startswith("1 answer asks"), "the photo that came back")
    assert labels(desk, data) == [("major", "Ann Lee"), ("undone", "Ann Lee")]
    page.run(HOLD)
    page.click("#to-asking")
    page.click("#to-reviewing")
    page.click("#to-asking")
    assert page.run(LET_GO) == ["/reviews"]
    page.run(HOLD + "setTimeout(() => (window.later = true), 500)")
    until(lambda: page.run("return window.later === true"), "time for an answer")
    assert page.run(LET_GO) == [], "the photo of the desk that was left is not asked for"
    assert page.console() == []


def test_an_answer_on_the_first_view_is_corrected_with_its_photo(page: Browser, ready: Server, desk: Desk, car: Path) -> None:
    sign(page)
    page.choose("#photos", car)
    (card,) = done(page, 1)
    page.click("#answers summary")
    page.click("#answers button[data-word=moderate]")
    until(lambda: "moderate, Ann Lee" in page.run("return document.querySelector('.said').textContent"), "the word")
    [word] = desk.said(sha256(car.read_bytes())).history
    assert (word.label, word.by, word.version, word.answered) == ("moderate", "Ann Lee", 1, card["h3"])
    assert Path(ready.settings.answers.corrections, "photos", f"{word.sha256}.jpg").read_bytes() == car.read_bytes()
    assert page.console() == []


def test_labels_that_look_wrong_come_last_a_person_confirms_them_and_the_map_is_shown_by_a_key(
    page: Browser, ready: Server, desk: Desk, tmp_path: Path
) -> None:
    sign(page)
    landed, gone = tmp_path / "landed.jpg", tmp_path / "gone.jpg"
    landed.write_bytes(drawn("major", 1))
    chances = {"minor": 0.05, "moderate": 0.15, "major": 0.8}
    photos = [Doubt(sha256(data), str(path), "minor", chances) for path, data in ((gone, b"gone"), (landed, landed.read_bytes()))]
    desk.doubt(Doubts("2026-06-01T12:00:00+00:00", tuple(photos), 50))
    asking = Answer("minor", {"minor": 0.5, "major": 0.5}, ("minor", "major"), "car_damage_classifier-3", "2026-06-01T12:00:00+00:00")
    assert desk.keep(heic(picture()), asking)
    page.click("#to-reviewing")
    until(lambda: text(page, "count") == "1 answer asks for a person, 2 labels look wrong. Largest doubt first.", "the desk")
    assert done(page, 1)[0]["h3"] == "minor"
    until(lambda: page.run("return document.querySelector('#current img')?.naturalWidth") == 320, "a photo that the browser cannot show")
    page.type("body", "3")
    until(lambda: text(page, "count").startswith("1 label looks wrong"), "the label whose photo is there")
    [card] = done(page, 1)
    assert (card["h3"], card["review"]) == ("Is this label right?", None)
    assert card["facts"].startswith("Its label is minor. A model that has not learned from it said major on ")
    page.type("body", "m")
    until(lambda: page.run("return document.querySelector('#current .map').checkVisibility()"), "the map")
    assert "damage or worse, says car_damage_classifier-1." in page.run("return document.querySelector('#current figcaption').textContent")
    assert done(page, 1)[0]["h3"] == "Is this label right?", "the map is no answer"
    page.type("body", "1")
    until(lambda: text(page, "count").startswith("No photo waits"), "the end")
    assert labels(desk, landed.read_bytes()) == [("minor", "Ann Lee")]
    assert not list(Path(ready.settings.answers.corrections, "photos").glob(f"{sha256(landed.read_bytes())}*")), "it has landed already"
    page.console()  # has the status 404 of the photo that is gone


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_second_view_is_readable_and_large_enough_to_touch(page: Browser, desk: Desk, scheme: str) -> None:
    desk.keep(drawn("major", 1), Answer("minor", {"minor": 0.5, "major": 0.5}, (), "car_damage_classifier-3", "2026-06-01T12:00:00+00:00"))
    page.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    page.cdp("Emulation.setDeviceMetricsOverride", **PHONE)
    try:
        page.click("#to-reviewing")
        until(lambda: text(page, "count").startswith("1 answer asks"), "the desk")
        page.run("for (const id of ['who', 'undo', 'rename']) document.getElementById(id).hidden = false;")
        low = [(words, contrast) for words, contrast in page.run(CONTRASTS) if contrast < LEAST_CONTRAST]
        assert low == []
        assert page.run("return document.documentElement.scrollWidth <= innerWidth"), "nothing is cut off"
        sizes = page.run(
            "return [...document.querySelectorAll('button, input')].filter((one) => one.checkVisibility() && one.id !== 'photos')"
            ".map((one) => [one.id || one.textContent, Math.min(one.offsetWidth, one.offsetHeight)])"
        )
        assert [one for one in sizes if one[1] < SMALLEST_TARGET] == []
    finally:
        page.cdp("Emulation.clearDeviceMetricsOverride")
        page.cdp("Emulation.setEmulatedMedia", features=[])
