"""A small duel of recorded answers, and what the tests of duels share."""

from __future__ import annotations

import json
import random
from pathlib import Path

from scionwood.tasks.lantern.duel.run import Plan, hold

OPEN = [
    "Why do people wave at trains?",
    "My dog died. What shall I do with his bowl?",
    "What do tides and gossip share?",
    "What is it like to forget a word?",
    "Who owns a shadow at noon?",
    "What does a closed door ask of a guest?",
]
TASKS = [
    *(
        {"id": f"o-{i}", "kind": ("insight", "empathy", "synthesis", "phenomenology", "insight", "synthesis")[i], "prompt": p}
        for i, p in enumerate(OPEN)
    ),
    {
        "id": "f-0",
        "kind": "fact",
        "prompt": "Which town is the seat of the French government?",
        "accept": ["Paris"],
        "reject": ["not Paris"],
    },
    {"id": "a-0", "kind": "analysis", "prompt": "What is 3.5 plus 3.5, in a word or a figure?", "accept": ["7", "seven"]},
]
WORDS = """amber basket candle door engine feather garden hammer island jacket kettle ladder mirror needle orange pillow quarry river saddle
tunnel umbrella valley window yarn anchor bridge copper desert ember forest gravel harbour ivory jungle kernel lantern meadow nectar oyster
pebble quilt ribbon shadow thimble urchin violet willow zephyr acorn beacon cellar dagger elbow falcon""".split()


def write(path: Path, rows) -> Path:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), "utf-8")
    return path


def prose(seed, words: int = 70, vocabulary: int = 60) -> str:
    """Sentences of eight words or so, drawn from the first ``vocabulary`` words."""
    chance, out = random.Random(str(seed)), []
    for i in range(words):
        word = chance.choice(WORDS[:vocabulary])
        out.append((word.capitalize() if i % 8 == 0 else word) + ("." if i % 8 == 7 or i == words - 1 else ""))
    return " ".join(out)


def recorded(path: Path, vocabulary: int, right: bool, samples: int = 2, **failed) -> Path:
    """Answers to ``TASKS``; ``failed`` maps a task's id (with _ for -) to a status."""
    rows = []
    for t in TASKS:
        for k in range(samples):
            text = {"f-0": "It is Paris." if right else "It is Lyon.", "a-0": f"It makes {'7' if right else '8.7'}. {prose(k)}"}.get(
                t["id"], prose(f"{path.name}{t['id']}{k}", vocabulary=vocabulary)
            )
            status = failed.get(t["id"].replace("-", "_"), "ok")
            rows.append({"task": t["id"], "text": text if status == "ok" else "", "status": status})
    return write(path, rows)


def small_duel(folder: Path, samples: int = 2, **plan):
    """A duel of two contestants with recorded answers: one says much in few words, the other has many."""
    folder.mkdir(parents=True, exist_ok=True)
    tasks = write(folder / "t.jsonl", TASKS)
    poor, rich = (
        recorded(folder / "poor-llama-model.jsonl", 12, False, samples),
        recorded(folder / "rich-qwen-model.jsonl", 60, True, samples),
    )
    lines: list[str] = []
    value = hold([str(poor), str(rich)], folder / "duel", Plan(tasks=tasks, samples=samples, words=60, **plan), lines.append)
    return folder / "duel", value, lines
