"""The sections of the card and the report that tell how the adapter did: every metric, every system, every comparison."""

from __future__ import annotations

from typing import Any

from scionwood.evidence.blocks import Block, Items, Plot, Section, Table, numbers, words
from scionwood.evidence.exports import EXPORT
from scionwood.evidence.format import ABSENT, between, code, listed, number, p_value, prose, several, signed, tally
from scionwood.evidence.standing import (Figures, base, first, headline, higher, judged, ranked, seed_of, strongest_rival,
                                         subject, subject_word)

INTRODUCTION = """\
The primary metric, fixed in advance, is {primary}. Time-outs and unparseable answers count as wrong; none is left out of \
any n. Intervals are Wilson's for proportions and a cluster bootstrap by source ({resamples:,} resamples) for the rest."""

SYSTEMS = """\
{primary} of every run with its 95 % interval, best at the top.{lower} The {word} has a filled disc for each seed; the \
untuned base is a square, a rival a diamond, a control a cross. Overlapping intervals do not mean "no difference": the \
paired tests below decide."""

BOOTSTRAP = """\
Systems are compared on the same cases. p comes from the paired cluster bootstrap, averaged over the seeds; Holm's \
adjustment runs over the opponents, and a verdict needs an adjusted p below {alpha:g}. The smallest detectable difference \
is what the set would have found four times in five: "cannot tell" rules out no effect smaller than it. With {resamples:,} \
resamples no p can be below {least}."""

MCNEMAR = """\
Per job, on whether a case is answered correctly: the exact McNemar test. Gains are cases that only the system under test \
answers correctly, losses those that only its opponent does. Over several seeds, p is the largest of the seeds' p-values, \
and 1 where the seeds disagree on the direction; Holm's adjustment runs over the opponents of a job."""


def bold(verdict: str | None) -> str:
    """A verdict in bold."""
    return f"**{verdict}**" if verdict else ABSENT


def ours(figures: Figures) -> str:
    """The name of the system that the card is about."""
    return code(subject(figures))


def abouts(texts: dict[str, str]) -> list[Block]:
    """What each name means, as a list; nothing where no name says it."""
    told = [f"{code(name)}: {prose(text)}" for name, text in texts.items() if text]
    return [Items(told)] if told else []


# -- every metric ---------------------------------------------------------------------------------------------------------


def metrics(figures: Figures) -> Section:
    """The subject beside the untuned base and the strongest rival on every metric."""
    rival, run = strongest_rival(figures), figures["systems"][subject(figures)]["runs"][0]
    others = [name for name in (base(figures), rival) if name]
    several_seeds = len(figures["systems"][subject(figures)]["runs"]) > 1
    columns = [*words("metric", "better"), *numbers("n", ours(figures)),
               *(numbers("lowest to highest seed") if several_seeds else []),
               *numbers(", ".join(["95 % interval", *filter(None, [seed_of(run)])])),
               *numbers(*(f"{code(o)} (strongest rival)" if o == rival else "untuned base" for o in others))]
    jobs = listed([f"{code(job)} {tally(n)}" for job, n in figures["jobs"].items()])
    counted = f"{several(figures['cases'], 'test case')} from {several(figures['sources'], 'source')} ({jobs}). "
    return Section("Results", [
        counted + INTRODUCTION.format(primary=code(figures["primary"]), resamples=figures["resamples"]),
        Table("Every metric on the test cases", columns,
              [_metric_row(figures, name, others, several_seeds) for name in figures["metrics"]]),
        *abouts({name: m["about"] for name, m in figures["metrics"].items()})])


def _metric_row(figures: Figures, metric: str, others: list[str], several_seeds: bool) -> list[str]:
    mine, run = headline(figures, subject(figures), metric), first(figures, subject(figures), metric)
    name = f"**{code(metric)}** (primary)" if metric == figures["primary"] else code(metric)
    return [name, figures["metrics"][metric]["better"], tally(run["n"]), number(mine.value),
            *([between(mine.low, mine.high)] if several_seeds else []), between(run["low"], run["high"]),
            *(number(headline(figures, o, metric).value) for o in others)]


