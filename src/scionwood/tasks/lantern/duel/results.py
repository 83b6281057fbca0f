"""From a duel's folder to duel.json, README.md and report.html: everything is computed from the files, and so it can be computed again."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Iterator

from scionwood import files
from scionwood.errors import UserError
from scionwood.evidence.verify import check_figures, check_rendered
from scionwood.files import file_hash, read_json
from scionwood.tasks.lantern.duel import power, preferences, scoring
from scionwood.tasks.lantern.duel.judge import judge_path, judgements
from scionwood.tasks.lantern.duel.pairs import pairs
from scionwood.tasks.lantern.duel.questions import by_kind
from scionwood.tasks.lantern.duel.reading import LEAKS, LOCK, RATINGS, TASKS, Duel, journal_path, read_duel
from scionwood.tasks.lantern.duel.store import read_ratings

DUEL, CARD, REPORT = "duel.json", "README.md", "report.html"


def compute(folder: Path) -> dict[str, Any]:
    """The value of duel.json. Nothing but the folder's own files has a part in it."""
    duel = read_duel(folder)
    scored, plan = scoring.rows(duel), pairs(duel)
    lock = duel.lock
    return {
        "version": lock["version"],
        "name": lock["name"],
        "settings": {k: lock[k] for k in ("samples", "words", "seed", "note", "lang")},
        "contestants": [{**row["contestant"], "identity": row["identity"]} for row in lock["contestants"]],
        "tasks": {"count": len(duel.questions), "kinds": by_kind(duel.questions), "sha256": file_hash(duel.folder / TASKS)},
        "leaks": read_json(duel.folder / LEAKS),
        "answers": scoring.told_answers(duel),
        "figures": scoring.figures(scored),
        "comparisons": scoring.comparisons(scored),
        "prose": scoring.prose(duel.words),
        "pairs": {"planned": len(plan), "settled": sum(bool(p.settled) for p in plan)},
        "design": {"tasks": power.told(len(duel.questions)), "comparisons": power.told(len(duel.questions) * duel.samples)},
        "edges": edges(duel),
        "ratings": rated(duel, plan),
        "judges": {name: judged(duel, plan, name) for name in lock["judges"]},
        "files": dict(hashes(duel)),
    }


def rated(duel: Duel, plan) -> dict[str, Any]:
    """What people said on the rating page."""
    choices = [(r.rater, r.pair, r.choice) for r in read_ratings(duel.folder / RATINGS)]
    votes, skipped, stale = preferences.votes_of(plan, choices)
    return preferences.told(votes, duel.names) | {"skipped": skipped, "stale": stale}


def judged(duel: Duel, plan, name: str) -> dict[str, Any]:
    """What a judge said, with what its two orders made of it."""
    said = judgements(plan, judge_path(duel.folder, name))
    votes, _, _ = preferences.votes_of(plan, [(name, j.pair, j.choice) for j in said if j.choice is not None])
    told = [j for j in said if j.choice is not None]
    return preferences.told(votes, duel.names) | {
        "asked": len(said),
        "failed": len(said) - len(told),
        "inconsistent": sum(not j.agreed for j in told),
    }


def edges(duel: Duel) -> list[dict[str, str]]:
    """GGUF files that stand beside the run that they were exported from, in this process (known by their folder) or in a sidecar
    (known by the hash of its file): what differs is what the export cost."""
    served = [
        {"run": run, "gguf": row["contestant"]["name"]}
        for row in duel.lock["contestants"]
        if row["contestant"]["kind"] == "endpoint" and (rev := row["identity"].get("model_rev"))
        for run, hashes in duel.lock.get("exports", {}).items()
        if any(h.startswith(rev) for h in hashes)
    ]
    runs = {Path(c.what).name: c.name for c in duel.contestants if c.kind == "run" and c.part != "base"}
    return [
        {"run": runs[home], "gguf": c.name}
        for c in duel.contestants
        if c.kind == "gguf"
        for home in [parent.name for parent in Path(c.what).parents]
        if home in runs
    ] + served


def hashes(duel: Duel) -> Iterator[tuple[str, str]]:
    """What the figures follow from. Ratings are a database whose bytes move with its log; their rows are counted instead."""
    names = [
        LOCK,
        TASKS,
        LEAKS,
        *(journal_path(Path(), n).as_posix() for n in duel.names),
        *(judge_path(Path(), n).as_posix() for n in duel.lock["judges"]),
    ]
    for name in names:
        if (duel.folder / name).is_file():
            yield name, file_hash(duel.folder / name)


def render(duel: dict[str, Any]) -> dict[str, str]:
    """README.md and report.html of a duel.json; the same value gives the same bytes."""
    from scionwood.tasks.lantern.duel.report import render_card, render_report

    return {CARD: render_card(duel), REPORT: render_report(duel)}


def write(folder: Path, say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Compute, and write duel.json, README.md and report.html."""
    value = compute(folder)
    for name, text in render(value).items():
        files.write_text(Path(folder) / name, text)
    files.write_json(Path(folder) / DUEL, value)
    say(f"{Path(folder) / REPORT}: written")
    return value


def verify(folder: Path) -> list[str]:
    """One line for each thing in which duel.json does not follow from the folder's files, or card and report not from it."""
    folder = Path(folder)
    recorded = read_json(folder / DUEL)
    if not isinstance(recorded, dict) or "files" not in recorded:
        raise UserError(f"{folder / DUEL}: not written by 'scion lantern duel'")
    found = [
        f"{name}: sha256: {sha} recorded, {_hash(folder / name)} found"
        for name, sha in recorded["files"].items()
        if _hash(folder / name) != sha
    ]
    return found + [
        *(line.replace("figures.json", DUEL) for line in check_figures(recorded, lambda: compute(folder))),
        *(line.replace("figures.json", DUEL) for line in check_rendered(folder, render(recorded))),
    ]


def _hash(path: Path) -> str:
    return file_hash(path) if path.is_file() else "absent"
