"""Leaks between splits: a source that stands in two of them, or a text that nearly repeats one."""

from __future__ import annotations

import itertools
import unicodedata
from typing import Any, Callable, Mapping, Sequence

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer

from scionwood.errors import UserError
from scionwood.task import Case

GRAM = 5  # characters
THRESHOLD = 0.8
BLOCK = 512  # rows compared at a time: a block's products with 10,000 texts fit in about 60 MB


def check_splits(cases_by_split: Mapping[str, Sequence[Case]], text_of: Callable[[Case], str], log: Callable[[str], None], *,
                 threshold: float = THRESHOLD) -> dict[str, Any]:
    """Refuse splits that leak; say what was looked at.

    ``text_of`` gives all text of a case that a model could remember, without what every case shares (the system prompt).
    Raises UserError with both cases' ids where two splits share a source, or where texts of two splits have a character
    5-gram Jaccard similarity of at least ``threshold``. Returns, for the card:
    {"sources": {split: n}, "cases": {split: n}, "pairs": n, "threshold": t, "highest": {"similarity": s, "cases": [a, b]}},
    with highest None where nothing could be compared.
    """
    _check_sources(cases_by_split)
    cases = {split: [c for c in cs if fold(text_of(c))] for split, cs in cases_by_split.items()}
    matrices = _grams_of({split: [fold(text_of(c)) for c in cs] for split, cs in cases.items()})
    pairs, highest = 0, None
    for a, b in itertools.combinations(cases, 2):
        pairs += len(cases[a]) * len(cases[b])
        for i, j, similarity in _closest(matrices[a], matrices[b]):
            one, other = cases[a][i], cases[b][j]
            if similarity >= threshold:
                raise UserError(
                    f"leak: case '{other.id}' of {b} nearly repeats case '{one.id}' of {a} (similarity {similarity:.2f}, limit "
                    f"{threshold:g}); remove one of them, or move both sources ('{other.source}', '{one.source}') to one split")
            if highest is None or similarity > highest["similarity"]:
                highest = {"similarity": round(similarity, 6), "cases": [one.id, other.id]}
    closest = f"the closest {highest['similarity']:.2f} ({' and '.join(highest['cases'])})" if highest else "none alike"
    log(f"splits: no source in two of them; {pairs} pairs of texts compared, {closest}")
    return {
        "sources": {split: len({c.source for c in cs}) for split, cs in cases_by_split.items()},
        "cases": {split: len(cs) for split, cs in cases_by_split.items()},
        "pairs": pairs, "threshold": threshold, "highest": highest,
    }


def fold(text: str) -> str:
    """The form in which texts are compared: Unicode NFC, lower case, every run of blanks one space."""
    return " ".join(unicodedata.normalize("NFC", text).lower().split())


def grams(text: str) -> list[str]:
    """The character 5-grams of a folded text; a shorter text is its own only gram."""
    return [text[i:i + GRAM] for i in range(max(1, len(text) - GRAM + 1))]


def _check_sources(cases_by_split: Mapping[str, Sequence[Case]]) -> None:
    seen: dict[str, tuple[str, Case]] = {}
    for split, cases in cases_by_split.items():
        for case in cases:
            where, first = seen.setdefault(case.source, (split, case))
            if where != split:
                raise UserError(f"leak: source '{case.source}' stands in {where} (case '{first.id}') and in {split} "
                                f"(case '{case.id}'); move all its cases to one split")


def _grams_of(texts: dict[str, list[str]]) -> dict[str, csr_matrix]:
    """One binary matrix [texts, grams] per split, all over the same grams."""
    everything = [t for ts in texts.values() for t in ts]
    if not everything:
        return {split: csr_matrix((0, 0), dtype=np.float32) for split in texts}
    # float32 counts exactly to 16 million grams, and scipy multiplies it fastest
    matrix = CountVectorizer(analyzer=grams, binary=True, dtype=np.float32).fit_transform(everything)
    ends = list(itertools.accumulate((len(ts) for ts in texts.values()), initial=0))
    return {split: matrix[start:end] for split, start, end in zip(texts, ends, ends[1:])}


def alike_pairs(texts: Sequence[str], threshold: float) -> list[tuple[int, int, float]]:
    """All pairs (i, j, similarity) of ``texts`` with i < j that are alike by ``threshold`` or more, in order; an empty text is like none."""
    kept = [i for i, t in enumerate(texts) if fold(t)]
    matrix = _grams_of({"all": [fold(texts[i]) for i in kept]})["all"]
    found = []
    for rows, columns, similarity in _similarities(matrix, matrix):
        close = (rows < columns) & (similarity >= threshold)
        found += [(kept[i], kept[j], float(s)) for i, j, s in zip(rows[close], columns[close], similarity[close])]
    return sorted(found)


def _similarities(a: csr_matrix, b: csr_matrix):
    """Yield, for each block of a's rows, (rows of a, rows of b, Jaccard similarities) of the pairs that share a gram."""
    sizes_a, sizes_b = a.getnnz(axis=1), b.getnnz(axis=1)
    for start in range(0, a.shape[0], BLOCK):
        shared = (a[start:start + BLOCK] @ b.T).tocoo()
        if shared.nnz:
            rows = start + shared.row
            yield rows, shared.col, shared.data / (sizes_a[rows] + sizes_b[shared.col] - shared.data)


def _closest(a: csr_matrix, b: csr_matrix):
    """Yield (row of a, row of b, Jaccard similarity) of the closest pair in each block of a's rows."""
    for rows, columns, similarity in _similarities(a, b):
        best = int(np.argmax(similarity))
        yield int(rows[best]), int(columns[best]), float(similarity[best])


def input_text(case: Case) -> str:
    """All text of a case's input, for the search for near-duplicates."""

    def strings(value):
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            for k, v in value.items():
                if not k.endswith(("_at", "_time", "_from")):
                    yield from strings(v)
        elif isinstance(value, list):
            for v in value:
                yield from strings(v)

    return "\n".join(strings(case.input))
