"""The cases: hand-written examples and their plain twins to train on, and prompts that none of them has seen to be measured on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Iterator, Sequence

from scionwood.errors import UserError
from scionwood.files import read_jsonl
from scionwood.task import Case
from scionwood.tasks.lantern.measures.words import HAN, WORD, language_of

DATA = Path(__file__).parent / "data"
EXAMPLES, TWINS, TASKS = DATA / "examples", DATA / "twins", DATA / "duel" / "tasks.jsonl"
PARTS = ("invoke", "witness", "articulate")
JOB = "write"
DEV_EVERY = 8  # every so many domains of an author's language go to the dev split
RUN_WORDS, RUN_CHARACTERS = 6, 12  # as long a run of words (of Chinese characters) in two texts is no chance


def text_of(row: dict) -> str:
    """The answer that an example shows: its three parts, with a blank line between them."""
    return "\n\n".join(row[p] for p in PARTS)


def read_examples(languages: Sequence[str] = ("en", "zh"), authors: Sequence[str] | None = None) -> list[dict]:
    """The examples that ship, each with its twin's text under "twin"."""
    files = sorted(EXAMPLES.glob("*.jsonl"))
    known = [f.stem for f in files]
    for author in authors or ():
        if author not in known:
            raise UserError(f"task lantern: authors: '{author}' wrote no examples (known: {', '.join(known)})")
    rows = []
    for file in files:
        if authors is None or file.stem in authors:
            twins = {t["id"]: t["text"] for t in read_jsonl(TWINS / file.name)}
            rows += [{**row, "twin": twins[row["id"]]} for row in read_jsonl(file) if row["lang"] in languages]
    if not rows:
        raise UserError(f"task lantern: no examples in {', '.join(languages)}; name other languages")
    return rows


def training_cases(rows: Sequence[dict]) -> dict[str, list[Case]]:
    """The splits train and dev. A domain is one source, whoever wrote of it and in whatever language, and stands in one split."""
    domains = sorted({r["domain"] for r in rows})
    dev = set(domains[DEV_EVERY // 2 :: DEV_EVERY])
    out: dict[str, list[Case]] = {"train": [], "dev": []}
    for r in rows:
        case = Case(r["id"], r["domain"], JOB, {"prompt": r["prompt"]}, {"text": text_of(r), "twin": r["twin"]}, r["lang"],
                    (f"author:{r['author']}",))
        out["dev" if r["domain"] in dev else "train"].append(case)
    return out


def test_cases(path: Path, languages: Sequence[str] = ("en", "zh")) -> list[Case]:
    """A case for each prompt of a file in these languages; each is a source of its own. Raises UserError where a row has no prompt or
    an id comes twice."""
    cases, seen = [], set()
    for n, row in enumerate(read_jsonl(path), 1):
        name, prompt = str(row.get("id") or n), row.get("prompt")
        if not isinstance(prompt, str) or not prompt.strip():
            raise UserError(f"{path}:{n}: no prompt; every line needs an id and a prompt")
        if name in seen:
            raise UserError(f"{path}:{n}: id '{name}' stands twice; give each prompt its own")
        seen.add(name)
        kind, lang = row.get("kind"), row.get("lang") or language_of(prompt)
        if lang in languages:
            cases.append(Case(name, name, JOB, {"prompt": prompt}, None, lang, (kind,) if kind else ()))
    if not cases:
        raise UserError(f"{path}: holds no prompt in {', '.join(languages)}")
    return cases


def runs_of(text: str) -> Iterator[str]:
    """Every run of ``RUN_WORDS`` words, and of ``RUN_CHARACTERS`` Chinese characters, of a text."""
    words = WORD.findall(text.lower())
    yield from (" ".join(words[i : i + RUN_WORDS]) for i in range(len(words) - RUN_WORDS + 1))
    for stretch in re.findall(f"(?:{HAN.pattern})+", text):
        yield from (stretch[i : i + RUN_CHARACTERS] for i in range(len(stretch) - RUN_CHARACTERS + 1))


def check_clean(examples: Sequence[dict], tests: Sequence[Case]) -> None:
    """Refuse a test prompt that shares a run of words with a prompt, an example or a twin that is trained on."""
    trained = {run: row["id"] for row in examples for text in (row["prompt"], text_of(row), row["twin"]) for run in runs_of(text)}
    for case in tests:
        for run in runs_of(case.input["prompt"]):
            if run in trained:
                raise UserError(f"leak: test prompt '{case.id}' shares '{run}' with the training example '{trained[run]}'; "
                                "write one of them anew")
