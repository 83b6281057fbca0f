"""The sections of a duel's card and report that tell of the answers: what became of them, how diverse and how right they are."""

from __future__ import annotations

from typing import Any

from scionwood.evidence.blocks import Items, Plot, Section, Table, numbers, words
from scionwood.evidence.format import ABSENT, between, code, listed, number, p_value, prose, several, signed
from scionwood.tasks.lantern.duel.scoring import LEGACY, METRICS

Duel = dict[str, Any]
ABOUT = {m.name: m.about for m in METRICS}


def names_of(duel: Duel) -> list[str]:
    """The contestants in order."""
    return [c["name"] for c in duel["contestants"]]


def share(value: float | None) -> str:
    """A share as per cent."""
    return ABSENT if value is None else f"{100 * value:.0f} %"


def answers(duel: Duel) -> Section:
    """What became of the answers: nothing is left out in silence."""
    length, rows = duel["settings"]["words"], []
    for name in names_of(duel):
        a = duel["answers"][name]
        interval = f" ({' to '.join(share(x) for x in a['short_interval'])})" if a["short_interval"] else ""
        rows.append(
            [
                code(name),
                str(a["asked"]),
                str(a["ok"]),
                str(a["timeout"]),
                str(a["failed"]),
                f"{a['short']} of {a['measurable']}",
                f"{share(a['short_share'])}{interval}",
                number(a["mean_words"]),
                str(a["cut_at_tokens"]),
            ]
        )
    columns = words("contestant") + numbers(
        "asked", "answered", "time-outs", "failed", f"under {length} words", "share of short ones", "mean words", "cut at the most tokens"
    )
    short = [code(n) for n in names_of(duel) if (duel["answers"][n]["short_share"] or 0) > 0.2]
    missing = sum(duel["answers"][n]["missing"] for n in names_of(duel))
    blocks: list = [
        f"Every answer is measured over its first {length} words, and shown to raters and judges up to the last sentence end within "
        "them. Answers with fewer words cannot be measured at this length: they are counted here, rated as they are, and left out of "
        "the measures of diversity. Time-outs and failures count as wrong, as no new answer, and as lost.",
        Table("What became of the answers; fact tasks, whose right answer may be one word, are left out of the lengths", columns, rows),
    ]
    if short:
        blocks.append(
            f"**Mind the length:** more than a fifth of the answers of {listed(short)} are too short. What is left may not be like the "
            "rest; choose a smaller `--words`, ask for the length with `--note`, or use `--keep-going`."
        )
    if missing:
        blocks.append(f"**Not finished:** {several(missing, 'answer')} not asked for yet; the same command goes on.")
    return Section("The answers", blocks)


def measures(duel: Duel) -> Section:
    """Every measure of every contestant."""
    rows = []
    for m in METRICS:
        if all(duel["figures"][n][m.name]["value"] is None for n in names_of(duel)):
            continue
        cells = []
        for n in names_of(duel):
            f = duel["figures"][n][m.name]
            interval = f" ({between(f['low'], f['high'])})" if f["low"] is not None else ""
            cells.append(ABSENT if f["value"] is None else f"{number(f['value'])}{interval}, n = {f['n']}")
        rows.append([code(m.name) + (" (legacy)" if m.name == LEGACY else ""), *cells, number(duel["prose"].get(m.name)), m.better])
    columns = words("measure") + numbers(*map(code, names_of(duel)), "ordinary prose") + words("better is")
    length = duel["settings"]["words"]
    shown = [m.name for m in METRICS if any(r[0].startswith(code(m.name)) for r in rows)]
    return Section(
        "Measures",
        [
            Table(
                f"Means over tasks with 95 % intervals (tasks resampled); n counts tasks; all at {length} words, beside ordinary English "
                "prose of that length",
                columns,
                rows,
            ),
            Plot("measures", "Each measure with its 95 % interval; the dashed line is ordinary prose of the same length."),
            Items([f"{code(n)}: {prose(ABOUT[n])}." for n in shown]),
            f"{code(LEGACY)} is printed because it was published. At one length for all it can be compared; its zones mean nothing here. "
            "More diversity is not more quality (a model that writes nonsense is diverse): read it beside what is right and what was "
            "preferred.",
        ]
        if rows
        else [],
    )


def compared(duel: Duel) -> Section:
    """Every two contestants on every measure."""
    rows = [
        [
            f"{code(c['second'])} beside {code(c['first'])}",
            code(c["metric"]),
            str(c["n"]),
            signed(c["difference"]),
            between(c["low"], c["high"], signed),
            p_value(c["adjusted"]),
            f"**{c['verdict']}**" if c["metric"] != LEGACY else "legacy",
            number(c["detectable"]),
        ]
        for c in duel["comparisons"]
    ]
    columns = (
        words("contestants", "measure")
        + numbers("tasks", "difference", "95 % interval", "p (Holm)")
        + words("verdict")
        + numbers("could have shown")
    )
    return Section(
        "Compared on the same tasks",
        [
            Table("Paired differences, bootstrap over tasks; only tasks on which both have the measure", columns, rows),
            'The last column is the difference that this set of tasks finds with 80 % power. Where the verdict is "cannot tell", a smaller '
            "one may be there.",
        ]
        if rows
        else [],
    )
