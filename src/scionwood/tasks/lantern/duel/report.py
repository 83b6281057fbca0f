"""The card and the report of a duel, both rendered from duel.json alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from scionwood.evidence.blocks import Section
from scionwood.evidence.format import code, listed, prose
from scionwood.evidence.paired import BETTER, CANNOT_TELL, WORSE
from scionwood.tasks.lantern.duel import drawings, told, told_judged, told_making
from scionwood.tasks.lantern.duel.scoring import CORRECT, LEGACY, METRICS

COLOURS, SIGNS = {BETTER: "good", WORSE: "bad", CANNOT_TELL: "unsure"}, {BETTER: "▲", WORSE: "▼", CANNOT_TELL: "■"}
DIVERSITY = {m.name for m in METRICS} - {CORRECT}
SUMMARY = "answers to the same tasks, at the same length"


def sections(duel: dict[str, Any]) -> list[Section]:
    """All that follows the verdict, for the card and the report alike."""
    found = [
        told.answers(duel),
        told.measures(duel),
        told.compared(duel),
        told_judged.ratings(duel),
        *told_judged.judges(duel),
        told_making.edges(duel),
        told_making.design(duel),
        told_making.making(duel),
        told_making.limits(duel),
    ]
    return [s for s in found if s.blocks]


def sentences(duel: dict[str, Any]) -> str:
    """How the contestants did, in plain words: each two of them on the automatic measures, then what people and judges preferred."""
    out = []
    for first, second in dict.fromkeys((c["first"], c["second"]) for c in duel["comparisons"]):
        mine = [c for c in duel["comparisons"] if (c["first"], c["second"]) == (first, second) and c["metric"] != LEGACY]
        groups = {v: [code(c["metric"]) for c in mine if c["verdict"] == v] for v in (BETTER, WORSE, CANNOT_TELL)}
        words = {BETTER: "**better** on", WORSE: "**worse** on", CANNOT_TELL: "not to be told apart on"}
        parts = [f"{words[v]} {listed(names)}" for v, names in groups.items() if names]
        out.append(f"{code(second)} beside {code(first)}: {'; '.join(parts)}.")
    for who, many, told_of in [("Raters", True, duel["ratings"]), *((f"The judge {code(n)}", False, j) for n, j in duel["judges"].items())]:
        for c in told_of["comparisons"]:
            liked, other = (c["first"], c["second"]) if c["verdict"] == WORSE else (c["second"], c["first"])
            verb = "cannot be said to prefer" if c["verdict"] == CANNOT_TELL else "prefer" if many else "prefers"
            out.append(f"{who} {verb} {code(liked)} to {code(other)}.")
    return " ".join(out) or "Nothing could be compared yet."


def verdict(duel: dict[str, Any]) -> dict[str, Any]:
    """The box at the top. Its colour is that of what is right and what was preferred, where these agree: nonsense is diverse, too."""
    judged = [c for c in duel["comparisons"] if c["metric"] != LEGACY]
    preferred = [(f"preferred by {who}", c) for who, t in [("raters", duel["ratings"]), *duel["judges"].items()] for c in t["comparisons"]]
    chips = [(c["metric"], c) for c in judged] + preferred
    several = len(duel["contestants"]) > 2
    found = {c["verdict"] for what, c in chips if what not in DIVERSITY} - {CANNOT_TELL}
    colour = COLOURS[found.pop()] if len(found) == 1 and not several else COLOURS[CANNOT_TELL]
    names = [c["name"] for c in duel["contestants"]]
    title = f"{code(names[1])} beside {code(names[0])}" if not several else listed([code(n) for n in names])
    texts = [
        {
            "colour": COLOURS[c["verdict"]],
            "sign": SIGNS[c["verdict"]],
            "text": f"{prose(what)}: {c['verdict']}" + (f" ({code(c['second'])} beside {code(c['first'])})" if several else ""),
        }
        for what, c in chips
    ]
    return {"title": title, "colour": colour, "chips": texts, "text": sentences(duel)}


def render_card(duel: dict[str, Any]) -> str:
    """README.md of a duel; the same value gives the same bytes."""
    from scionwood.evidence.card import section

    parts = [f"# {prose(duel['name'])}: {SUMMARY}", sentences(duel), *(section(s) for s in sections(duel))]
    return "\n\n".join(parts) + "\n"


def render_report(duel: dict[str, Any]) -> str:
    """report.html of a duel, in the style of a run's report. It loads nothing and runs nothing."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from scionwood.evidence.report import anchor, inline, kind, plain

    environment = Environment(
        loader=PackageLoader("scionwood.evidence"), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters |= {"inline": inline, "plain": plain, "anchor": anchor, "blocks": lambda blocks: [(kind(b), b) for b in blocks]}
    css, _, _ = environment.loader.get_source(environment, "report.css")
    return environment.get_template("report.html.jinja").render(
        name=duel["name"],
        summary=SUMMARY,
        css=css,
        verdict=SimpleNamespace(**verdict(duel)),
        sections=sections(duel),
        draw=lambda plot: getattr(drawings, plot.name)(duel),
    )
