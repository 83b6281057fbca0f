"""The texts that ship, their clusters, and splits that share neither an author nor a near-duplicate."""

import dataclasses
import json
from collections import Counter

import pytest

from scionwood.errors import UserError
from scionwood.evidence.leaks import alike_pairs, fold, grams
from scionwood.tasks.nla import texts
from scionwood.tasks.nla.texts import CATEGORIES, Text, clusters, load_texts, splits



def some(n: int, author: str = "p", offset: int = 0) -> list[Text]:
    """Texts that share hardly a character 5-gram."""
    import random

    out = []
    for i in range(n):
        draw = random.Random(f"{author}{i + offset}")
        said = [" ".join("".join(draw.choice("abcdefghijklmnoprstuvwz") for _ in range(6)) for _ in range(9)) for _ in range(3)]
        out.append(Text(f"{author}-{i:03}", author, CATEGORIES[i % 8], "zh" if i % 5 == 0 else "en", *said))
    return out


@pytest.fixture(scope="module")
def shipped() -> list[Text]:
    return load_texts()


def test_the_shipped_texts_are_whole(shipped):
    assert {t.category for t in shipped} == set(CATEGORIES) and {t.lang for t in shipped} == {"en", "zh"}
    assert len({t.id for t in shipped}) == len(shipped) >= 480
    assert len({t.author for t in shipped}) >= 2


def test_shipped_splits_share_no_author_no_cluster_and_no_near_duplicate(shipped):
    found = splits(shipped)
    cluster = clusters(shipped)
    authors = {name: {t.author for t in ts} for name, ts in found.items()}
    assert not authors["test"] & (authors["train"] | authors["dev"])
    inside = {name: {cluster[t.id] for t in ts} for name, ts in found.items()}
    assert not inside["train"] & inside["dev"] and not inside["test"] & (inside["train"] | inside["dev"])
    assert Counter(t.category for t in found["dev"]).keys() == set(CATEGORIES)
    flat = [(name, t) for name, ts in found.items() for t in ts]
    for field in ("text", "description", "summary"):
        for i, j, _ in alike_pairs([getattr(t, field) for _, t in flat], texts.ALIKE):
            assert flat[i][0] == flat[j][0], (flat[i][1].id, flat[j][1].id)


def test_variants_share_a_cluster_also_through_others():
    a, b, c, d = some(4)
    long = a.text
    b = dataclasses.replace(b, text=long + " and more of it")
    c = dataclasses.replace(c, text=long + " and more of it, and still more beyond that")
    assert clusters([a, b, c, d]) == {a.id: a.id, b.id: a.id, c.id: a.id, d.id: d.id}


def test_one_description_for_two_texts_is_one_cluster():
    a, b, c = some(3)
    assert clusters([a, dataclasses.replace(b, description=a.description.upper()), c])[b.id] == a.id
    assert clusters([a, b, dataclasses.replace(c, summary=b.summary + "!")])[c.id] == b.id


def test_alike_pairs_are_those_of_the_plain_definition():
    given = [fold(t.text) for t in some(6)] + ["", "the ferry was late again today", "The ferry  was late again, today", "ok", "OK"]

    def jaccard(a, b):
        a, b = set(grams(fold(a))), set(grams(fold(b)))
        return len(a & b) / len(a | b)

    pairs = [(i, j) for i in range(len(given)) for j in range(i + 1, len(given)) if given[i] and given[j]]
    want = [(i, j) for i, j in pairs if jaccard(given[i], given[j]) >= 0.5]
    got = alike_pairs(given, 0.5)
    assert [(i, j) for i, j, _ in got] == want == [(7, 8), (9, 10)]
    assert all(s == pytest.approx(jaccard(given[i], given[j])) for i, j, s in got)
    assert alike_pairs([], 0.5) == []


def test_the_test_author_can_be_named_and_is_the_smallest_else():
    every = some(60, "a") + some(40, "b") + some(40, "c")
    assert {t.author for t in splits(every)["test"]} == {"c"}
    assert {t.author for t in splits(every, test_author="a")["test"]} == {"a"}
    with pytest.raises(UserError, match="author 'x'.*a, b, c"):
        splits(every, test_author="x")
    with pytest.raises(UserError, match="one more"):
        splits(some(10))


def test_a_cluster_across_the_border_leaves_training():
    every = some(40, "a") + some(20, "b")
    every[3] = dataclasses.replace(every[3], text=every[45].text + ".")
    every[4] = dataclasses.replace(every[4], text=every[3].text + "!")
    found = splits(every)
    left = {t.id for name in ("train", "dev") for t in found[name]}
    assert len(found["test"]) == 20 and left == {t.id for t in every[:40]} - {every[3].id, every[4].id}


def test_dev_holds_whole_clusters_and_its_share_of_each_kind():
    every = some(160, "a") + some(20, "b")
    every[8] = dataclasses.replace(every[8], text=every[0].text + " x")
    found = splits(every, dev_share=0.25)
    names = {name: {t.id for t in ts} for name, ts in found.items()}
    assert (every[0].id in names["dev"]) == (every[8].id in names["dev"])
    counts = Counter(t.category for t in found["dev"])
    assert all(4 <= counts[c] <= 6 for c in CATEGORIES)
    assert names == {n: {t.id for t in ts} for n, ts in splits(every, dev_share=0.25).items()}
    assert names["dev"] != {t.id for t in splits(every, dev_share=0.25, seed=1)["dev"]}


def test_leaving_a_category_out():
    found = texts.without_category({"train": some(16), "dev": some(8), "test": some(16, "b")}, "warm")
    assert {t.category for t in found["test"]} == {"warm"}
    assert "warm" not in {t.category for name in ("train", "dev") for t in found[name]}
    assert len(found["train"]) == 14


def write(folder, rows):
    (folder / "texts").mkdir(exist_ok=True)
    (folder / "texts" / "p.jsonl").write_text("\n".join(json.dumps(r) for r in rows), "utf-8")
    return folder


@pytest.mark.parametrize("change, message", [
    ({"category": "euphorik"}, "category 'euphorik' is not known; did you mean 'euphoric'"),
    ({"lang": "de"}, "lang 'de'"),
    ({"summary": " "}, "'summary' is missing or empty"),
    ({"description": 3}, "'description' is missing or empty"),
    ({"sumary": "x"}, "unknown key 'sumary'; did you mean 'summary'"),
    ({"id": "p-000"}, "'p-000' stands already in .*text 1"),
])
def test_a_bad_line_is_named(tmp_path, change, message):
    rows = [dataclasses.asdict(t) for t in some(2)]
    with pytest.raises(UserError, match=rf"p\.jsonl, text 2: .*{message}"):
        load_texts(write(tmp_path, [rows[0], rows[1] | change]))


def test_folders(tmp_path):
    with pytest.raises(UserError, match="no .*jsonl"):
        load_texts(tmp_path)
    rows = [dataclasses.asdict(t) for t in some(3)]
    (tmp_path / "own.jsonl").write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in rows), "utf-8")
    assert load_texts(tmp_path) == some(3)
