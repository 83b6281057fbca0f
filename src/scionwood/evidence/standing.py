"""Where the adapter stands: who is compared with whom, and the verdict in plain words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scionwood.errors import UserError
from scionwood.evidence.comparisons import NOT_PROVED
from scionwood.evidence.controls import LEAKS
from scionwood.evidence.format import between, code, listed, number, p_is, several, signed
from scionwood.evidence.paired import BETTER, CANNOT_TELL, WORSE

Figures = dict[str, Any]

WORDS = {BETTER: "is **better** than", WORSE: "is **worse** than", CANNOT_TELL: "**cannot be told apart** from"}


@dataclass(frozen=True)
class Headline:
    """A metric of one system: the mean over its seeds, and the lowest and highest seed."""

    value: float | None
    low: float | None
    high: float | None
    seeds: int


def subject(figures: Figures) -> str:
    """The system that the card is about: the first adapter, else the first of those to be proved."""
    candidates = [name for name, s in figures["systems"].items() if s["kind"] not in NOT_PROVED]
    adapters = [name for name in candidates if figures["systems"][name]["kind"] == "adapter"]
    if not candidates:
        raise UserError("figures.json: no adapter among the systems, so there is nothing to write a card about; run 'scion run'")
    return (adapters or candidates)[0]


def headline(figures: Figures, system: str, metric: str) -> Headline:
    """A metric of a system; a metric that some seed leaves undefined has no mean."""
    entry = figures["systems"][system]
    if entry["over_seeds"] is None:
        value = entry["runs"][0]["figures"][metric]["value"]
        return Headline(value, value, value, 1)
    over = entry["over_seeds"][metric] or {}
    return Headline(over.get("mean"), over.get("min"), over.get("max"), len(entry["runs"]))


def first(figures: Figures, system: str, metric: str) -> dict[str, Any]:
    """The figure of a system's first run, with n, interval and method."""
    return figures["systems"][system]["runs"][0]["figures"][metric]


def base(figures: Figures) -> str | None:
    """The name of the untuned base; None where it was not measured."""
    return next((name for name, s in figures["systems"].items() if s["kind"] == "base"), None)


def strongest_rival(figures: Figures) -> str | None:
    """The best of the trivial rivals on the primary metric, even where the untuned base is stronger than all of them."""
    return next((name for name in ranked(figures) if figures["systems"][name]["kind"] == "rival"), None)


def ranked(figures: Figures) -> list[str]:
    """Every system that has the primary metric, best first; equals keep their order."""
    metric = figures["primary"]
    sign = -1 if higher(figures, metric) else 1
    values = {name: headline(figures, name, metric).value for name in figures["systems"]}
    return sorted((n for n, v in values.items() if v is not None), key=lambda n: sign * values[n])


def higher(figures: Figures, metric: str) -> bool:
    """Whether higher values of a metric are better."""
    return figures["metrics"][metric]["better"] == "higher"


def named(figures: Figures, system: str) -> str:
    """A system inside a sentence."""
    return "the untuned base" if figures["systems"][system]["kind"] == "base" else code(system)


def seed_of(run: dict[str, Any]) -> str:
    """A run's seed in words; empty where it has none."""
    return "" if run["seed"] is None else f"seed {run['seed']}"


def against(figures: Figures, opponent: str) -> dict[str, Any] | None:
    """The subject's comparison with an opponent on the primary metric."""
    name = subject(figures)
    return next((c["primary"] for c in figures["comparisons"] if c["system"] == name and c["against"] == opponent), None)


def judged(figures: Figures) -> list[tuple[str, dict[str, Any]]]:
    """(opponent, comparison) in the order in which they are told: the base, the strongest rival, the others by strength."""
    leading = [n for n in (base(figures), strongest_rival(figures)) if n]
    order = leading + [n for n in ranked(figures) if n not in leading]
    order += [n for n in figures["systems"] if n not in order]
    return [(name, entry) for name in order if (entry := against(figures, name))]


def slices_of(figures: Figures) -> dict[str, Any] | None:
    """The subject's slices: {"system", "against", "slices"}; None where no case can be graded."""
    found = next((s for s in figures["slices"] if s["system"] == subject(figures)), None)
    return found if found and found["slices"] else None


def verdict_sentences(figures: Figures) -> list[str]:
    """The verdict against the base and the strongest rival, whatever else is not beaten, and any control that leaks."""
    name, metric = subject(figures), figures["primary"]
    told, rest = judged(figures), []
    leading = (base(figures), strongest_rival(figures))
    out = []
    for opponent, entry in told:
        if opponent in leading:
            out.append(_sentence(figures, opponent, entry, whole=not out))
        elif entry["verdict"] != BETTER:
            rest.append(f"{code(opponent)} ({_short(entry)})")
    if not out:
        mine = headline(figures, name, metric)
        out.append(f"{code(metric)} is {number(mine.value)}, compared with nothing: neither the base nor a rival was measured.")
    if rest:
        out.append(f"Nor does it beat {listed(rest)}." if any(e["verdict"] != BETTER for o, e in told if o in leading)
                   else f"It does **not** beat {listed(rest)}.")
    leaks = sorted({c["system"] for c in figures["controls"] if c["verdict"] == LEAKS})
    if leaks:
        out.append(f"The control {listed([code(c) for c in leaks])} scores **above chance**: until that is explained, "
                   "no figure here should be trusted.")
    return out


def _sentence(figures: Figures, opponent: str, entry: dict[str, Any], whole: bool) -> str:
    """One comparison. The first sentence (``whole``) also gives the subject's own value and interval."""
    metric, kind = figures["primary"], figures["systems"][opponent]["kind"]
    who = "the untuned base" if kind == "base" else f"the strongest rival, {code(opponent)}"
    theirs = number(headline(figures, opponent, metric).value)
    mine = _own(figures) if whole else number(headline(figures, subject(figures), metric).value)
    it = f"The {subject_word(figures)}" if whole else "It"
    return f"{it} {WORDS[entry['verdict']]} {who}: {mine} against {theirs}, {_difference(entry)}."


def subject_word(figures: Figures) -> str:
    """"adapter", "student" or "export"."""
    return figures["systems"][subject(figures)]["kind"]


def _own(figures: Figures) -> str:
    metric = figures["primary"]
    mine, run = headline(figures, subject(figures), metric), figures["systems"][subject(figures)]["runs"][0]
    figure = run["figures"][metric]
    where = f" of {seed_of(run)}:" if mine.seeds > 1 else ""
    notes = [f"mean of {several(mine.seeds, 'seed')}, {between(mine.low, mine.high)}"] if mine.seeds > 1 else ["one seed"]
    notes.append(f"95 % interval{where} {between(figure['low'], figure['high'])}" if figure["low"] is not None
                 else "too few sources for an interval")
    lower = "" if higher(figures, metric) else ", lower is better,"
    return f"{code(metric)}{lower} is {number(mine.value)} ({'; '.join(notes)})"


def _difference(entry: dict[str, Any]) -> str:
    interval = f"95 % interval {between(entry['low'], entry['high'], signed)}, " if entry["low"] is not None else ""
    text = f"a difference of {signed(entry['difference'])} ({interval}Holm p {p_is(entry['p_holm'])})"
    if entry["verdict"] == CANNOT_TELL and entry["detectable"] is not None:
        text += f", where the smallest difference that this set could have shown is {number(entry['detectable'])}"
    return text


def _short(entry: dict[str, Any]) -> str:
    return f"**{entry['verdict']}**, difference {signed(entry['difference'])}"
