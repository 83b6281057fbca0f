"""Compute what ordinary prose has, by length, from a corpus: python -m scionwood.tasks.lantern.measures.make_ordinary --corpus FOLDER."""

from __future__ import annotations

import argparse
import lzma
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Iterator

import numpy as np

from scionwood import files
from scionwood.errors import UserError, run_script
from scionwood.tasks.lantern.measures import kinds
from scionwood.tasks.lantern.measures.ordinary import TABLE
from scionwood.tasks.lantern.measures.sets import jaccard
from scionwood.tasks.lantern.measures.text import measure_text
from scionwood.tasks.lantern.measures.words import WORD, splitter

LENGTHS = (10, 15, 20, 30, 40, 50, 60, 80, 100, 150, 200, 250, 300, 400, 600, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 200_000)
PASSAGES = 150  # of each source and length
BUDGET = 600_000  # words of each source and length
WITHIN = 400  # words up to which a passage comes from one document; longer ones join neighbouring documents
FEWEST = 3  # passages that a source must have to take part
IN_ALL = 20  # passages that a row must rest on: fewer have no 5 % point
PAIRS_UP_TO = 2000  # words up to which the overlap of two passages is measured
SOURCES = {
    "en": ("wikipedia_en", "wikinews_en", "short_stories_pg", "standard_ebooks", "openstax", "18f_blog", "storybooks"),
    "zh": ("wikipedia_zh", "cmrc_drcd", "vue_docs_zh"),
}
KINDS = (*kinds.TEXT, kinds.Overlap)
PROSE = {  # the passages that models are asked for their predictive entropy on: (source, how many, words or characters)
    "en": (("18f_blog", 6, 250), ("standard_ebooks", 6, 250)),
    "zh": (("opensource_guide", 6, 300),),
}
LICENCES = {"18f_blog": "CC0 1.0, 18F", "standard_ebooks": "CC0 1.0, Standard Ebooks",
            "opensource_guide": "CC BY 4.0, GitHub and contributors, https://opensource.guide (shortened)"}


def documents(corpus: Path, source: str) -> list[str]:
    """The documents of NAME.txt.xz or NAME.txt, parted by a line <|doc|>, in a fixed random order."""
    packed, plain = corpus / f"{source}.txt.xz", corpus / f"{source}.txt"
    if not packed.exists() and not plain.exists():
        raise UserError(f"{packed}: no such file; name the folder of the corpus with --corpus")
    text = lzma.open(packed, "rt", encoding="utf-8").read() if packed.exists() else plain.read_text("utf-8")
    found = [d.strip() for d in text.split("\n<|doc|>\n") if d.strip()]
    return [found[i] for i in np.random.RandomState(0).permutation(len(found))]


