"""The sections of the card and the report that look closer: slices, mistakes, failures and latency, controls."""

from __future__ import annotations

from typing import Any

from scionwood.evidence.blocks import Plot, Section, Table, numbers, words
from scionwood.evidence.format import ABSENT, code, listed, milliseconds, number, p_value, signed, tally
from scionwood.evidence.rows import STATUSES
from scionwood.evidence.standing import Figures, named, seed_of, slices_of, subject
from scionwood.evidence.told_results import bold, ours

SLICES = """\
The share of correct answers in each named part of the test set, beside the strongest opponent on the primary metric, \
{opponent}. A case counts in each of its slices. Holm's adjustment runs over all {n} slices; one without a detectable \
difference is too small to show anything."""

SLICES_DRAWN = """\
The share of correct answers per slice: {ours} as discs, {opponent} as hollow markers, each with Wilson's 95 % interval at \
its mean over the seeds. The number of cases stands in brackets: short bars are large slices."""

CONFUSION = """\
What {ours}{where} mistook for what, one map per job: a row is the reference, a column the answer, a number counts cases, \
and the shade is its share of the row. A good system fills the diagonal; failures have a column of their own."""

FAILURES = """\
Every test case is in exactly one of the five columns from "ok" on, and time-outs and unparseable answers are inside every \
denominator, cold starts included. "gated" cases are answered by the task's own rules before any system is asked, alike \
for all systems."""

LATENCY = """\
Milliseconds per case on a logarithmic scale: the marker is the median, the thick line reaches the 95th and the thin one \
the 99th percentile. Gated cases have no latency."""

CONTROLS = """\
A control is trained or built to be wrong, and must not beat chance. {verdicts}, judged by {rule}. "At chance" means that \
no leak was found, not that there is none: the detectable difference says how large a leak would have been seen."""

BESIDE = """\
The primary metric is told beside it and not judged: a mean over labels, such as macro-F1, lies above that of a constant \
answer as soon as answers vary."""


def slices(figures: Figures) -> Section:
    """The subject beside the strongest opponent on every slice."""
    found = slices_of(figures)
    if not found:
        return Section("Slices", [])
    opponent = named(figures, found["against"])
    rows = [[code(name), tally(s["n"]), tally(s["sources"]), number(s["correct"]), number(s["against_correct"]),
             signed(s["difference"]), p_value(s["p_holm"]), number(s["detectable"]), bold(s["verdict"])]
            for name, s in found["slices"].items()]
    return Section("Slices", [
        SLICES.format(opponent=opponent, n=len(rows)),
        Plot("slices", SLICES_DRAWN.format(ours=ours(figures), opponent=opponent)),
        Table("Correct answers per slice",
              [*words("slice"), *numbers("n", "sources", ours(figures), opponent, "difference", "Holm p", "detectable"),
               *words("verdict")], rows)])


def mistakes(figures: Figures) -> Section:
    """What the subject took for what, and most often."""
    run = figures["systems"][subject(figures)]["runs"][0]
    if not any(run["confusion"].values()):
        return Section("Mistakes", [])
    where = f" ({seed_of(run)})" if run["seed"] is not None else ""
    worst = [[code(job), code(gold), code(said), tally(n), tally(of)]
             for job, gold, said, n, of in most_frequent(run["confusion"])]
    return Section("Mistakes", [
        Plot("confusion", CONFUSION.format(ours=ours(figures), where=where)),
        *([Table(f"The most frequent mistakes of {ours(figures)}{where}",
                 [*words("job", "reference", "answer"), *numbers("cases", "cases with this reference")], worst)]
          if worst else ["Not one answer was wrong."])])


def most_frequent(confusion: dict[str, Any], most: int = 10) -> list[tuple[str, str, str, int, int]]:
    """(job, reference, answer, cases, cases with this reference) of the most frequent mistakes."""
    wrong = [(job, gold, said, n, sum(row.values())) for job, table in confusion.items() for gold, row in table.items()
             for said, n in row.items() if said != gold]
    return sorted(wrong, key=lambda m: (-m[3], m[:3]))[:most]


def failures(figures: Figures) -> Section:
    """How every system failed and how long it took."""
    rows, timed = [], False
    for name, system in figures["systems"].items():
        for run in system["runs"]:
            times = run["latency_ms"] or {}
            timed = timed or bool(times)
            rows.append([code(name), ABSENT if run["seed"] is None else str(run["seed"]),
                         *(tally(run["status"][s]) for s in STATUSES),
                         *(milliseconds(times.get(p)) for p in ("p50", "p95", "p99")), tally(times.get("n"))])
    columns = [*words("system"), *numbers("seed", *STATUSES, "p50 ms", "p95 ms", "p99 ms", "timed")]
    return Section("Failures and latency", [
        FAILURES, *([Plot("latency", LATENCY)] if timed else []),
        Table("Status of every case, and latency percentiles in milliseconds", columns, rows)])


SHORTER = """\
It was trained for {share} of the adapter's steps: a leak that shows only after longer training would not have been seen."""


def shorter(context: dict[str, Any]) -> str:
    """Said where the control was trained for less than the adapter; nothing where it got as much."""
    share = context["recipe"].get("evidence", {}).get("control_share", 1)
    return f" {SHORTER.format(share=f'{share:.0%}')}" if share < 1 else ""


def controls(figures: Figures, context: dict[str, Any]) -> Section:
    """What the broken variants scored beside chance."""
    if not figures["controls"]:
        return Section("Controls", ["No control was run: nothing here shows that the evaluation itself does not leak."])
    primary, jobs, verdicts = [], [], []
    for c in figures["controls"]:
        test = c["primary"]
        primary.append([code(c["system"]), code(c["against"]) if c["against"] else ABSENT, number(test["value"]),
                        number(test["chance"]), signed(test.get("difference")), p_value(test.get("p")), bold(c["verdict"])])
        jobs += [[code(c["system"]), code(job), number(t["correct"]), number(t["chance"]), p_value(t["p_holm"]),
                  number(t["detectable"]), t["verdict"]] for job, t in c["jobs"].items()]
        verdicts.append(f"{code(c['system'])}: **{c['verdict'] or 'cannot tell'}**")
    rule = "McNemar over the jobs" if jobs else "the paired bootstrap of the primary metric"
    return Section("Controls", [
        CONTROLS.format(verdicts=listed(verdicts), rule=rule) + shorter(context) + (f" {BESIDE}" if jobs else ""),
        Table(f"Controls on {code(figures['primary'])}",
              [*words("control", "chance is"), *numbers("control's value", "chance", "difference", "p"),
               *words("verdict of the control")], primary),
        *([Table("Controls per job", [*words("control", "job"), *numbers("correct", "chance", "Holm p", "detectable"),
                                      *words("against chance")], jobs)] if jobs else [])])
