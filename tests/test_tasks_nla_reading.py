"""Reading token by token: what is read, what is marked, and the page in a real browser, in light and in dark."""

import json
import shutil
import time

import numpy as np
import pytest
import torch
from nla_tools_fakes import FAMILIES, LAYER, tiny, write_base, write_run

from scionwood.errors import UserError
from scionwood.tasks.nla import fve, reading
from scionwood.tasks.nla.checkpoints import open_pair
from scionwood.tasks.nla.generating import generate
from scionwood.tasks.nla.reading_page import page
from scionwood.tasks.nla.states import block_states, changed

TEXT = "The cat </script><b>sat</b> & slept.\nThen 猫咪 woke, hungry as ever, and asked for 🐟."


@pytest.fixture(scope="module")
def run(tmp_path_factory, renderer):
    folder = tmp_path_factory.mktemp("nla")
    return write_run(folder / "run", write_base(folder / "base"), renderer, seeds=(3,))


@pytest.fixture(scope="module")
def pair(run):
    return open_pair(run)


@pytest.fixture(scope="module")
def read(pair):
    return reading.read(pair, TEXT, tokens=12)


# -- states ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_layer_k_is_the_output_of_block_k_whatever_stands_beside_it_in_the_batch(family):
    model = tiny(family)
    ids = [[5, 9, 200, 31], [7, 8], list(range(40, 63)), [11]]
    found = block_states(model, ids, [0, 2, 1], every=True)
    for row, states in zip(ids, found):
        with torch.no_grad():
            hidden = model(torch.tensor([row]), output_hidden_states=True).hidden_states
        for at, k in enumerate((0, 2, 1)):
            np.testing.assert_allclose(states[at], hidden[k + 1][0].numpy(), atol=2e-5)
    last = block_states(model, ids, [1])
    np.testing.assert_allclose(np.stack(last)[:, 0], np.stack([f[2][-1] for f in found]), atol=2e-5)


def test_nothing_beyond_the_deepest_block_runs_and_no_hook_stays():
    model, ran = tiny(), []
    with changed(model.model.layers[3], lambda hidden: ran.append(1)):
        block_states(model, [[1, 2, 3]], [0, 2])
    assert ran == [] and all(not layer._forward_hooks for layer in model.model.layers)


# -- tokens ----------------------------------------------------------------------------------------------------------------


def test_every_token_has_its_vector_its_words_and_its_figures(pair, read):
    prompt, _ = pair.renderer.text([{"role": "user", "content": TEXT}])
    ids = pair.renderer.encode(prompt)
    assert [t.id for t in read.tokens] == ids and [t.index for t in read.tokens] == list(range(len(ids)))
    values = block_states(pair.model, [ids], [LAYER], every=True)[0][0]
    np.testing.assert_allclose([t.norm for t in read.tokens], np.linalg.norm(values, axis=1), atol=1e-3)
    said = [t for t in read.tokens if t.said]
    assert said
    back = pair.ar.reconstruct([t.said for t in said])
    true = values[[t.index for t in said]]
    np.testing.assert_allclose([t.fve for t in said], 1 - fve.errors(back, true) / pair.spread.strict, atol=1e-3)
    np.testing.assert_allclose([t.cos for t in said], fve.cosines(back, true), atol=1e-3)
    assert read.denominator == pytest.approx(pair.spread.strict, abs=1e-6) and read.against == "training vectors"


def test_the_pieces_give_the_text_back_and_the_text_is_told_from_the_template(pair, read):
    assert "".join(t.text for t in read.tokens) == pair.renderer.text([{"role": "user", "content": TEXT}])[0]
    own = "".join(t.text for t in read.tokens if t.role == "text")
    assert own.strip() == TEXT and all(t.role == "template" for t in read.tokens[:2] + read.tokens[-2:])
    assert any("part of a character" in t.marks for t in read.tokens)  # the fish has several tokens


def test_early_positions_and_long_vectors_are_marked():
    assert reading.marks_of(9, "a", 1.0, 1.0, False, True) == ("early",) and reading.marks_of(10, "a", 1.0, 1.0, False, True) == ()
    assert reading.marks_of(10, ".\n", 9.0, 1.0, False, True) == ("newline outlier",)
    assert reading.marks_of(30, "a", 9.0, 1.0, False, False) == ("outlier", "cut off")
    token = reading.Token(3, 1, "a", "text", 1.0, "", True, None, None, None, ("early",))
    assert not token.reliable


def test_a_long_vector_is_marked_in_a_real_reading(pair):
    """A block whose output is enlarged at one newline."""
    ids, _ = reading.roles_of(pair.renderer, TEXT)
    at = next(i for i, (piece, _) in enumerate(reading.pieces(pair.renderer.tokenizer, ids)) if "\n" in piece and i >= 10)

    def grow(hidden):
        big = hidden.clone()
        big[:, at] *= 40
        return big

    with changed(pair.model.model.layers[LAYER], grow):
        found = reading.read(pair, TEXT, tokens=2)
    assert [t.index for t in found.tokens if "newline outlier" in t.marks] == [at]
    assert not found.tokens[at].reliable and "newline outlier" in reading.table(found)


