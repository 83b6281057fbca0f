"""The report: one HTML page with everything in it, for people. It tells what the card tells, and draws it."""

from __future__ import annotations

import re
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from scionwood.evidence import plots
from scionwood.evidence.blocks import Block
from scionwood.evidence.card import Tell, opening, sections
from scionwood.evidence.controls import AT_CHANCE, LEAKS
from scionwood.evidence.format import listed
from scionwood.evidence.paired import BETTER, CANNOT_TELL, WORSE
from scionwood.evidence.standing import Figures, base, judged, named, strongest_rival, subject_word

Context = dict[str, Any]

# A sign beside the colour, for those who cannot tell the colours apart.
COLOURS, SIGNS = {BETTER: "good", WORSE: "bad", CANNOT_TELL: "unsure"}, {BETTER: "▲", WORSE: "▼", CANNOT_TELL: "■"}
WORDS = {BETTER: "is better than", CANNOT_TELL: "cannot be told apart from", WORSE: "is worse than"}
CLASSES = COLOURS | {"cannot be told apart": "unsure", AT_CHANCE: "good", LEAKS: "bad"}
MARKUP = re.compile(r"\\(?P<escaped>[^\w\s]|_)|`(?P<code>[^`]+)`|\*\*(?P<bold>.+?)\*\*")


def render_report(figures: Figures, context: Context, tell: Tell | None = None, drawings: Any = None) -> str:
    """report.html of a run; the same input gives the same bytes. It loads nothing and runs nothing.

    ``tell`` as for the card; ``drawings`` is a module whose functions draw plots that ``plots`` does not know.
    """
    environment = Environment(loader=PackageLoader("scionwood.evidence"), autoescape=True, undefined=StrictUndefined,
                              keep_trailing_newline=True)
    environment.filters |= {"inline": inline, "plain": plain, "anchor": anchor,
                            "blocks": lambda blocks: [(kind(b), b) for b in blocks]}
    css, _, _ = environment.loader.get_source(environment, "report.css")
    return environment.get_template("report.html.jinja").render(
        name=context["recipe"]["name"], summary=context["task"]["summary"] or figures["task"], css=css,
        verdict=verdict(figures, context), sections=(tell or sections)(figures, context),
        draw=lambda plot: getattr(drawings if hasattr(drawings, plot.name) else plots, plot.name)(figures, context))


def verdict(figures: Figures, context: Context) -> dict[str, Any]:
    """The box at the top: its title and colour are those of the worst verdict against the base and the strongest rival."""
    told = judged(figures)
    chips = [{"colour": COLOURS[e["verdict"]], "sign": SIGNS[e["verdict"]], "text": f"{e['verdict']}: {named(figures, opponent)}"}
             for opponent, e in told]
    leading = [(o, e["verdict"]) for o, e in told if o in (base(figures), strongest_rival(figures))]
    groups = {words: [named(figures, o) for o, got in leading if got == v] for v, words in WORDS.items()}
    title = ", and ".join(f"{words} {listed(names)}" for words, names in groups.items() if names) or "was compared with nothing"
    found = {v for _, v in leading}
    colour = COLOURS[WORSE] if WORSE in found else COLOURS[CANNOT_TELL] if CANNOT_TELL in found or not found else COLOURS[BETTER]
    if any(c["verdict"] == LEAKS for c in figures["controls"]):
        title, colour = f"{title}, but a control scores above chance: do not trust it", COLOURS[WORSE]
    return {"title": f"The {subject_word(figures)} {title}", "colour": colour, "chips": chips,
            "text": opening(figures, context)}


def kind(block: Block) -> str:
    """The name by which the template knows a block."""
    return "paragraph" if isinstance(block, str) else type(block).__name__.lower()


def inline(text: str) -> Markup:
    """Inline Markdown (code, bold, escapes: see ``format``) as HTML, all else escaped. A bold verdict takes its colour."""

    def html(m: re.Match) -> str:
        if m["escaped"]:
            return str(escape(m["escaped"]))
        if m["code"]:
            return f"<code>{escape(m['code'])}</code>"
        return f"<strong{_class(m['bold'])}>{inline(m['bold'])}</strong>"

    out, at = [], 0
    for m in MARKUP.finditer(text):
        out += [str(escape(text[at:m.start()])), html(m)]
        at = m.end()
    return Markup("".join(out) + str(escape(text[at:])))


def _class(words: str) -> str:
    return f' class="{CLASSES[words]}"' if words in CLASSES else ""


def plain(text: str) -> str:
    """Inline Markdown without its marks, for titles and labels."""
    return MARKUP.sub(lambda m: m["escaped"] or m["code"] or plain(m["bold"]), text)


def anchor(title: str) -> str:
    """A section's title as the target of a link."""
    return "-".join(re.findall(r"[a-z0-9]+", title.lower()))
