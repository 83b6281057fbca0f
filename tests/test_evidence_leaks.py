import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scionwood.errors import UserError
from scionwood.evidence.leaks import GRAM, check_splits, fold, grams
from scionwood.task import Case

WORDS = "the a river stone badge number keep bread train seven window paper north winter green cup".split()


def case(name, source, text):
    return Case(name, source, "job", {"text": text}, None)


def check(train, test, **kw):
    lines = []
    splits = {"train": train, "test": test}
    return check_splits(splits, lambda c: c.input["text"], lines.append, **kw), lines


def plain(a, b):
    a, b = set(grams(fold(a))), set(grams(fold(b)))
    return len(a & b) / len(a | b)


def test_a_shared_source_is_named_with_both_cases():
    with pytest.raises(UserError, match=r"source 's'.*train.*'a1'.*test.*'b1'"):
        check([case("a1", "s", "one text"), case("a2", "s", "two")], [case("b1", "s", "something else")])


def test_a_near_duplicate_is_named_with_both_cases():
    text = "Please remember that the garage in Lyon gave me badge number 2287 on Monday."
    with pytest.raises(UserError, match=r"'b1' of test.*'a1' of train"):
        check([case("a1", "s", text)],
              [case("b0", "t", "quite another story"), case("b1", "t", text.replace("Monday", "monday!"))])


def test_case_blanks_and_normal_form_do_not_hide_a_duplicate():
    with pytest.raises(UserError, match="nearly repeats"):
        check([case("a", "s", "Café  au\nlait, please")], [case("b", "t", "cafe\u0301 au lait, please")])


def test_short_texts_are_compared_whole():
    with pytest.raises(UserError):
        check([case("a", "s", "ok")], [case("b", "t", "OK")])
    report, _ = check([case("a", "s", "ok")], [case("b", "t", "no")])
    assert report["highest"] is None


def test_empty_texts_are_not_duplicates():
    report, lines = check([case("a", "s", " ")], [case("b", "t", "")])
    assert report["pairs"] == 0 and "none alike" in lines[0]


def test_duplicates_within_a_split_are_no_leak():
    check([case("a", "s", "the same text"), case("b", "s", "the same text")], [case("c", "t", "another one")])


def test_the_report():
    report, lines = check([case("a", "s", "a badge for the garage"), case("b", "u", "seven cups of tea")],
                          [case("c", "t", "a badge for the garden"), case("d", "t", "winter")])
    assert report == {"sources": {"train": 2, "test": 1}, "cases": {"train": 2, "test": 2}, "pairs": 4, "threshold": .8,
                      "highest": {"similarity": round(plain("a badge for the garage", "a badge for the garden"), 6),
                                  "cases": ["a", "c"]}}
    assert "a and c" in lines[0]


def test_the_threshold_is_a_parameter():
    with pytest.raises(UserError):
        check([case("a", "s", "a badge for the garage")], [case("b", "t", "a badge for the garden")], threshold=.5)


def test_every_pair_of_splits_is_compared():
    splits = {"train": [case("a", "s", "apples")], "dev": [case("b", "t", "winter coat")],
              "test": [case("c", "u", "Winter coat")]}
    with pytest.raises(UserError, match="'c' of test.*'b' of dev"):
        check_splits(splits, lambda c: c.input["text"], lambda line: None)


TEXTS = st.lists(st.text("ab é", max_size=12), min_size=1, max_size=5)


@given(TEXTS, TEXTS)
def test_the_products_agree_with_sets(train, test):
    pairs = [plain(a, b) for a in train for b in test if fold(a) and fold(b)]
    cases = [[case(f"{side}{i}", side, t) for i, t in enumerate(ts)] for side, ts in (("a", train), ("b", test))]
    report, _ = check(*cases, threshold=1.1)
    highest = report["highest"]["similarity"] if report["highest"] else 0
    assert highest == pytest.approx(max(pairs, default=0), abs=1e-6)


@given(st.text(max_size=20))
def test_grams_have_five_characters_or_are_the_whole(text):
    assert all(len(g) == GRAM for g in grams(text)) or grams(text) == [text]


def test_three_thousand_texts_are_quick():
    rng = random.Random(0)
    cases = [case(f"c{i}", f"s{i}", " ".join(rng.choices(WORDS, k=25))) for i in range(3000)]
    start = time.process_time()
    report, _ = check(cases[:2000], cases[2000:])
    assert report["pairs"] == 2_000_000
    assert time.process_time() - start < 10
