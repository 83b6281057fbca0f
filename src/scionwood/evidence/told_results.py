"""The sections of the card and the report that tell what was measured. Everything here comes from the figures."""

from __future__ import annotations

from typing import Any

from scionwood.evidence.blocks import NUMBER, WORD, Items, Plot, Section, Table
from scionwood.evidence.format import ABSENT, between, code, listed, milliseconds, number, p_value, prose, several, signed, tally
from scionwood.evidence.rows import STATUSES
from scionwood.evidence.standing import (Figures, base, first, headline, higher, judged, named, ranked, seed_of, strongest_rival,
                                         subject, subject_word)


def results(figures: Figures, context: dict[str, Any]) -> list[Section]:
    told = [metrics(figures), systems(figures, context), comparisons(figures), slices(figures), mistakes(figures),
            failures(figures), controls(figures)]
    return [section for section in told if section.blocks]


def bold(verdict: str | None) -> str:
    return f"**{verdict}**" if verdict else ABSENT


def ours(figures: Figures) -> str:
    return code(subject(figures))


# -- every metric ---------------------------------------------------------------------------------------------------------


def metrics(figures: Figures) -> Section:
    rival = strongest_rival(figures)
    others = [name for name in (base(figures), rival) if name]
    run = figures["systems"][subject(figures)]["runs"][0]
    several_seeds = headline(figures, subject(figures), figures["primary"]).seeds > 1
    columns = [("metric", WORD), ("better", WORD), ("n", NUMBER), (ours(figures), NUMBER),
               *([("lowest to highest seed", NUMBER)] if several_seeds else []),
               (f"95 % interval{', ' + seed_of(run) if run['seed'] is not None else ''}", NUMBER),
               *((f"{code(o)} (strongest rival)" if o == rival else "untuned base", NUMBER) for o in others)]
    table = Table("Every metric on the test cases", columns,
                  [_metric_row(figures, name, others, several_seeds) for name in figures["metrics"]])
    about = [f"{code(name)}: {prose(m['about'])}" for name, m in figures["metrics"].items() if m["about"]]
    return Section("Results", [
        f"{several(figures['cases'], 'test case')} from {several(figures['sources'], 'source')} "
        f"({listed([f'{code(job)} {tally(n)}' for job, n in figures['jobs'].items()])}). The primary metric, fixed in advance, is "
        f"{code(figures['primary'])}. Time-outs and unparseable answers count as wrong; none is left out of any n. Intervals are "
        f"Wilson's for proportions and a cluster bootstrap by source ({figures['resamples']:,} resamples) for the rest.",
        table, *([Items(about)] if about else [])])


def _metric_row(figures: Figures, metric: str, others: list[str], several_seeds: bool) -> list[str]:
    mine, run = headline(figures, subject(figures), metric), first(figures, subject(figures), metric)
    name = f"**{code(metric)}** (primary)" if metric == figures["primary"] else code(metric)
    return [name, figures["metrics"][metric]["better"], tally(run["n"]), number(mine.value),
            *([between(mine.low, mine.high)] if several_seeds else []), between(run["low"], run["high"]),
            *(number(headline(figures, o, metric).value) for o in others)]


def systems(figures: Figures, context: dict[str, Any]) -> Section:
    """Every run of every system on the primary metric, best first."""
    metric, rows = figures["primary"], []
    undefined = [n for n in figures["systems"] if n not in ranked(figures)]
    for name in ranked(figures) + undefined:
        system = figures["systems"][name]
        for run in system["runs"]:
            figure = run["figures"][metric]
            rows.append([code(name), system["kind"], ABSENT if run["seed"] is None else str(run["seed"]), number(figure["value"]),
                         between(figure["low"], figure["high"]), figure["method"]])
    lower = "" if higher(figures, metric) else " Lower is better."
    about = [f"{code(name)}: {prose(text)}" for name, text in context["rivals"].items() if name in figures["systems"] and text]
    return Section("Every system on the primary metric", [
        Plot("systems", f"{code(metric)} of every run with its 95 % interval, best at the top.{lower} The {subject_word(figures)} has "
                        "a filled disc for each seed; the untuned base is a square, a rival a diamond, a control a cross. "
                        "Overlapping intervals do not mean \"no difference\": the paired tests below decide."),
        Table(f"{code(metric)} of every run, best system first",
              [("system", WORD), ("kind", WORD), ("seed", NUMBER), ("value", NUMBER), ("95 % interval", NUMBER), ("method", WORD)], rows),
        *([Items(about)] if about else [])])


# -- comparisons ----------------------------------------------------------------------------------------------------------


