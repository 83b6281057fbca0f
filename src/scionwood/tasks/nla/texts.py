"""The texts of the task with their descriptions and summaries: files, near-duplicate clusters, splits."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Sequence

from scionwood.errors import UserError, nearest
from scionwood.files import read_jsonl

DATA = Path(__file__).parent / "data"
CATEGORIES = ("euphoric", "dysphoric", "jailbreak", "equanimity", "normal", "hostile", "warm", "web")
LANGUAGES = ("en", "zh")
# Character 5-gram Jaccard from which two texts count as variants of one. The leak check's limit of 0.8 finds only copies; among texts
# written one by one the closest pair stays below half of this.
ALIKE = 0.3
DEV_SHARE = 0.15


@dataclass(frozen=True)
class Text:
    """One text and what a reader says of it. ``description`` is for the verbalizer; ``summary`` says the content in other words."""

    id: str
    author: str
    category: str
    lang: str
    text: str
    description: str
    summary: str


def files(folder: Path | None = None) -> list[Path]:
    """The files of texts in a data folder (``texts/*.jsonl``, or ``*.jsonl`` in it), by default those that ship."""
    folder = Path(folder) if folder else DATA
    found = sorted((folder / "texts").glob("*.jsonl")) or sorted(folder.glob("*.jsonl"))
    if not found:
        raise UserError(f"{folder}: no *.jsonl file with texts")
    return found


def load_texts(folder: Path | None = None) -> list[Text]:
    """All texts of a data folder, files in order of their names. A bad line is an error that names file, line and key."""
    out: list[Text] = []
    seen: dict[str, str] = {}
    for path in files(folder):
        for n, row in enumerate(read_jsonl(path), 1):
            where = f"{path}, text {n}"
            text = as_text(row, where)
            if text.id in seen:
                raise UserError(f"{where}: the id '{text.id}' stands already in {seen[text.id]}; give each text an id of its own")
            seen[text.id] = where
            out.append(text)
    return out


def as_text(row: dict, where: str) -> Text:
    """A row as a Text, checked."""
    known = [f.name for f in fields(Text)]
    for key in row:
        if key not in known:
            raise UserError(f"{where}: unknown key '{key}'{nearest(key, known)} (known: {', '.join(known)})")
    for key in known:
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise UserError(f"{where}: key '{key}' is missing or empty")
    for key, legal in (("category", CATEGORIES), ("lang", LANGUAGES)):
        if row[key] not in legal:
            raise UserError(f"{where}: {key} '{row[key]}' is not known{nearest(row[key], legal)} (known: {', '.join(legal)})")
    return Text(**row)


def clusters(texts: Sequence[Text], alike: float = ALIKE) -> dict[str, str]:
    """``{id: cluster}``: texts that are variants of one another, directly or through others, share a cluster, named after its first.

    Alike are texts, and also descriptions and summaries: two texts under one description would be one example twice.
    """
    return dict(_clusters(tuple(texts), alike))


@lru_cache(maxsize=2)
def _clusters(texts: tuple[Text, ...], alike: float) -> dict[str, str]:
    """Seconds for a thousand texts, and several parts of a run ask for the same."""
    from scionwood.evidence.leaks import alike_pairs

    parent = {t.id: t.id for t in texts}

    def root(i: str) -> str:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    order = {t.id: n for n, t in enumerate(texts)}
    for field in ("text", "description", "summary"):
        for a, b, _ in alike_pairs([getattr(t, field) for t in texts], alike):
            one, other = root(texts[a].id), root(texts[b].id)
            first, last = sorted((one, other), key=order.__getitem__)
            parent[last] = first
    return {t.id: root(t.id) for t in texts}


def splits(texts: Sequence[Text], *, test_author: str | None = None, dev_share: float = DEV_SHARE, seed: int = 0,
           alike: float = ALIKE) -> dict[str, list[Text]]:
    """``{"train", "dev", "test"}``: test is all of one author, of whose style nothing is trained on; dev is drawn from the others.

    The author of the test is the one named, else the one with the fewest texts (of several, the last by name). Clusters are kept
    whole: one that holds a text of the test's author leaves its other members out of training altogether. Dev takes ``dev_share``
    of each category and language, in whole clusters. The same for the same texts and seed.
    """
    counts = Counter(t.author for t in texts)
    authors = sorted(counts)
    if test_author is None:
        test_author = min(reversed(authors), key=counts.__getitem__, default="")
    if len(authors) < 2 or test_author not in authors:
        raise UserError(f"texts: to test on author '{test_author}', texts of that author and of one more are needed "
                        f"(authors: {', '.join(authors)})")
    cluster = clusters(texts, alike)
    test = [t for t in texts if t.author == test_author]
    taken = {cluster[t.id] for t in test}
    rest = [t for t in texts if cluster[t.id] not in taken]
    dev_ids = draw(rest, cluster, dev_share, seed)
    return {"train": [t for t in rest if t.id not in dev_ids], "dev": [t for t in rest if t.id in dev_ids], "test": test}


def draw(texts: Sequence[Text], cluster: dict[str, str], share: float, seed: int) -> set[str]:
    """Ids of about ``share`` of the texts of each category and language, in whole clusters, at random by ``seed``."""
    members: dict[str, list[Text]] = {}
    for t in texts:
        members.setdefault(cluster[t.id], []).append(t)
    strata: dict[tuple[str, str], list[str]] = {}
    for name, inside in members.items():  # a cluster is drawn with its first text's stratum
        strata.setdefault((inside[0].category, inside[0].lang), []).append(name)
    out: set[str] = set()
    for key in sorted(strata):
        names = sorted(strata[key])
        random.Random(f"{seed}/{key}").shuffle(names)
        wanted, got = round(share * sum(len(members[n]) for n in names)), 0
        for name in names:
            if got >= wanted:
                break
            out |= {t.id for t in members[name]}
            got += len(members[name])
    return out


def without_category(split: dict[str, list[Text]], category: str) -> dict[str, list[Text]]:
    """Leave one category out: train and dev without it, test with nothing else."""
    return {name: [t for t in texts if (t.category == category) == (name == "test")] for name, texts in split.items()}
