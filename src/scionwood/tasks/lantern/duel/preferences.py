"""Who was preferred: shares of wins by task with paired intervals, Bradley-Terry strengths, and how far the raters agree."""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import Any, NamedTuple, Sequence

from scionwood.evidence.intervals import MIN_SOURCES
from scionwood.evidence.paired import holm, verdict
from scionwood.tasks.lantern.duel import agreement, bradley_terry, power, scoring
from scionwood.tasks.lantern.duel.pairs import SHARE, SKIP, Pair


class Vote(NamedTuple):
    """One rater's choice between the answers of a pair: ``share`` 1 for the first, 0 for the second, .5 for a tie."""

    rater: str
    pair: Pair
    share: float


def votes_of(plan: Sequence[Pair], choices: Sequence[tuple[str, str, str]]) -> tuple[list[Vote], int, int]:
    """(votes, skipped, stale) from (rater, pair id, choice). Stale: of answers that have changed since; they are not counted.

    What was settled without a rater stands once for each rater who rated that two contestants' pairs at all, so that failures weigh as
    much as other answers do.
    """
    by_id = {p.id: p for p in plan}
    votes, skipped, stale = [], 0, 0
    for rater, key, choice in choices:
        pair = by_id.get(key)
        if pair is None or pair.settled:
            stale += 1
        elif choice == SKIP:
            skipped += 1
        else:
            votes.append(Vote(rater, pair, SHARE[choice]))
    who = {(v.rater, v.pair.first, v.pair.second) for v in votes}
    settled = [p for p in plan if p.settled]
    for rater, first, second in sorted(who):
        votes += [Vote(rater, p, SHARE[p.settled]) for p in settled if (p.first, p.second) == (first, second)]
    return votes, skipped, stale


def compare(votes: Sequence[Vote], names: Sequence[str]) -> list[dict[str, Any]]:
    """Every two contestants: wins, ties, and the difference of their shares (ties count half to each) by the paired bootstrap over tasks.

    Positive differences favour the second. p is the exact sign test over tasks, each won by who won more of its comparisons: the test
    whose power the report states. Verdicts follow Holm's adjustment over the pairs of contestants.
    """
    out = []
    for first, second in itertools.combinations(names, 2):
        mine = [v for v in votes if (v.pair.first, v.pair.second) == (first, second)]
        if not mine:
            continue
        by_task: dict[str, list[float]] = defaultdict(list)
        for v in mine:
            by_task[v.pair.task].append(v.share)
        shares = [sum(by_task[t]) / len(by_task[t]) for t in sorted(by_task)]  # the first's
        d, signs = scoring.compare(shares, [1 - s for s in shares])
        wins = [sum(v.share == s for v in mine) for s in (1.0, 0.0, 0.5)]
        out.append(
            {
                "first": first,
                "second": second,
                "comparisons": len(mine),
                "tasks": len(shares),
                "wins_first": wins[0],
                "wins_second": wins[1],
                "ties": wins[2],
                "settled": sum(bool(v.pair.settled) for v in mine),
                "share_second": 1 - sum(shares) / len(shares),
                "difference": d.difference,
                "low": d.low,
                "high": d.high,
                "tasks_second": signs.gains,
                "tasks_first": signs.losses,
                "p": signs.p if len(shares) >= MIN_SOURCES else None,
                "detectable": d.detectable(),
            }
        )
    adjusted = holm({str(i): c["p"] for i, c in enumerate(out) if c["p"] is not None})
    for i, c in enumerate(out):
        c["adjusted"] = adjusted.get(str(i))
        c["verdict"] = verdict(c["difference"], 1.0 if c["adjusted"] is None else c["adjusted"])
        c["power"] = {"tasks": power.told(c["tasks"]), "comparisons": power.told(c["comparisons"])}
    return out


def strengths(votes: Sequence[Vote], names: Sequence[str]) -> dict[str, Any] | None:
    """Bradley and Terry's log-strengths with intervals by task, and Davidson's tie parameter; None without votes."""
    if not votes:
        return None
    tasks = sorted({v.pair.task for v in votes})
    wins, ties = bradley_terry.counts([(v.pair.task, v.pair.first, v.pair.second, v.share) for v in votes], names, tasks)
    found, between = bradley_terry.fit(wins.sum(0), ties.sum(0)), bradley_terry.intervals(wins, ties)
    each = {n: {"value": float(s), "low": low, "high": high} for n, s, (low, high) in zip(names, found.strength, between)}
    return {"tie": found.tie, "tasks": len(tasks), "of": each}


def agreed(votes: Sequence[Vote]) -> dict[str, Any]:
    """Krippendorff's alpha (nominal) of the raters over the pairs that two or more of them rated; what needed no rater has no part."""
    units: dict[str, list[str]] = defaultdict(list)
    by_task: dict[str, set[str]] = defaultdict(set)
    for v in votes:
        if not v.pair.settled:
            units[v.pair.id].append(str(v.share))
            by_task[v.pair.task].add(v.pair.id)
    shared = [u for u in units.values() if len(u) > 1]
    low, high = agreement.interval({task: [units[p] for p in sorted(ids)] for task, ids in by_task.items()})
    return {"alpha": agreement.alpha(shared), "low": low, "high": high, "pairs": len(shared)}


def told(votes: Sequence[Vote], names: Sequence[str]) -> dict[str, Any]:
    """All that follows from votes."""
    raters = sorted({v.rater for v in votes})
    return {
        "raters": {r: sum(v.rater == r and not v.pair.settled for v in votes) for r in raters},
        "comparisons": compare(votes, names),
        "strengths": strengths(votes, names),
        "agreement": agreed(votes),
    }
