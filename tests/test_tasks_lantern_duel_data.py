"""The duel's tasks: their form and counts, that they repeat no training text and not each other, and their answers computed again."""

import contextlib
import io
import itertools
import json
import math
import os
import re
import statistics
from collections import Counter
from datetime import date, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import pytest

from scionwood.evidence.leaks import fold, grams
from scionwood.tasks.lantern.measures.words import english_words, language_of

DATA = Path(__file__).resolve().parent.parent / "src/scionwood/tasks/lantern/data"
PUBLISHED = Path(os.environ.get("SCION_LANTERN_DATA", Path(__file__).resolve().parent.parent.parent / "shared/data/lantern"))
KINDS = ("insight", "empathy", "synthesis", "phenomenology", "fact", "analysis")
CHECKED = ("fact", "analysis")
RUN = {"en": 5, "zh": 9}  # words, or characters without punctuation: no run so long is shared
ALIKE = 0.25  # similarity of character 5-grams; training splits refuse 0.8


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


TASKS = rows_of(DATA / "duel/tasks.jsonl")
BY_ID = {t["id"]: t for t in TASKS}


def runs(text: str) -> set[tuple[str, ...]]:
    """The runs of words of a text, and those of Han characters."""
    words, han = english_words(text), re.findall(r"[\u4e00-\u9fff]", text)
    return {tuple(of[i:i + n]) for of, n in ((words, RUN["en"]), (han, RUN["zh"])) for i in range(len(of) - n + 1)}


def strings(value) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [s for v in (value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()) for s in strings(v)]


def alike(a: str, b: str) -> float:
    """The similarity by which leaks between splits are found."""
    one, other = set(grams(fold(a))), set(grams(fold(b)))
    return len(one & other) / len(one | other)


def stands_in(phrase: str, text: str) -> bool:
    """Whether a phrase stands in a text, letter case and blanks aside."""
    return fold(phrase) in fold(text)


def test_ids_kinds_and_counts():
    assert [t["id"] for t in TASKS] == [f"n-{i:03}" for i in range(1, 85)]
    assert Counter(t["kind"] for t in TASKS) == dict.fromkeys(KINDS, 14)
    assert Counter((t["kind"], t["lang"]) for t in TASKS if t["lang"] == "zh") == {(k, "zh"): 2 for k in KINDS}


@pytest.mark.parametrize("task", TASKS, ids=BY_ID)
def test_the_form_of_a_task(task):
    must = {"id", "author", "kind", "lang", "prompt"} | ({"accept", "note"} if task["kind"] in CHECKED else set())
    assert must <= set(task) <= must | ({"reject"} if task["kind"] in CHECKED else set())
    assert task["author"] == "n" and task["id"].startswith("n-")
    prompt = task["prompt"]
    assert prompt == prompt.strip() and language_of(prompt) == task["lang"]
    assert 8 <= len(prompt.split()) <= 60 if task["lang"] == "en" else 15 <= len(prompt) <= 90


@pytest.mark.parametrize("task", [t for t in TASKS if t["kind"] in CHECKED], ids=lambda t: t["id"])
def test_the_prompt_does_not_give_the_answer_away(task):
    accept, reject = task["accept"], task.get("reject", [])
    for phrase in accept + reject:
        assert isinstance(phrase, str) and phrase == phrase.strip() and phrase
        assert not stands_in(phrase, task["prompt"]), phrase
    assert len({fold(a) for a in accept}) == len(accept)
    assert not [(a, r) for a in accept for r in reject if stands_in(r, a)], "a right answer would be refused"
    assert task["note"].endswith((".", "。")) and not any(stands_in(r, task["note"]) for r in reject)


def test_no_two_tasks_are_alike():
    openings = Counter(tuple(english_words(t["prompt"])[:3]) if t["lang"] == "en" else t["prompt"][:3] for t in TASKS)
    assert max(openings.values()) == 1, openings.most_common(3)
    found = {t["id"]: runs(t["prompt"]) for t in TASKS}
    for a, b in itertools.combinations(TASKS, 2):
        assert not found[a["id"]] & found[b["id"]], (a["id"], b["id"])
        assert alike(a["prompt"], b["prompt"]) < ALIKE, (a["id"], b["id"])


def no_overlap(others: list[str]) -> None:
    known = set().union(*map(runs, others))
    for task in TASKS:
        assert not runs(task["prompt"]) & known, task["id"]


