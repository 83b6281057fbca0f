"""The page: its server on loopback, what it is told, and what a real browser makes of it, in light and in dark."""

import http.client
import io
import json
import shutil
import threading
import time

import pytest
from PIL import Image
from test_tasks_lumen_live import STUDENT, day

from scionwood.errors import UserError
from scionwood.tasks.lumen.live import page as pages
from scionwood.tasks.lumen.live.feed import SAID, TICKS, Feed
from scionwood.tasks.lumen.live.page import serve
from scionwood.tasks.lumen.live.session import Session


@pytest.fixture
def body():
    """A session of some minutes with its page."""
    session = Session(STUDENT)
    feed = Feed(session, "a <b>recording</b>")
    page = serve(feed, 0)
    readings = day(2000)

    def live(n=1):
        for _ in range(n):
            feed.add(session.tick(next(readings)))

    live(150)
    yield feed, page, live
    page.close()


def get(page, path, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", page.server_address[1], timeout=10)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    return response, response.read()


def test_everything_that_the_page_needs_comes_from_it(body):
    _, page, _ = body
    for path, kind in (("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")):
        response, text = get(page, path)
        assert response.status == 200 and response.headers["Content-Type"].startswith(kind)
        assert "default-src 'self'" in response.headers["Content-Security-Policy"]
        assert b"http://" not in text.replace(b"http://www.w3.org/", b"") and b"https://" not in text
    assert get(page, "/no/such")[0].status == 404 and get(page, "/../feed.py")[0].status == 404


def test_the_state_is_whole(body):
    feed, page, _ = body
    state = json.loads(get(page, "/state.json")[1])
    assert len(state["ticks"]) == 150 and state["said"] and state["source"] == "a <b>recording</b>"
    last = state["ticks"][-1]
    assert last["n"] == 150 and len(last["state"]) == 4 and len(last["lights"]) == 8 and len(last["lights"][0]) == 3
    with Image.open(io.BytesIO(get(page, "/drawing.png")[1])) as image:
        assert image.size == (240, 240) and image.convert("RGB").tobytes() == feed.session.drawing.image().tobytes()


def test_lights_that_are_sent_ahead_are_those_that_come(body):
    feed, _, _ = body
    tick = feed.ticks[-1]
    breath = feed.session.breath
    for k, lamps in enumerate(tick["lights"]):
        assert [round(lamp.brightness, 4) for lamp in breath.at(tick["t"] + 0.25 * k)] == [lamp[1] for lamp in lamps]


def test_memory_is_bounded(body):
    feed, _, live = body
    live(TICKS)
    assert len(feed.ticks) == TICKS and len(feed.said) <= SAID


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_another_name_for_this_machine_is_refused(body, host):
    _, page, _ = body
    assert get(page, "/state.json", Host=host)[0].status == 403
    assert get(page, "/state.json", Host="localhost:1")[0].status == 200


def events(page, after, count, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", page.server_address[1], timeout=10)
    connection.request("GET", f"/events?after={after}", headers=headers)
    response, found = connection.getresponse(), []
    assert response.headers["Content-Type"] == "text/event-stream"
    while len(found) < count:
        line = response.readline().decode()
        if line.startswith("data: "):
            found.append(json.loads(line[6:]))
    connection.close()
    return [e["n"] for e in found]


def test_the_stream_tells_every_tick_once_and_goes_on_where_a_reader_was(body):
    _, page, live = body
    got = []
    reader = threading.Thread(target=lambda: got.extend(events(page, 148, 6)))
    reader.start()
    for _ in range(4):
        time.sleep(0.05)
        live()
    reader.join(10)
    assert got == [149, 150, 151, 152, 153, 154]
    assert events(page, 0, 2, **{"Last-Event-ID": "152"}) == [153, 154]


def test_too_many_readers_are_refused_and_closing_frees_all(body, monkeypatch):
    feed, page, live = body
    page.streams = threading.BoundedSemaphore(1)
    connection = http.client.HTTPConnection("127.0.0.1", page.server_address[1], timeout=10)
    connection.request("GET", "/events?after=149")
    response = connection.getresponse()
    assert response.status == 200 and get(page, "/events")[0].status == 503
    feed.close()
    assert response.read().endswith(b"\n\n")


def test_a_port_that_is_taken_is_told(body):
    _, page, _ = body
    with pytest.raises(UserError, match="cannot be used"):
        serve(Feed(Session(STUDENT), ""), page.server_address[1])
    assert page.server_address[0] == pages.HOST == "127.0.0.1"


# -- a browser -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'scionwood[test]'")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not found:
        pytest.skip("no chromium or chrome is installed here")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


def until(tab, expression):
    """Wait until an expression holds. (Playwright's own wait_for_function evaluates text in the page, which the page forbids.)"""
    end = time.monotonic() + 20
    while not tab.evaluate(expression):
        assert time.monotonic() < end, expression
        time.sleep(0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_shows_the_body(body, chromium, scheme):
    feed, page, live = body
    context = chromium.new_context(color_scheme=scheme, viewport={"width": 1280, "height": 900})
    tab, trouble, asked = context.new_page(), [], []
    tab.on("console", lambda m: trouble.append(m.text) if m.type in ("error", "warning") else None)
    tab.on("pageerror", lambda e: trouble.append(str(e)))
    tab.on("request", lambda r: asked.append(r.url))
    tab.goto(page.address)
    tab.wait_for_selector("#curves path")
    assert tab.locator("#source").inner_text() == "a <b>recording</b>"
    assert tab.locator("#curves path").count() == 4 and tab.locator("#curves .strip").count() >= 2
    assert tab.locator("#voice").inner_text() == feed.said[-1]["said"]
    assert tab.locator("#tokens .token").all_inner_texts() == [t.replace("_", " ") for t in feed.said[-1]["tokens"]]
    assert tab.locator("#pattern").inner_text() == feed.said[-1]["pattern"]
    assert tab.locator("#why .bar.chosen").count() >= 2 and feed.said[-1]["why"]["verdict"] in tab.locator("#why").inner_text()
    until(tab, "document.getElementById('drawing').naturalWidth === 240")
    until(tab, "[...document.querySelectorAll('#leds i')].every((i) => i.style.boxShadow)")
    before = len(feed.said)
    while len(feed.said) == before and feed.said[-1]["t"] < 1.9e9:
        live(5)
    until(tab, f"document.getElementById('voice').textContent === {json.dumps(feed.said[-1]['said'])}")
    dark = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, dark[4:-1].split(","))) < 60) == (scheme == "dark")
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert trouble == [] and all(u.startswith((page.address, "data:")) for u in asked)
    context.close()


