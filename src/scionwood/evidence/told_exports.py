"""The section of the card and the report that tells what the export cost: each exported file beside the adapter."""

from __future__ import annotations

from typing import Any

from scionwood.evidence.blocks import Block, Section, Table, numbers, words
from scionwood.evidence.format import ABSENT, between, code, number, p_value, signed, tally
from scionwood.evidence.paired import BETTER, CANNOT_TELL, WORSE
from scionwood.evidence.standing import Figures, headline, seed_of
from scionwood.evidence.told_results import bold

EXPORTS = """\
Each exported file answered the whole test set once more, and is compared with the adapter that it was made from{seed}, case \
by case. {verdicts} p comes from the paired cluster bootstrap; Holm's adjustment runs over the files. Equal answers are counted \
over the cases that were asked, without those that the task's gate answers."""

CONFIDENCE = """\
Where answers differ while confidences hardly do, two answers were nearly level and rounding decided: the file's, or that of \
the number format in which the adapter was measured."""

JOBS = """\
Per job, by the exact McNemar test: gains are cases that only the exported file answers correctly, losses those that only \
the adapter does."""

SAYS = {CANNOT_TELL: "no difference to the adapter could be shown", WORSE: "it is **worse** than the adapter", BETTER: "it is **better** than the adapter"}


def exports(figures: Figures, context: dict[str, Any]) -> Section:
    """What each exported file lost or kept; nothing where none was measured."""
    entries = figures.get("exports", [])
    if not entries:
        return Section("What the export cost", [])
    seed = seed_of({"seed": entries[0]["seed"]})
    told = EXPORTS.format(seed=f" ({seed})" if seed else "", verdicts=" ".join(_sentence(e) for e in entries))
    metric = code(figures["primary"])
    sure = any(e["confidence"] for e in entries)
    blocks: list[Block] = [
        f"{told} {CONFIDENCE}" if sure else told,
        Table("Answers of the exported files that are the adapter's own",
              [*words("file"), *numbers("MB", "cases asked", "equal answers", *(["mean change of confidence", "largest"] if sure else []))],
              [_answers(context, e, sure) for e in entries]),
        Table(f"Exported files against the adapter, on {metric}",
              [*words("file"), *numbers(metric, "difference", "95 % interval", "p", "Holm p", "smallest detectable difference"), *words("verdict")],
              [_test(figures, e) for e in entries])]
    if any(e["jobs"] for e in entries):
        blocks += [JOBS, Table("Exact McNemar per file and job", [*words("file", "job"), *numbers("n", "gains / losses", "difference", "Holm p"),
                                                                 *words("verdict")],
                               [row for e in entries for row in _job_rows(e)])]
    return Section("What the export cost", blocks)


def _sentence(entry: dict[str, Any]) -> str:
    """One file's agreement and verdict in words; figures.json names the first cases that differ."""
    same, n = entry["same"]["same"], entry["same"]["n"]
    equal = f"all {tally(n)} answers are equal" if same == n else f"{tally(same)} of {tally(n)} answers are equal"
    return f"{code(entry['system'])}: {equal}, and {SAYS[entry['primary']['verdict']]}."


def _answers(context: dict[str, Any], entry: dict[str, Any], sure: bool) -> list[str]:
    size, change = context.get("exports", {}).get(entry["system"], {}).get("bytes"), entry["confidence"] or {}
    return [code(entry["system"]), number(size / 1e6 if size else None), tally(entry["same"]["n"]), tally(entry["same"]["same"]),
            *([_small(change.get("mean")), _small(change.get("largest"))] if sure else [])]


def _test(figures: Figures, entry: dict[str, Any]) -> list[str]:
    test = entry["primary"]
    return [code(entry["system"]), number(headline(figures, entry["system"], figures["primary"]).value), signed(test["difference"]),
            between(test["low"], test["high"], signed), p_value(test["p"]), p_value(test["p_holm"]), number(test["detectable"]), bold(test["verdict"])]


def _small(value: float | None) -> str:
    """A change to two significant digits: three decimals would make most of them 0."""
    return ABSENT if value is None else f"{value:.2g}"


def _job_rows(entry: dict[str, Any]) -> list[list[str]]:
    return [[code(entry["system"]), code(job), tally(t["n"]), f"{tally(t['gains'])} / {tally(t['losses'])}", signed(t["difference"]),
             p_value(t["p_holm"]), bold(t["verdict"])] for job, t in entry["jobs"].items()]