def test_nothing_is_shared_with_what_models_train_on():
    """No run of words with any part of an example, with a twin, or with the ordinary prose; and no prompt like a prompt."""
    examples = [r for path in sorted((DATA / "examples").glob("*.jsonl")) for r in rows_of(path)]
    twins = [r for path in sorted((DATA / "twins").glob("*.jsonl")) for r in rows_of(path)]
    assert len(examples) == len(twins) >= 60
    no_overlap([s for r in (*examples, *twins, *rows_of(DATA / "prose.jsonl")) for s in strings(r)])
    assert max(alike(t["prompt"], e["prompt"]) for t in TASKS for e in examples) < ALIKE


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"the published data is not there ({PUBLISHED}); name its folder in SCION_LANTERN_DATA")
def test_nothing_is_shared_with_the_published_data():
    texts = [s for path in PUBLISHED.rglob("*.jsonl") for r in rows_of(path) for s in strings(r)]
    texts += [s for path in PUBLISHED.rglob("*.json") for s in strings(json.loads(path.read_text("utf-8")))]
    assert len(texts) > 100
    no_overlap(texts)
    assert max(alike(t["prompt"], text) for t in TASKS for text in set(texts)) < ALIKE


def accepted(task: str, answer) -> None:
    assert str(answer) in BY_ID[task]["accept"], (task, answer)


def numbers(task: str) -> list[int]:
    return [int(n.replace(",", "")) for n in re.findall(r"\d[\d,]*\d|\d", BY_ID[task]["prompt"])]


@pytest.mark.parametrize("task", ["n-072", "n-082"])
def test_the_code_prints_what_is_accepted(task):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(BY_ID[task]["prompt"].split("\n\n", 1)[1], {})
    accepted(task, printed.getvalue().splitlines()[-1])


def test_sums_come_out_again():
    sheet = re.findall(r"(\d+) \| (\d+)", BY_ID["n-071"]["prompt"])
    assert len(sheet) == 4
    accepted("n-071", sum(int(baked) - int(sold) for baked, sold in sheet))
    accepted("n-074", Fraction(sum(a + b == 8 for a in range(1, 7) for b in range(1, 7)), 36))
    price, up, down = numbers("n-075")
    accepted("n-075", Fraction(price) * (100 + up) / 100 * (100 - down) / 100)
    dragon, bridge = numbers("n-077")
    accepted("n-077", dragon + bridge)
    mean, *pay = numbers("n-078")
    assert statistics.mean(pay) == mean
    accepted("n-078", round(statistics.median(pay)))
    angles = numbers("n-080")
    assert len(angles) == 4 and sum(angles) != 360
    accepted("n-080", 180 * (4 - 2))
    vehicles, wheels = numbers("n-083")
    accepted("n-083", *[n for n in range(vehicles + 1) if 3 * n + 4 * (vehicles - n) == wheels])
    first, cheap, dear, bill = numbers("n-084")
    accepted("n-084", *[n for n in range(bill) if cheap * min(n, first) + dear * max(0, n - first) == bill])


def test_dates_and_times_come_out_again():
    assert date(2024, 3, 1).strftime("%A") == "Friday"
    accepted("n-076", date(2025, 3, 1).strftime("%A"))
    start, end = (datetime.strptime(t, "%H:%M") for t in re.findall(r"\d\d:\d\d", BY_ID["n-079"]["prompt"]))
    accepted("n-079", str(end + timedelta(days=1) - timedelta(hours=3) - start)[:4])


def test_puzzles_have_one_answer():
    places = {order.index("Ben") + 1 for order in itertools.permutations(["Ana", "Ben", "Cy", "Dee", "Eve"])
              if order[0] == "Dee" and order[1] == "Ana" and order.index("Cy") < order.index("Ben") < order.index("Eve")}
    assert places == {4}
    accepted("n-073", "4th")
    sets = [set(c) for n in range(4) for c in itertools.combinations(range(3), n)]
    assert any(tenors and tenors <= bakers and bakers & owners and not tenors & owners
               for tenors, bakers, owners in itertools.product(sets, repeat=3)), "the conclusion follows"
    accepted("n-081", "does not follow")


def test_the_canal_runs_south_east():
    colon, balboa = ((float(n), -float(w)) for n, w in reversed(re.findall(r"([\d.]+) N, ([\d.]+) W", BY_ID["n-057"]["note"])))
    north, east = balboa[0] - colon[0], (balboa[1] - colon[1]) * math.cos(math.radians(colon[0]))
    bearing = math.degrees(math.atan2(east, north)) % 360
    accepted("n-057", ["north", "northeast", "east", "southeast", "south", "southwest", "west", "northwest"][round(bearing / 45) % 8])