def comparisons(figures: Figures) -> Section:
    """The primary metric against every opponent, then each job by McNemar, for every system that is to be proved."""
    if not figures["comparisons"]:
        return Section("Comparisons", [])
    told = [name for name, _ in judged(figures)]
    entries = sorted(figures["comparisons"], key=lambda c: (c["system"] != subject(figures), c["system"], told.index(c["against"])))
    several_systems = len({c["system"] for c in entries}) > 1
    who = [("system", WORD)] if several_systems else []
    columns = [*who, ("against", WORD), ("difference", NUMBER), ("95 % interval", NUMBER), ("p", NUMBER), ("Holm p", NUMBER),
               ("smallest detectable difference", NUMBER), ("verdict", WORD)]
    rows = [[*([code(c["system"])] if several_systems else []), code(c["against"]), signed(c["primary"]["difference"]),
             between(c["primary"]["low"], c["primary"]["high"], signed), p_value(c["primary"]["p"]), p_value(c["primary"]["p_holm"]),
             number(c["primary"]["detectable"]), bold(c["primary"]["verdict"])] for c in entries]
    blocks: list = [
        "Systems are compared on the same cases. p comes from the paired cluster bootstrap, averaged over the seeds; Holm's adjustment "
        f"runs over the opponents, and a verdict needs an adjusted p below {figures['alpha']:g}. The smallest detectable difference is "
        "what the set would have found four times in five: \"cannot tell\" rules out no effect smaller than it. With "
        f"{figures['resamples']:,} resamples no p can be below {p_value(1 / (figures['resamples'] + 1))}.",
        Table(f"{code(figures['primary'])} {'' if several_systems else f'of {ours(figures)} '}against the untuned base and every rival", columns, rows)]
    if any(c["jobs"] for c in entries):
        jobs = [[*([code(c["system"])] if several_systems else []), *row] for c in entries
                for row in _job_rows(c, len(_seed_titles(entries)))]
        blocks += [
            "Per job, on whether a case is answered correctly: the exact McNemar test. Gains are cases that only the system under test "
            "answers correctly, losses those that only its opponent does. Over several seeds, p is the largest of the seeds' p-values, "
            "and 1 where the seeds disagree on the direction; Holm's adjustment runs over the opponents of a job.",
            Table("Exact McNemar per job and seed, as gains / losses, p", [
                *who, ("against", WORD), ("job", WORD), ("n", NUMBER), ("difference", NUMBER), ("Holm p", NUMBER), ("detectable", NUMBER),
                ("verdict", WORD), *((title, NUMBER) for title in _seed_titles(entries))], jobs)]
    return Section("Comparisons", blocks)


def _seed_titles(entries: list[dict[str, Any]]) -> list[str]:
    """One column per seed; systems with fewer seeds leave the last ones empty."""
    most = max((test["seeds"] for c in entries for test in c["jobs"].values()), key=len)
    return [f"seed {t['seed']}" for t in most] or ["gains / losses"]


def _job_rows(comparison: dict[str, Any], width: int) -> list[list[str]]:
    """One row per job: what holds over all seeds, then every seed's own test."""
    rows = []
    for job, test in comparison["jobs"].items():
        seeds = [f"{tally(t['gains'])} / {tally(t['losses'])}, {p_value(t['p'])}" for t in test["seeds"] or [test]]
        rows.append([code(comparison["against"]), code(job), tally(test["n"]), signed(test["difference"]), p_value(test["p_holm"]),
                     number(test["detectable"]), bold(test["verdict"]), *seeds, *[ABSENT] * (width - len(seeds))])
    return rows


# -- slices, mistakes -----------------------------------------------------------------------------------------------------


def slices_of(figures: Figures) -> dict[str, Any] | None:
    """The subject's slices: {"system", "against", "slices"}."""
    found = next((s for s in figures["slices"] if s["system"] == subject(figures)), None)
    return found if found and found["slices"] else None


def slices(figures: Figures) -> Section:
    found = slices_of(figures)
    if not found:
        return Section("Slices", [])
    opponent = named(figures, found["against"])
    rows = [[code(name), tally(s["n"]), tally(s["sources"]), number(s["correct"]), number(s["against_correct"]), signed(s["difference"]),
             p_value(s["p_holm"]), number(s["detectable"]), bold(s["verdict"])] for name, s in found["slices"].items()]
    return Section("Slices", [
        f"The share of correct answers in each named part of the test set, beside the strongest opponent on the primary metric, "
        f"{opponent}. A case counts in each of its slices. Holm's adjustment runs over all {len(rows)} slices; one without a "
        "detectable difference is too small to show anything.",
        Plot("slices", f"The share of correct answers per slice: {ours(figures)} as discs, {opponent} as hollow diamonds, each with "
                       "Wilson's 95 % interval at its mean over the seeds. The number of cases stands in brackets: short bars are "
                       "large slices."),
        Table("Correct answers per slice", [("slice", WORD), ("n", NUMBER), ("sources", NUMBER), (ours(figures), NUMBER),
              (opponent, NUMBER), ("difference", NUMBER), ("Holm p", NUMBER), ("detectable", NUMBER), ("verdict", WORD)], rows)])