def test_a_bare_text_and_a_reply_can_be_read(pair):
    bare = reading.read(pair, "One two three", plain=True, tokens=2)
    assert {t.role for t in bare.tokens} == {"text"} and "".join(t.text for t in bare.tokens) == "One two three"
    more = reading.read(pair, "One two three", reply=5, tokens=2)
    ids, _ = reading.roles_of(pair.renderer, "One two three")
    assert [t.id for t in more.tokens if t.role == "reply"] == list(generate(pair.model, ids, pair.ends, 5)[0].ids)
    with pytest.raises(UserError, match="empty text"):
        reading.read(pair, " \n")


def test_the_table_says_what_the_reading_holds(read):
    lines = reading.table(read).splitlines()
    assert len(lines) == len(read.tokens) + 4 and "D = " in lines[-2] and "⏎" in "".join(lines)
    assert all(len(line) <= 90 for line in reading.table(read, 90).splitlines()[: len(read.tokens)])
    assert json.loads(json.dumps(read.row()))["tokens"][3]["index"] == 3


# -- the page --------------------------------------------------------------------------------------------------------------


def test_the_page_needs_nothing_from_elsewhere_and_no_text_breaks_it(read):
    text = page(read)
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "") and "https://" not in text
    assert "default-src 'none'" in text and text.count("</script>") == 2 and "<b>sat</b>" not in text
    assert "@TABLE@" not in text and text.count("<tr>") == len(read.tokens) + 1


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


def opened(chromium, file, **context):
    context = chromium.new_context(**context)
    tab, trouble, asked = context.new_page(), [], []
    tab.on("console", lambda m: trouble.append(m.text))
    tab.on("pageerror", lambda e: trouble.append(str(e)))
    tab.on("request", lambda r: asked.append(r.url))
    tab.goto(file.as_uri())
    return context, tab, trouble, asked


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_click_or_a_key_shows_a_token(read, chromium, tmp_path, scheme):
    file = tmp_path / "page.html"
    file.write_text(page(read))
    context, tab, trouble, asked = opened(chromium, file, color_scheme=scheme, viewport={"width": 1200, "height": 900})
    tokens = tab.locator(".token")
    assert tokens.count() == len(read.tokens)
    first = next(t for t in read.tokens if t.reliable and t.role == "text")
    assert tab.locator("#where").inner_text() == f"Token {first.index} of {len(read.tokens) - 1}"
    at = next(t for t in read.tokens if t.said and t.index > 3)
    tokens.nth(at.index).click()
    assert " ".join(tab.locator("#said").inner_text().split()) == " ".join(at.said.split())
    assert f"{at.cos:.3f}" in tab.locator("#facts").inner_text() and tab.evaluate("location.hash") == f"#t{at.index}"
    assert tokens.nth(at.index).get_attribute("aria-selected") == "true"
    last = len(read.tokens) - 1
    for key, wanted in (("ArrowRight", at.index + 1), ("ArrowLeft", at.index), ("Home", 0), ("ArrowLeft", 0), ("End", last)):
        tab.keyboard.press(key)
        assert tab.evaluate("[...document.querySelectorAll('.token')].indexOf(document.activeElement)") == wanted
    tab.keyboard.press("Home")
    assert "early" in tab.locator("#marks").inner_text()
    tab.keyboard.press("ArrowDown")
    top = [tab.evaluate("i => document.querySelectorAll('.token')[i].getBoundingClientRect().top", i) for i in (0, selected(tab))]
    assert top[1] > top[0]
    before = tab.evaluate("getComputedStyle(document.querySelectorAll('.token')[12]).backgroundColor")
    tab.locator("input[value=norm]").check(force=True)
    end = time.monotonic() + 5
    while tab.evaluate("getComputedStyle(document.querySelectorAll('.token')[12]).backgroundColor") == before:
        assert time.monotonic() < end
    dark = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, dark[4:-1].split(","))) < 60) == (scheme == "dark")
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert trouble == [] and asked == [file.as_uri()]
    context.close()


def selected(tab):
    return tab.evaluate("[...document.querySelectorAll('.token')].findIndex((t) => t.getAttribute('aria-selected') === 'true')")


def test_it_fits_a_phone_and_opens_at_a_token(read, chromium, tmp_path):
    file = tmp_path / "page.html"
    file.write_text(page(read))
    context, tab, trouble, _ = opened(chromium, file, viewport={"width": 360, "height": 740})
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tab.goto(file.as_uri() + "#t5")
    tab.reload()
    assert selected(tab) == 5 and tab.locator(".panel").is_visible() and trouble == []
    context.close()


def test_without_a_reconstructor_tokens_are_shaded_by_norm(run, chromium, tmp_path):
    alone = open_pair(av=run / "adapter/av-3/best")
    found = reading.read(alone, "One two three four five six seven eight", tokens=4)
    assert {t.fve for t in found.tokens} == {None} and found.mean_fve is None and len(found.tokens[0].said) >= 0
    file = tmp_path / "page.html"
    file.write_text(page(found))
    context, tab, trouble, _ = opened(chromium, file)
    assert tab.locator("input:checked").get_attribute("value") == "norm" and trouble == []
    context.close()

