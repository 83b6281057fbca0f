import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from evidence_page_fakes import CASES, make_context, make_figures

from scionwood.evidence import plots
from scionwood.evidence.format import prose
from scionwood.evidence.report import inline, plain, render_report

FIGURES, CONTEXT = make_figures(), make_context()
PAGE = render_report(FIGURES, CONTEXT)
EVIL = "<script>alert(`1`)</script> & $x$ **b** --> \"'"
VOID = {"meta", "br", "hr", "img", "link", "input"}


class Reader(HTMLParser):
    """Keeps tags and attributes, and checks that tags are closed in order."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags = [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag

    def all(self, tag):
        return [attrs for t, attrs in self.tags if t == tag]


def test_the_same_input_gives_the_same_bytes():
    assert render_report(make_figures(), make_context()) == PAGE


def test_the_page_is_well_formed_and_loads_nothing():
    reader = Reader(PAGE)
    assert reader.open == []
    targets = [v for _, attrs in reader.tags for k, v in attrs.items() if k in ("src", "href", "xlink:href", "srcset", "action")]
    assert targets and all(t.startswith("#") for t in targets)
    assert not reader.all("script") and not reader.all("link") and not reader.all("image")
    assert not re.search(r"url\((?!#)|@import", PAGE)


def test_it_can_be_read_aloud():
    reader = Reader(PAGE)
    assert reader.all("html")[0]["lang"] == "en-GB" and reader.all("title")
    assert all(attrs.get("scope") in ("col", "row") for attrs in reader.all("th"))
    assert len(reader.all("svg")) == 6 and all(s["role"] == "img" and s["aria-label"] for s in reader.all("svg"))
    assert len(reader.all("caption")) == len(reader.all("table"))


def test_ids_are_unique_and_links_lead_somewhere():
    tags = Reader(PAGE).tags
    ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    wanted = {v[1:] for _, attrs in tags for k, v in attrs.items() if k.endswith("href")}
    assert wanted | set(re.findall(r"url\(#([^)]+)\)", PAGE)) <= set(ids)


def test_what_comes_from_data_is_escaped():
    cases = [replace(c, slices=(EVIL,), job=EVIL if c.job == "digit" else c.job) for c in CASES]
    context = make_context()
    context["task"]["summary"] = context["rivals"]["majority"] = EVIL
    page = render_report(make_figures(cases=cases), context)
    reader = Reader(page)
    assert reader.open == [] and not reader.all("script") and "<script" not in page
    assert "&lt;script&gt;" in page and "$x$" in page


@pytest.mark.parametrize("right, colour, words", [
    (lambda k: k % 10, "good", "The adapter is better than the untuned base and majority"),
    (lambda k: k % 4 == 1, "bad", "The adapter cannot be told apart from the untuned base, and is worse than majority"),
])
def test_the_verdict_is_told_in_words_and_colour(right, colour, words):
    page = render_report(make_figures(right), CONTEXT)
    assert f'<div class="verdict {colour}"' in page and words in plain_title(page)


def plain_title(page):
    return re.search("<title>(.*)</title>", page)[1]


def test_a_leak_is_never_green():
    page = render_report(make_figures(leak=True), CONTEXT)
    assert '<div class="verdict bad"' in page and "do not trust it" in plain_title(page)


def test_inline_markdown():
    assert inline("**better** `a<b` 1 < 2") == '<strong class="good">better</strong> <code>a&lt;b</code> 1 &lt; 2'
    assert inline(prose(EVIL)) == inline(prose(EVIL)).__class__.escape(EVIL)
    assert plain("`a` is **so** \\*") == "a is so *"


def test_long_curves_are_thinned_to_the_same_mean():
    points = [(float(i), float(i % 7)) for i in range(1, 3001)]
    thin = plots.thinned(points)
    assert len(thin) <= plots.POINTS and thin[0][0] == 10.5
    assert sum(y for _, y in thin) / len(thin) == pytest.approx(sum(y for _, y in points) / len(points))
    assert plots.thinned(points[:5]) == points[:5]


def test_wilson_at_a_mean_share_is_wilson_at_a_whole_count():
    from scionwood.evidence.intervals import wilson

    assert plots.wilson(.7, 10) == pytest.approx(wilson(7, 10))
    assert plots.wilson(1.0, 6) == pytest.approx(wilson(6, 6))


def test_without_curves_slices_or_confusion_nothing_is_drawn():
    assert plots.curves(FIGURES, CONTEXT | {"logs": {}}) == ""
    assert plots.slices(FIGURES | {"slices": []}, CONTEXT) == ""
