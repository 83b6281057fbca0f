import pytest
from hypothesis import given
from hypothesis import strategies as st

from scionwood.evidence.metrics import macro_f1
from scionwood.task import Case, ScoredRow


def rows(pairs):
    return [ScoredRow(Case(f"c{i}", "s", "job", {}, gold), said, "ok" if said else "invalid", {})
            for i, (gold, said) in enumerate(pairs)]


def test_by_hand():
    # a: TP 1, FN 1 -> 2/3; b: TP 1, FP 1 -> 2/3
    assert macro_f1(rows([("a", "a"), ("a", "b"), ("b", "b")])) == pytest.approx(2 / 3)
    assert macro_f1(rows([("a", None)])) == 0
    assert macro_f1([]) is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["a", "b", "c", "d", None])), min_size=1))
def test_as_scikit_learn_over_the_labels_of_the_references(pairs):
    from sklearn.metrics import f1_score

    gold, said = zip(*((g, s or "(failed)") for g, s in pairs))
    wanted = f1_score(gold, said, labels=sorted(set(gold)), average="macro", zero_division=0)
    assert macro_f1(rows(pairs)) == pytest.approx(wanted)
    assert macro_f1(rows(pairs[::-1])) == macro_f1(rows(pairs))