def mistakes(figures: Figures) -> Section:
    run = figures["systems"][subject(figures)]["runs"][0]
    if not any(run["confusion"].values()):
        return Section("Mistakes", [])
    where = f" ({seed_of(run)})" if run["seed"] is not None else ""
    worst = frequent_mistakes(run["confusion"])
    return Section("Mistakes", [
        Plot("confusion", f"What {ours(figures)}{where} mistook for what, one map per job: a row is the "
                          "reference, a column the answer, a number counts cases, and the shade is its share of the row. "
                          "A good system fills the diagonal; failures have a column of their own."),
        *([Table(f"The most frequent mistakes of {ours(figures)}{where}", [("job", WORD), ("reference", WORD), ("answer", WORD),
                 ("cases", NUMBER), ("cases with this reference", NUMBER)],
                 [[code(job), code(gold), code(said), tally(n), tally(of)] for job, gold, said, n, of in worst])] if worst else [])])


def frequent_mistakes(confusion: dict[str, Any], most: int = 10) -> list[tuple[str, str, str, int, int]]:
    """(job, reference, answer, cases, cases with this reference), the most frequent first."""
    wrong = [(job, gold, said, n, sum(row.values())) for job, table in confusion.items() for gold, row in table.items()
             for said, n in row.items() if said != gold]
    return sorted(wrong, key=lambda m: (-m[3], m[:3]))[:most]


# -- failures, controls ---------------------------------------------------------------------------------------------------


def failures(figures: Figures) -> Section:
    rows = []
    for name, system in figures["systems"].items():
        for run in system["runs"]:
            times = run["latency_ms"] or {}
            rows.append([code(name), ABSENT if run["seed"] is None else str(run["seed"]), *(tally(run["status"][s]) for s in STATUSES),
                         *(milliseconds(times.get(p)) for p in ("p50", "p95", "p99")), tally(times.get("n"))])
    timed = any(run["latency_ms"] for s in figures["systems"].values() for run in s["runs"])
    return Section("Failures and latency", [
        "Every test case is in exactly one of the first five columns, and time-outs and unparseable answers are inside every denominator, "
        "cold starts included. \"gated\" cases are answered by the task's own rules before any system is asked, alike for all systems.",
        *([Plot("latency", "Milliseconds per case on a logarithmic scale: the marker is the median, the thick line reaches the 95th and "
                           "the thin one the 99th percentile. Gated cases have no latency.")] if timed else []),
        Table("Status of every case, and latency percentiles in milliseconds",
              [("system", WORD), ("seed", NUMBER), *((s, NUMBER) for s in STATUSES), ("p50 ms", NUMBER), ("p95 ms", NUMBER),
               ("p99 ms", NUMBER), ("timed", NUMBER)], rows)])


def controls(figures: Figures) -> Section:
    if not figures["controls"]:
        return Section("Controls", ["No control was run: nothing here shows that the evaluation itself does not leak."])
    primary, jobs, verdicts = [], [], []
    for c in figures["controls"]:
        p = c["primary"]
        primary.append([code(c["system"]), code(c["against"]) if c["against"] else ABSENT, number(p["value"]), number(p["chance"]),
                        signed(p.get("difference")), p_value(p.get("p")), bold(c["verdict"])])
        jobs += [[code(c["system"]), code(job), number(t["correct"]), number(t["chance"]), p_value(t["p_holm"]), number(t["detectable"]),
                  t["verdict"]] for job, t in c["jobs"].items()]
        verdicts.append(f"{code(c['system'])}: **{c['verdict'] or 'cannot tell'}**")
    rule = "McNemar over the jobs" if jobs else "the paired bootstrap of the primary metric"
    beside = (" The primary metric is told beside it and not judged: a mean over labels, such as macro-F1, lies above that of a constant answer "
              "as soon as answers vary.") if jobs else ""
    return Section("Controls", [
        f"A control is trained or built to be wrong, and must not beat chance. {listed(verdicts)}, judged by {rule}. \"At chance\" means that "
        "no leak was found, not that there is none: the detectable difference says how large a leak would have been seen."
        + beside,
        Table(f"Controls on {code(figures['primary'])}", [("control", WORD), ("chance is", WORD), ("control's value", NUMBER),
              ("chance", NUMBER), ("difference", NUMBER), ("p", NUMBER), ("verdict of the control", WORD)], primary),
        *([Table("Controls per job", [("control", WORD), ("job", WORD), ("correct", NUMBER), ("chance", NUMBER), ("Holm p", NUMBER),
                 ("detectable", NUMBER), ("against chance", WORD)], jobs)] if jobs else [])])