def systems(figures: Figures, context: dict[str, Any]) -> Section:
    """Every run of every system on the primary metric, best first; systems without the figure last."""
    metric, rows = figures["primary"], []
    for name in [*ranked(figures), *(n for n in figures["systems"] if n not in ranked(figures))]:
        system = figures["systems"][name]
        for run in system["runs"]:
            figure, seed = run["figures"][metric], ABSENT if run["seed"] is None else str(run["seed"])
            rows.append([code(name), system["kind"], seed, number(figure["value"]), between(figure["low"], figure["high"]),
                         figure["method"]])
    lower = "" if higher(figures, metric) else " Lower is better."
    return Section("Every system on the primary metric", [
        Plot("systems", SYSTEMS.format(primary=code(metric), lower=lower, word=subject_word(figures))),
        Table(f"{code(metric)} of every run, best system first",
              [*words("system", "kind"), *numbers("seed", "value", "95 % interval"), *words("method")], rows),
        *abouts({name: text for name, text in context["rivals"].items() if name in figures["systems"]})])


# -- comparisons ----------------------------------------------------------------------------------------------------------


def comparisons(figures: Figures) -> Section:
    """The primary metric against every opponent, then each job by McNemar, for every system that is to be proved.

    An export is told beside its adapter instead (``told_exports``); what it did against the rivals is in figures.json.
    """
    order = [name for name, _ in judged(figures)]
    entries = sorted((c for c in figures["comparisons"] if figures["systems"][c["system"]]["kind"] != EXPORT or c["system"] == subject(figures)),
                     key=lambda c: (c["system"] != subject(figures), c["system"], order.index(c["against"])))
    if not entries:
        return Section("Comparisons", [])
    several_systems = len({c["system"] for c in entries}) > 1
    of = "" if several_systems else f"of {ours(figures)} "

    def who(c: dict[str, Any]) -> list[str]:
        return [*([code(c["system"])] if several_systems else []), code(c["against"])]

    titles = words(*(["system"] if several_systems else []), "against")
    blocks: list[Block] = [
        BOOTSTRAP.format(alpha=figures["alpha"], resamples=figures["resamples"], least=p_value(1 / (figures["resamples"] + 1))),
        Table(f"{code(figures['primary'])} {of}against the untuned base and every rival",
              [*titles, *numbers("difference", "95 % interval", "p", "Holm p", "smallest detectable difference"),
               *words("verdict")],
              [[*who(c), *_primary_cells(c["primary"])] for c in entries])]
    if any(c["jobs"] for c in entries):
        seeds = _seed_titles(entries)
        rows = [[*who(c), *row] for c in entries for row in _job_rows(c, len(seeds))]
        blocks += [MCNEMAR, Table(
            "Exact McNemar per job and seed, as gains / losses, p",
            [*titles, *words("job"), *numbers("n", "difference", "Holm p", "detectable"), *words("verdict"),
             *numbers(*seeds)], rows)]
    return Section("Comparisons", blocks)


def _primary_cells(test: dict[str, Any]) -> list[str]:
    return [signed(test["difference"]), between(test["low"], test["high"], signed), p_value(test["p"]), p_value(test["p_holm"]),
            number(test["detectable"]), bold(test["verdict"])]


def _seed_titles(entries: list[dict[str, Any]]) -> list[str]:
    """One column per seed; systems with fewer seeds leave the last ones empty."""
    most = max((test["seeds"] for c in entries for test in c["jobs"].values()), key=len)
    return [f"seed {t['seed']}" for t in most] or ["gains / losses"]


def _job_rows(comparison: dict[str, Any], width: int) -> list[list[str]]:
    """One row per job: what holds over all seeds, then every seed's own test."""
    rows = []
    for job, test in comparison["jobs"].items():
        seeds = [f"{tally(t['gains'])} / {tally(t['losses'])}, {p_value(t['p'])}" for t in test["seeds"] or [test]]
        rows.append([code(job), tally(test["n"]), signed(test["difference"]), p_value(test["p_holm"]), number(test["detectable"]),
                     bold(test["verdict"]), *seeds, *[ABSENT] * (width - len(seeds))])
    return rows