def test_a_body_that_was_started_anew_is_shown_again(body, chromium):
    """Its ticks are counted from one again: an open page must not wait for the number that it had come to."""
    feed, page, _ = body
    context = chromium.new_context()
    tab = context.new_page()
    tab.goto(page.address)
    tab.wait_for_selector("#curves path")
    page.close()
    until(tab, "document.getElementById('status').textContent.includes('not connected')")
    session = Session(STUDENT)
    anew = Feed(session, "the second life")
    again = serve(anew, page.server_address[1])
    try:
        readings = day(30)
        for _ in range(3):
            anew.add(session.tick(next(readings)))
        until(tab, "document.getElementById('source').textContent === 'the second life'")
        anew.add(session.tick(next(readings)))
        until(tab, "document.getElementById('drawing').src.endsWith('n=4')")
        assert tab.locator("#status").inner_text().startswith("live") and tab.locator("#dot.on").count() == 1
    finally:
        again.close()
        page.close = lambda: None
        context.close()


def test_it_fits_a_phone_and_says_when_the_body_is_gone(body, chromium):
    feed, page, _ = body
    context = chromium.new_context(viewport={"width": 390, "height": 800})
    tab = context.new_page()
    tab.goto(page.address)
    tab.wait_for_selector("#curves path")
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.close()
    until(tab, "document.getElementById('status').textContent.includes('not connected')")
    context.close()
    page.close = lambda: None
