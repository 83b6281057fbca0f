"""The rating page: what the server tells, what it never tells, the store behind it, and a real browser driven by the keyboard."""

import http.client
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request

import pytest
from duel_fakes import small_duel

from scionwood.errors import UserError
from scionwood.files import read_json
from scionwood.tasks.lantern.duel import results
from scionwood.tasks.lantern.duel.pairs import FIRST, SECOND, SKIP, TIE, pairs
from scionwood.tasks.lantern.duel.rate_page import serve
from scionwood.tasks.lantern.duel.reading import RATINGS, read_duel
from scionwood.tasks.lantern.duel.store import Rating, Store, read_ratings

NAMES = ("poor-llama-model", "rich-qwen-model", "llama", "qwen", "poor", "rich", "temperature")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return small_duel(tmp_path_factory.mktemp("made"))[0]


@pytest.fixture
def page(made, tmp_path):
    shutil.copytree(made, tmp_path / "duel")
    page = serve(read_duel(tmp_path / "duel"), 0)
    yield page
    page.close()


def ask(page, path, body=None, **headers):
    """(status, value or text) of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", page.server_address[1], timeout=10)
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(
        "GET" if body is None else "POST", path, data, {"Content-Type": "application/json"} | headers if body is not None else headers
    )
    response = connection.getresponse()
    text = response.read().decode()
    return response.status, json.loads(text) if response.headers["Content-Type"] == "application/json" else text


def rate(page, rater, choice):
    """Rate what is shown to a rater; returns (the pair, the next state)."""
    shown = ask(page, f"/state?rater={rater}")[1]["pair"]
    return shown, ask(page, "/rate", {"rater": rater, "pair": shown["id"], "choice": choice})[1]


# -- the store ---------------------------------------------------------------------------------------------------------


def test_a_rating_counts_once_and_an_undone_one_can_be_given_again(tmp_path):
    store = Store(tmp_path / "r.db")
    assert store.add(Rating("ann", "p1", FIRST, True), 1.5) and not store.add(Rating("ann", "p1", TIE, True), 1.0)
    assert store.add(Rating("bo", "p1", SECOND, False), None) and store.add(Rating("ann", "p2", SKIP, True), None)
    assert store.undo("ann") == "p2" and store.undo("ann") == "p1" and store.undo("ann") is None
    assert store.add(Rating("ann", "p1", TIE, True), None)
    assert store.all() == [Rating("bo", "p1", SECOND, False), Rating("ann", "p1", TIE, True)] and store.of("ann") == {"p1": TIE}
    store.close()
    assert read_ratings(tmp_path / "r.db")[1].choice == TIE and read_ratings(tmp_path / "none.db") == []
    with sqlite3.connect(tmp_path / "r.db") as db:
        assert db.execute("SELECT count(*) FROM ratings").fetchone()[0] == 4  # what was undone is kept
        assert db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_what_is_no_store_is_told(tmp_path):
    (tmp_path / "r.db").write_text("not a database, whatever it is called" * 20)
    with pytest.raises(UserError, match="cannot be opened as ratings"):
        Store(tmp_path / "r.db")
    with sqlite3.connect(tmp_path / "new.db") as db:
        db.execute("PRAGMA user_version = 9")
    with pytest.raises(UserError, match="of a newer version"):
        Store(tmp_path / "new.db")


def test_many_threads_may_rate_at_once(tmp_path):
    store = Store(tmp_path / "r.db")
    threads = [
        threading.Thread(target=lambda k=k: [store.add(Rating(f"r{k}", f"p{i}", TIE, True), None) for i in range(20)]) for k in range(6)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(store.all()) == 120
    store.close()


# -- the server --------------------------------------------------------------------------------------------------------


def test_all_that_a_browser_gets_is_ours_and_names_no_model(page):
    texts = [ask(page, path)[1] for path in ("/", "/page.css", "/page.js")]
    assert all("http://" not in re.sub("http://www.w3.org/", "", t) and "https://" not in t for t in texts)
    while (state := ask(page, "/state?rater=ann")[1])["pair"]:
        texts.append(json.dumps(state))
        texts.append(json.dumps(ask(page, "/rate", {"rater": "ann", "pair": state["pair"]["id"], "choice": "left"})[1]))
    told = "".join(texts).lower()
    assert not [n for n in NAMES if re.search(rf"\b{n}\b", told)] and len(texts) == 35
    assert set(state) == {"rater", "done", "total", "skipped", "rounds", "pair"} and state["done"] == state["total"] == 16


def test_sides_are_shuffled_and_choices_mean_the_answer_that_was_seen(page):
    plan = {p.id: p for p in page.desk.plan}
    lefts = set()
    for choice in ("left", "right", "tie", "skip", "left"):
        shown, state = rate(page, "ann", choice)
        p = plan[shown["id"]]
        first_left = shown["left"] == p.texts[0]
        assert {shown["left"], shown["right"]} == set(p.texts) and shown["prompt"] == p.prompt
        wanted = {"left": FIRST if first_left else SECOND, "right": SECOND if first_left else FIRST, "tie": TIE, "skip": SKIP}[choice]
        assert page.store.of("ann")[p.id] == wanted
        lefts.add(first_left)
    assert state["done"] == 5 and state["skipped"] == 1
    for _ in range(8):
        shown, _ = rate(page, "bo", "tie")
        lefts.add(shown["left"] == plan[shown["id"]].texts[0])
    assert lefts == {True, False}


def test_undo_shows_the_pair_again_and_a_rater_goes_on_where_it_was(page):
    first, _ = rate(page, "ann", "left")
    second, state = rate(page, "ann", "right")
    assert ask(page, "/undo", {"rater": "ann"})[1]["pair"] == second and page.store.of("ann").keys() == {first["id"]}
    assert ask(page, "/state?rater=ann")[1]["done"] == 1 and ask(page, "/state?rater=bo")[1]["done"] == 0
    assert ask(page, "/undo", {"rater": "bo"})[0] == 200
    assert (
        ask(page, "/rate", {"rater": "ann", "pair": first["id"], "choice": "tie"})[1]["done"] == 1
    )  # a second window: the first choice stands
    assert page.store.of("ann")[first["id"]] in (FIRST, SECOND)


@pytest.mark.parametrize(
    "path, body, headers, status",
    [
        ("/rate", {"rater": "ann", "pair": "no", "choice": "left"}, {}, 422),
        ("/rate", {"rater": "", "pair": "x", "choice": "left"}, {}, 422),
        ("/rate", {"rater": "x" * 41, "pair": "x", "choice": "left"}, {}, 422),
        ("/rate", {"rater": 7}, {}, 422),
        ("/rate", b"[1]", {}, 400),
        ("/rate", b"{", {}, 400),
        ("/rate", b"x" * 20_000, {}, 413),
        ("/undo", {"rater": "a\nb\u0007"}, {}, 422),
        ("/no", {}, {}, 404),
        ("/ratings.db", None, {}, 404),
        ("/../store.py", None, {}, 404),
        ("/state", None, {}, 422),
        ("/undo", {"rater": "ann"}, {"Content-Type": "text/plain"}, 415),
        ("/undo", {"rater": "ann"}, {"Origin": "http://evil.example"}, 403),
        ("/undo", {"rater": "ann"}, {"Host": "evil.example"}, 403),
        ("/", None, {"Host": "evil.example"}, 403),
    ],
)
def test_what_is_not_understood_is_refused(page, path, body, headers, status):
    assert ask(page, path, body, **headers)[0] == status


def test_a_choice_that_is_none_is_refused(page):
    shown = ask(page, "/state?rater=ann")[1]["pair"]
    assert ask(page, "/rate", {"rater": "ann", "pair": shown["id"], "choice": "both"})[0] == 422 and page.store.all() == []


def test_a_port_that_is_taken_and_a_duel_without_pairs_are_told(page, made, tmp_path):
    with pytest.raises(UserError, match="cannot be used"):
        serve(read_duel(made), page.server_address[1])
    empty = tmp_path / "empty"
    shutil.copytree(made, empty)
    for file in (empty / "answers").iterdir():
        file.unlink()
    with pytest.raises(UserError, match="no pair of answers to rate"):
        serve(read_duel(empty), 0)


def test_ratings_come_into_the_report_and_stale_ones_do_not(made, tmp_path):
    folder = tmp_path / "duel"
    shutil.copytree(made, folder)
    plan = pairs(read_duel(folder))
    store = Store(folder / RATINGS)
    for rater in ("ann", "bo"):
        for p in plan:
            store.add(Rating(rater, p.id, SECOND if p.sample == 0 or rater == "ann" else FIRST if p.task == "o-0" else TIE, True), 4.0)
    store.add(Rating("cy", "0" * 16, FIRST, True), 4.0)
    store.close()
    value = results.write(folder)
    r = value["ratings"]
    assert r["raters"] == {"ann": 16, "bo": 16} and r["stale"] == 1 and r["comparisons"][0]["verdict"] == "better"
    assert r["agreement"]["pairs"] == 16 and r["agreement"]["alpha"] < 0.5 and r["strengths"]["of"]["rich-qwen-model"]["low"] > 0
    card = (folder / "README.md").read_text()
    assert (
        "Rated by ann (16) and bo (16)" in card
        and "Raters prefer `rich-qwen-model` to `poor-llama-model`." in card
        and "Krippendorff" in card
    )
    assert results.verify(folder) == []
    with sqlite3.connect(folder / RATINGS) as db:
        db.execute("UPDATE ratings SET choice = 'first' WHERE rater = 'bo'")
    assert any("ratings" in line for line in results.verify(folder))


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_serves_until_it_is_stopped_and_survives_a_kill(made, tmp_path):
    folder = tmp_path / "duel"
    shutil.copytree(made, folder)
    (folder / "report.html").unlink()

    def start():
        process = subprocess.Popen(
            [sys.executable, "-m", "scionwood", "lantern", "rate", str(folder), "--port", "0"],
            stdout=subprocess.PIPE,
            text=True,
            stderr=subprocess.PIPE,
        )
        return process, re.search(r"http://\S+/", process.stdout.readline()).group()

    def post(url, body):
        request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
        return json.load(urllib.request.urlopen(request, timeout=10))

    process, url = start()
    shown = json.load(urllib.request.urlopen(url + "state?rater=ann", timeout=10))["pair"]
    assert post(url + "rate", {"rater": "ann", "pair": shown["id"], "choice": "tie"})["done"] == 1
    process.kill()
    process.communicate()
    process, url = start()
    assert json.load(urllib.request.urlopen(url + "state?rater=ann", timeout=10))["done"] == 1
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 0 and "report.html: written" in told, told
    assert read_json(folder / "duel.json")["ratings"]["raters"] == {"ann": 1}


# -- a browser ---------------------------------------------------------------------------------------------------------


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
def test_a_rater_rates_by_keyboard_alone(page, chromium, scheme):
    context = chromium.new_context(color_scheme=scheme, viewport={"width": 1280, "height": 900})
    tab, trouble, asked = context.new_page(), [], []
    tab.on("console", lambda m: trouble.append(m.text) if m.type in ("error", "warning") else None)
    tab.on("pageerror", lambda e: trouble.append(str(e)))
    tab.on("request", lambda r: asked.append(r.url))
    tab.goto(page.address)
    tab.keyboard.type("Ann 1u0")  # in the name, the keys are letters
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#duel:not([hidden])")
    assert page.store.all() == [] and tab.locator("#rater").inner_text() == "Ann 1u0"
    plan, seen = {p.id: p for p in page.desk.plan}, []
    for n, (key, choice) in enumerate([("1", "left"), ("2", "right"), ("0", TIE), ("s", SKIP)]):
        left, prompt = tab.locator("#left-text").inner_text(), tab.locator("#prompt").inner_text()
        tab.keyboard.press(key)
        until(tab, f"document.getElementById('count').textContent.startsWith('{n + 1} of 16')")
        rating = page.store.all()[-1]
        p = plan[rating.pair]
        first_left = p.texts[0].strip() == left.strip()
        assert p.prompt == prompt and rating.choice == {
            "left": FIRST if first_left else SECOND,
            "right": SECOND if first_left else FIRST,
        }.get(choice, choice)
        seen.append(prompt)
    tab.keyboard.press("u")
    until(tab, "document.getElementById('count').textContent.startsWith('3 of 16')")
    assert tab.locator("#prompt").inner_text() == seen[-1] and len(page.store.all()) == 3
    tab.reload()
    tab.wait_for_selector("#duel:not([hidden])")  # the name is remembered, and the rater goes on
    assert tab.locator("#count").inner_text().startswith("3 of 16 rated, round 1 of 2")
    html = tab.content().lower()
    assert not [n for n in NAMES if re.search(rf"\b{n}\b", html)]
    colour = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, colour[4:-1].split(","))) < 60) == (scheme == "dark")
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if os.environ.get("SCION_SCREENSHOTS"):
        tab.screenshot(path=f"{os.environ['SCION_SCREENSHOTS']}/rate-{scheme}.png")
    assert trouble == [] and all(u.startswith((page.address, "data:")) for u in asked)
    context.close()


def test_it_fits_a_phone_ends_and_says_when_the_server_is_gone(page, chromium):
    context = chromium.new_context(viewport={"width": 390, "height": 800})
    tab = context.new_page()
    tab.goto(page.address)
    tab.locator("#name").fill("Bo")
    tab.locator("#welcome button").click()
    tab.wait_for_selector("#duel:not([hidden])")
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if os.environ.get("SCION_SCREENSHOTS"):
        tab.screenshot(path=f"{os.environ['SCION_SCREENSHOTS']}/rate-phone.png", full_page=True)
    tab.locator("#left .choose").click()
    until(tab, "document.getElementById('count').textContent.startsWith('1 of 16')")
    while (state := ask(page, "/state?rater=Bo")[1])["pair"]:
        ask(page, "/rate", {"rater": "Bo", "pair": state["pair"]["id"], "choice": "tie"})
    tab.reload()
    tab.wait_for_selector("#end:not([hidden])")
    assert "16 pairs under the name Bo" in tab.locator("#end-text").inner_text()
    tab.keyboard.press("u")
    tab.wait_for_selector("#duel:not([hidden])")
    context.set_offline(True)
    tab.keyboard.press("1")
    tab.wait_for_selector("#trouble:not([hidden])")
    assert "does not answer" in tab.locator("#trouble").inner_text()
    context.set_offline(False)
    tab.keyboard.press("1")
    until(tab, "document.getElementById('trouble').hidden")
    context.close()
