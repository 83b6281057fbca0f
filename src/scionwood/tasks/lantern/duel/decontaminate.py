"""Decontamination: no task of a duel may be a training prompt, or nearly one, or stand inside a training text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

from scionwood.errors import UserError
from scionwood.evidence.leaks import fold, grams
from scionwood.files import read_jsonl
from scionwood.tasks.lantern.duel.contestants import RUN, Contestant
from scionwood.tasks.lantern.duel.questions import Question

DATA = Path(__file__).resolve().parent.parent / "data"
INSIDE = 0.8  # share of a task's 5-grams that a whole training text may hold
NAMED = 12  # near-duplicates named in an error; the file has all


@dataclass(frozen=True)
class Trained:
    """A text that a contestant may have been trained on. ``prompt``: a prompt is compared as a whole, any other text is searched."""

    source: str
    text: str
    prompt: bool


def shipped(data: Path = DATA) -> list[Trained]:
    """The hand-written examples and their twins: prompts, and every text in them."""
    out = []
    for folder in ("examples", "twins"):
        for file in sorted((data / folder).glob("*.jsonl")):
            for row in read_jsonl(file):
                for key, value in row.items():
                    if isinstance(value, str) and key not in ("id", "author", "domain", "lang"):
                        out.append(Trained(f"{folder}/{file.name} {row.get('id', '')}", value, key == "prompt"))
    return out


def of_runs(contestants: Sequence[Contestant]) -> list[Trained]:
    """What the runs among the contestants were trained on: each training case's messages and its target."""
    out = []
    for folder in dict.fromkeys(c.what for c in contestants if c.kind == RUN and c.part != "base"):
        from scionwood.flow import open_flow

        task = open_flow(Path(folder).expanduser(), lambda line: None).task
        for case in (c for split in ("train", "dev") for c in task.cases(split)):
            where = f"{Path(folder).name} {case.id}"
            out += [Trained(where, m["content"], m["role"] == "user") for m in task.messages(case)]
            out.append(Trained(where, task.target(case), False))
    return out


def search(questions: Sequence[Question], trained: Sequence[Trained], near: float) -> dict[str, Any]:
    """Every task that nearly repeats a training prompt (character 5-gram Jaccard similarity of ``evidence/leaks.py``, from ``near``), or
    most of whose 5-grams stand in one training text (from ``INSIDE``).

    Returns {"texts": n, "near": t, "inside": t, "found": [{"task", "source", "similarity", "how"}...], "highest": the closest pair}.
    """
    texts = {(t.source, t.prompt, fold(t.text)) for t in trained}
    prepared = [(source, prompt, set(grams(text))) for source, prompt, text in sorted(texts) if text]
    found, highest = [], None
    for q in questions:
        own = set(grams(fold(q.prompt)))
        closest: dict[str, tuple[float, str]] = {}
        for source, prompt, other in prepared:
            shared = len(own & other)
            similarity = shared / (len(own) + len(other) - shared) if prompt else 0.0
            if prompt and (highest is None or similarity > highest["similarity"]):
                highest = {"task": q.id, "source": source, "similarity": round(similarity, 6)}
            how = (similarity, "prompt") if similarity >= near else (shared / len(own), "text") if shared >= INSIDE * len(own) else None
            if how and how > closest.get(source, (0.0, "")):
                closest[source] = how
        found += [{"task": q.id, "source": s, "similarity": round(v, 6), "how": how} for s, (v, how) in closest.items()]
    return {
        "texts": len(prepared),
        "near": near,
        "inside": INSIDE,
        "found": sorted(found, key=lambda f: (-f["similarity"], f["task"])),
        "highest": highest,
    }


def refuse(leaks: dict[str, Any], allowed: bool) -> None:
    """Stop where a task leaks, unless that is allowed."""
    found = leaks["found"]
    if found and not allowed:
        told = "; ".join(
            f"task '{f['task']}' {'nearly repeats a prompt of' if f['how'] == 'prompt' else 'stands in'} {f['source']} "
            f"({f['similarity']:.2f})"
            for f in found[:NAMED]
        )
        rest = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        raise UserError(f"leak: {told}{rest}; remove or change these tasks, or allow them with --allow-leaks (the report will name them)")
