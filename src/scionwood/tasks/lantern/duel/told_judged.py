"""The sections of a duel's card and report that tell who was preferred: by raters, and by judges."""

from __future__ import annotations

import math
from typing import Any

from scionwood.evidence.blocks import Block, Code, Section, Table, numbers, words
from scionwood.evidence.format import between, code, listed, number, p_value, prose, several, signed
from scionwood.tasks.lantern.duel.told import Duel, share


def ratings(duel: Duel) -> Section:
    """What people preferred."""
    r = duel["ratings"]
    if not r["comparisons"]:
        return Section("Blind ratings", ["Nobody has rated yet.", Code("bash", f"scion lantern rate {duel['name']}")])
    agreement = r["agreement"]
    told = (
        f"Krippendorff's alpha over the {several(agreement['pairs'], 'pair')} that two or more raters saw is "
        f"{number(agreement['alpha'])} ({between(agreement['low'], agreement['high'])}); 1 is full agreement, 0 is chance."
        if agreement["alpha"] is not None
        else "How far raters agree cannot be said: no pair was rated by two, or all said the same."
    )
    raters = listed([f"{prose(n)} ({k})" for n, k in r["raters"].items()])
    stale = f" {several(r['stale'], 'rating')} of answers that have changed since are not counted." if r["stale"] else ""
    skipped = f" {several(r['skipped'], 'pair')} skipped." if r["skipped"] else ""
    return Section("Blind ratings", [f"Rated by {raters}; sides shuffled, models hidden.{skipped}{stale}", *preferences(r), told])


def judges(duel: Duel) -> list[Section]:
    """What each judge preferred."""
    out = []
    for name, j in duel["judges"].items():
        said = (
            f"Asked about {several(j['asked'], 'pair')} in both orders. In {j['inconsistent']} of them it changed its verdict with the "
            f"order: these count as ties. {j['failed']} got no verdict in one order or both, and are left out. A judge has tastes of its "
            "own, and may prefer models like itself."
        )
        out.append(Section(f"Judged by {name}", [said, *(preferences(j) if j["comparisons"] else [])]))
    return out


def preferences(told: dict[str, Any]) -> list[Block]:
    """Tables of who was preferred, and how strongly."""
    rows = [
        [
            f"{code(c['second'])} beside {code(c['first'])}",
            str(c["comparisons"]),
            str(c["wins_second"]),
            str(c["ties"]),
            str(c["wins_first"]),
            f"{c['tasks_second']} to {c['tasks_first']}",
            share(c["share_second"]),
            signed(c["difference"]),
            between(c["low"], c["high"], signed),
            p_value(c["adjusted"]),
            f"**{c['verdict']}**",
        ]
        for c in told["comparisons"]
    ]
    columns = (
        words("contestants")
        + numbers(
            "comparisons",
            "won",
            "tied",
            "lost",
            "tasks won to lost",
            "share, ties half",
            "difference of shares",
            "95 % interval",
            "p (Holm)",
        )
        + words("verdict")
    )
    blocks: list = [
        Table(
            "Who was preferred; intervals by resampling whole tasks, p by the exact sign test over the tasks that were won and lost",
            columns,
            rows,
        )
    ]
    if told["strengths"]:
        strengths = told["strengths"]
        blocks.append(
            Table(
                f"Strengths after Bradley and Terry, ties after Davidson (tie parameter {number(strengths['tie'])}); a step of 1 is odds "
                f"of {number(math.e)}",
                words("contestant") + numbers("log-strength", "95 % interval"),
                [[code(n), signed(s["value"]), between(s["low"], s["high"], signed)] for n, s in strengths["of"].items()],
            )
        )
    settled = sum(c["settled"] for c in told["comparisons"])
    if settled:
        blocks.append(f"{several(settled, 'comparison')} needed nobody: an answer had failed, or both were the same.")
    return blocks