def passages(texts: list[str], length: int, lang: str, limit: int) -> Iterator[str]:
    """Passages of exactly ``length`` words: the middle of a document, or neighbouring documents joined where it is long."""
    pool: list[str] = []
    have = given = 0
    for text in texts:
        if given >= limit:
            return
        n = len(list(cuts(text, lang)))
        if length <= WITHIN:
            if n >= length:
                yield cut(text, (n - length) // 2, length, lang)
                given += 1
            continue
        pool.append(text)
        have += n
        if have >= length:
            yield cut("\n\n".join(pool), 0, length, lang)
            pool, have, given = [], 0, given + 1


def cuts(text: str, lang: str) -> Iterator[tuple[int, int]]:
    """Where each word begins and ends."""
    if lang != "zh":
        return (m.span() for m in WORD.finditer(text))
    import rjieba

    def spans():
        at = 0
        for word in rjieba.cut(text):
            if word[0].isalnum():
                yield at, at + len(word)
            at += len(word)

    return spans()


def cut(text: str, begin: int, length: int, lang: str) -> str:
    """The words ``begin`` to ``begin + length`` of a text with all that stands between them."""
    spans = list(cuts(text, lang))[begin : begin + length]
    return text[spans[0][0] : spans[-1][1]]


def row(by_source: dict[str, list[str]], length: int, lang: str, vocabulary: int) -> dict | None:
    """Mean, 5 % and 95 % point of every measure over the passages of one length; None where there are too few."""
    values: dict[str, list[float]] = {}
    split, used, count = splitter(lang), [], 0
    for source, texts in by_source.items():
        found = list(passages(texts, length, lang, min(PASSAGES, BUDGET // length)))
        if len(found) < FEWEST:
            continue
        used.append(source)
        count += len(found)
        for passage in found:
            for name, m in measure_text(passage, lang, vocabulary).measures.items():
                if m.value is not None:
                    values.setdefault(name, []).append(m.value)
        if length <= PAIRS_UP_TO:
            sets = [frozenset(split(p)) for p in found]
            values.setdefault(kinds.Overlap.NAME, []).extend(jaccard(a, b) for a, b in zip(sets, sets[1:]))
    if count < IN_ALL:
        return None
    figures = {k.NAME: [float(f"{x:.5g}") for x in (np.mean(values[k.NAME]), *np.percentile(values[k.NAME], [5, 95]))]
               for k in KINDS if len(values.get(k.NAME, ())) >= count / 2}
    return {"words": length, "passages": count, "sources": used, "joined": length > WITHIN, "measures": figures}


def vocabulary(by_source: dict[str, list[str]], lang: str) -> int:
    """Different words that stand at least five times in the first documents of all sources."""
    counts: Counter = Counter()
    split = splitter(lang)
    for texts in by_source.values():
        for text in texts[:2000]:
            counts.update(split(text))
    return sum(c >= 5 for c in counts.values())


def running(passage: str) -> bool:
    """Whether a passage is running text: no lists, headings, tables, code or addresses."""
    return not re.search(r"^\s*([*#|>-]|\d+[.)])|[`<>{}|]|https?:|_\w", passage, re.M)


def prose(corpus: Path) -> Iterator[dict]:
    """The passages for models, with their licences."""
    for lang, sources in PROSE.items():
        for source, count, length in sources:
            texts = [t for t in documents(corpus, source) if (lang == "zh") == ("的" in t)]
            found = (p for p in passages(texts, length, lang, len(texts)) if running(p))
            for n, passage in zip(range(count), found):
                yield {"id": f"{source}-{n}", "lang": lang, "licence": LICENCES[source], "text": passage}


def main() -> None:
    """Write the table and the passages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of NAME.txt.xz files with a MANIFEST.json")
    parser.add_argument("--out", type=Path, default=TABLE, help="the table; the passages for models, prose.jsonl, go beside it")
    args = parser.parse_args()
    manifest = files.read_json(args.corpus / "MANIFEST.json")["sources"]
    languages = {}
    for lang, sources in SOURCES.items():
        by_source = {s: documents(args.corpus, s) for s in sources}
        v, rows = vocabulary(by_source, lang), []
        for length in LENGTHS:
            if got := row(by_source, length, lang, v):
                rows.append(got)
                print(f"{lang} {length}: {got['passages']} passages of {len(got['sources'])} sources", file=sys.stderr)
        named = {s: {k: manifest[s][k] for k in ("repo", "commit", "licence", "sha256_xz") if k in manifest[s]} for s in sources}
        languages[lang] = {"source": f"ordinary prose of {len(sources)} sources ({', '.join(sources)})", "corpus": named, "vocabulary": v, "rows": rows}
    files.write_json(args.out, {
        "command": "python -m scionwood.tasks.lantern.measures.make_ordinary --corpus FOLDER",
        "about": f"mean, 5 % and 95 % point over up to {PASSAGES} passages of each source; up to {WITHIN} words each passage is the middle of "
                 f"one document, longer ones join documents; vocabulary: words that stand five times in the first 2000 documents of each source",
        "languages": languages})
    files.write_jsonl(args.out.with_name("prose.jsonl"), prose(args.corpus))


if __name__ == "__main__":
    run_script(main)
