"""The pairs that raters and judges see: two contestants' answers to one task, under an id that tells nothing of either."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass

from scionwood.files import text_hash
from scionwood.tasks.lantern.duel.reading import MISSING, Duel
from scionwood.teaching.journal import OK

FIRST, SECOND, TIE, SKIP = "first", "second", "tie", "skip"
SHARE = {FIRST: 1.0, SECOND: 0.0, TIE: 0.5}  # of the comparison, for the first


@dataclass(frozen=True)
class Pair:
    """Two answers to one task. ``texts`` are the first's and the second's, cut at the same length.

    ``settled``: what needs no rater. Whoever failed has lost; two failures, or two answers alike to the letter, are a tie.
    """

    id: str
    task: str
    kind: str
    prompt: str
    sample: int
    first: str
    second: str
    texts: tuple[str, str]
    settled: str = ""


def pairs(duel: Duel) -> list[Pair]:
    """Every two contestants on every task and sample, in rounds: all tasks once, then the next sample. The id follows from the texts, so
    that a rating never stands for an answer that its rater did not see."""
    out = []
    for k in range(duel.samples):
        for q in duel.questions:
            for first, second in itertools.combinations(duel.names, 2):
                a, b = (duel.answers[name][q.id][k] for name in (first, second))
                if MISSING in (a.status, b.status):
                    continue
                texts = tuple(x.cut.shown if x.cut else "" for x in (a, b))
                lost = (a.status != OK, b.status != OK)
                settled = "" if texts[0] != texts[1] and not any(lost) else TIE if lost[0] == lost[1] else SECOND if lost[0] else FIRST
                key = text_hash([duel.lock["seed"], q.id, q.prompt, k, first, second, *texts])[:16]
                out.append(Pair(key, q.id, q.kind, q.prompt, k, first, second, texts, settled))
    return out


def chance(*parts: object) -> bytes:
    """Bytes that follow from the parts and look like chance."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).digest()


def first_is_left(pair: Pair, rater: str) -> bool:
    """Whether the first stands on the left for this rater: even odds, and the same at every visit."""
    return chance("side", rater, pair.id)[0] % 2 == 0


def order(plan: list[Pair], rater: str) -> list[Pair]:
    """The pairs in this rater's order: rounds stay rounds, each shuffled for everybody anew. What is settled is left out."""
    return sorted((p for p in plan if not p.settled), key=lambda p: (p.sample, chance("order", rater, p.id)))
