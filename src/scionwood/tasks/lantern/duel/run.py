"""A duel from contestants to report: checked, asked, judged and told. Killed anywhere, the same command goes on."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

from scionwood import files
from scionwood.errors import UserError
from scionwood.files import read_json
from scionwood.run import Run
from scionwood.tasks.lantern.duel import decontaminate, judge, results
from scionwood.tasks.lantern.duel.asking import Backend, ask, open_backend
from scionwood.tasks.lantern.duel.contestants import RUN, Contestant, Sampling, from_row, parse, parse_one
from scionwood.tasks.lantern.duel.pairs import pairs
from scionwood.tasks.lantern.duel.questions import Question, read_questions
from scionwood.tasks.lantern.duel.reading import LEAKS, LOCK, TASKS, asked_of, journal_path, read_duel
from scionwood.training.monitors import Progress

VERSION = 1
# Published test prompts that paraphrased training prompts had 0.72 to 1.00; the next closest pair of all had 0.29.
NEAR = 0.5


@dataclass(frozen=True)
class Plan:
    """What a duel is held with. ``words``: the one length; ``note`` follows every prompt; ``judges`` are endpoints."""

    tasks: Path | None = None
    lang: str = "en"
    samples: int = 4
    words: int = 150
    seed: int = 0
    note: str = ""
    sampling: Sampling = Sampling()
    near: float = NEAR
    allow_leaks: bool = False
    judges: Sequence[str] = ()


def hold(texts: Sequence[str], out: Path, plan: Plan, say: Callable[[str], None]) -> dict[str, Any]:
    """Hold a duel in a folder and return the value of duel.json."""
    contestants = parse(texts, plan.sampling)
    if len(contestants) < 2:
        raise UserError("a duel needs two contestants or more, for example: scion lantern duel embedded runs/lantern --out duels/first")
    judges = [parse_one(j, Sampling()) for j in plan.judges]
    for j in judges:
        judge.endpoint_of(j)
    questions = read_questions(plan.tasks, plan.lang)
    with Run(out, say).lock():
        leaks = decontaminate.search(questions, decontaminate.shipped() + decontaminate.of_runs(contestants), plan.near)
        say(told_leaks(leaks, len(questions)))
        decontaminate.refuse(leaks, plan.allow_leaks)
        backends = [open_backend(c, say) for c in contestants]
        lock = locked(out, plan, contestants, backends, judges)
        write_tasks(out, questions)
        files.write_json(Path(out) / LEAKS, leaks)
        files.write_json(Path(out) / LOCK, lock)
        answer_all(out, lock, questions, contestants, backends, say)
        judge_all(out, judges, say)
        return results.write(out, say)


def go_on(out: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Go on with a duel as it was locked, and tell it anew."""
    duel = read_duel(out)
    with Run(out, say).lock():
        backends = [open_backend(c, say) for c in duel.contestants]
        for c, b, row in zip(duel.contestants, backends, duel.lock["contestants"]):
            if b.identity != row["identity"]:
                raise UserError(
                    f"contestant '{c.name}': {c.what} is not what it was when the duel was locked; "
                    "name all contestants again to hold it anew"
                )
        answer_all(out, duel.lock, duel.questions, duel.contestants, backends, say)
        judge_all(out, [from_row(row) for row in duel.lock["judges"].values()], say)
        return results.write(out, say)


def locked(
    out: Path, plan: Plan, contestants: Sequence[Contestant], backends: Sequence[Backend], judges: Sequence[Contestant]
) -> dict[str, Any]:
    """All that the answers and the report follow from. Judges of an earlier call stay."""
    path = Path(out) / LOCK
    before = read_json(path).get("judges", {}) if path.is_file() else {}
    return {
        "version": VERSION,
        "name": Path(out).resolve().name,
        "samples": plan.samples,
        "words": plan.words,
        "seed": plan.seed,
        "note": plan.note.replace("{words}", str(plan.words)),
        "lang": plan.lang,
        "allow_leaks": plan.allow_leaks,
        "contestants": [{"contestant": c.row(), "identity": b.identity} for c, b in zip(contestants, backends)],
        "exports": exported(contestants),
        "judges": before | {j.name: j.row() for j in judges},
    }


def exported(contestants: Sequence[Contestant]) -> dict[str, list[str]]:
    """The hashes of the GGUF files that each run has exported of the very adapter that takes part: a sidecar tells such a hash."""
    found = {}
    for c in contestants:
        path = Path(c.what).expanduser() / "export" / "serving.json"
        if c.kind == RUN and path.is_file():
            about = read_json(path)
            if c.part in ("", about.get("adapter")):
                found[c.name] = [f["sha256"] for kind, f in sorted(about.get("files", {}).items()) if kind.startswith("gguf:")]
    return found


def write_tasks(out: Path, questions: Sequence[Question]) -> None:
    """The tasks into the folder, so that it can be told anew without anything from elsewhere."""
    files.write_jsonl(Path(out) / TASKS, [q.model_dump(mode="json", exclude_defaults=True) for q in questions])


def answer_all(
    out: Path,
    lock: dict[str, Any],
    questions: Sequence[Question],
    contestants: Sequence[Contestant],
    backends: Sequence[Backend],
    say: Callable[[str], None],
) -> None:
    """Every contestant's missing answers, one contestant after the other: only one model is in memory at a time."""
    asked = asked_of(lock, list(questions))
    for contestant, backend in zip(contestants, backends):
        with counting(contestant.name, len(asked), say) as count:
            new = ask(contestant, backend, asked, journal_path(out, contestant.name), count)
        backend.close()
        say(f"{contestant.name}: {len(asked)} answers, {new} of them new")


def judge_all(out: Path, judges: Sequence[Contestant], say: Callable[[str], None]) -> None:
    """What each judge has not said yet."""
    plan = pairs(read_duel(out)) if judges else []
    for j in judges:
        open_ones = sum(not p.settled for p in plan)
        say(f"{j.name}: judges {open_ones} pairs in both orders")
        with counting(j.name, 2 * open_ones, say) as count:
            judge.judge_all(j, plan, out, count)


def told_leaks(leaks: dict[str, Any], tasks: int) -> str:
    """What decontamination found, in one line."""
    highest = leaks["highest"]
    closest = f", the closest {highest['similarity']:.2f} ({highest['task']} and {highest['source']})" if highest else ""
    found = f"{len(leaks['found'])} near-duplicates" if leaks["found"] else "no near-duplicate"
    return f"decontamination: {tasks} tasks against {leaks['texts']} training texts: {found} (limit {leaks['near']:g}){closest}"


@contextlib.contextmanager
def counting(name: str, total: int, say: Callable[[str], None]) -> Iterator[Callable[[int], None]]:
    """Progress of so many answers: give the function how many more are done."""
    bar, done = Progress(name, total, say), 0

    def more(n: int) -> None:
        nonlocal done
        done += n
        if n:
            bar({"step": done})

    try:
        yield more
    finally:
        bar.close()
