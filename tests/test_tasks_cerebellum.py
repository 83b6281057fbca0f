"""The memory router's task: its cases, its answers, its figures against examples worked by hand."""

import itertools
import json

import pytest

from scionwood.task import Case, Choices, Invalid, ScoredRow
from scionwood.tasks.cerebellum import answers, metrics
from scionwood.tasks.cerebellum.cases import MAX_CANDIDATES, cases_of, check_record, time_order
from scionwood.tasks.cerebellum.labels import ACTIONS, INTENTS, KINDS, RELATIONS, SKIP_KINDS, action_of, decision_of, fate_of
from scionwood.tasks.cerebellum.task import Cerebellum


@pytest.fixture(scope="module")
def task():
    return Cerebellum()


@pytest.mark.parametrize("split", ["train", "dev"])
def test_every_target_parses_back_to_its_reference(task, split):
    cases = task.cases(split)
    assert {c.job for c in cases} == {"classify", "memorize", "arbitrate"}
    for case in cases:
        text = task.target(case)
        assert task.parse(case, text) == case.reference
        assert text in task.constraint(case).texts


@pytest.mark.parametrize("split", ["train", "dev"])
def test_a_right_answer_scores_one_and_a_failure_none(task, split):
    destructive = {"false_update", "false_delete", "over_none"}
    for case in task.cases(split):
        assert task.score(case, case.reference)["correct"] == 1
        failed = task.score(case, None)
        assert failed["correct"] == 0 and all(failed.get(k, 0) == 0 for k in destructive)


def test_every_choice_parses_and_fits_the_schema():
    for job, choices in answers.CHOICES.items():
        assert isinstance(choices, Choices) and len(set(choices.texts)) == len(choices.texts)
        fields = answers.schema_of(job)["properties"]
        for text in choices.texts:
            parsed = answers.parse(Case("x", "s", job, {}, None), text)
            assert not isinstance(parsed, Invalid) and answers.text_of(job, parsed) == text
            assert all(k in fields and v in fields[k].get("enum", (True, False)) for k, v in json.loads(text).items())
    sizes = {job: len(choices.texts) for job, choices in answers.CHOICES.items()}
    assert sizes == {"classify": len(INTENTS), "memorize": 2 * len(KINDS), "arbitrate": len(RELATIONS)}


@pytest.mark.parametrize("job, text", [
    ("classify", "recall"), ("classify", "[]"), ("classify", '{"intent":"buy"}'), ("classify", '{"intent":["recall"]}'),
    ("memorize", '{"decision":"SKIP","kind":"lesson","mixed":false}'), ("memorize", '{"decision":"SAVE","kind":"lesson"}'),
    ("memorize", '{"decision":"SAVE","kind":"lesson","mixed":1}'), ("arbitrate", '{"relation":"UPDATE"}'), ("arbitrate", ""),
])
def test_what_is_no_answer_is_invalid(job, text):
    assert isinstance(answers.parse(Case("x", "s", job, {}, None), text), Invalid)


def record(**kw):
    row = {"id": "x-1", "job": "arbitrate", "source": "s", "lang": "en"}
    return row | {"new": {"text": "n"}, "candidates": [{"text": "a"}], "gold": ["same"]} | kw


def test_each_of_the_five_slots_is_a_case_of_its_own(task):
    gold = ["same", "refines", "independent", "stale", "unsure"]
    row = record(candidates=[{"text": t} for t in "abcde"], gold=gold, slices=["mixed"])
    assert check_record(row) is None and MAX_CANDIDATES == 5
    cases = cases_of(row)
    assert [c.id for c in cases] == [f"x-1#m{i}" for i in range(5)]
    assert [c.input["stored"]["text"] for c in cases] == list("abcde") and [c.reference for c in cases] == gold
    assert {c.record() for c in cases} == {"x-1"} and all(c.slices == ("mixed",) for c in cases)
    prompts = [task.messages(c) for c in cases]
    assert len({json.dumps(p) for p in prompts}) == 5 and len({p[0]["content"] for p in prompts}) == 1


@pytest.mark.parametrize("row", [
    record(candidates=[], gold=[]), record(candidates=[{"text": "a"}] * 6, gold=["same"] * 6), record(gold=["same", "same"]),
    record(gold=["equal"]), record(new="n"), record(candidates=[{"text": 1}]), record(new={"text": "n", "observed_at": "in May"}),
    record(job="decide"), record(job="classify", gold="buy", text="t"), record(job="memorize", gold={"kind": "lesson"}, text="t"),
    {k: v for k, v in record().items() if k != "source"},
])
def test_a_bad_record_is_told(row):
    assert check_record(row)


@pytest.mark.parametrize("new, stored, order", [
    ({"observed_at": "2026-03-02"}, {"observed_at": "2025-11-20"}, "later"),
    ({"observed_at": "2026-03-02", "event_time": "2019-05-01"}, {"observed_at": "2025-11-20"}, "earlier"),
    ({"observed_at": "2026-03-02", "event_time": None}, {"observed_at": "2026-03-01", "valid_from": "2026-03-09"}, "earlier"),
    ({"observed_at": "2026-03-02T23:59"}, {"observed_at": "2026-03-02T00:01"}, "same day"),
    ({"observed_at": "2026-03-02"}, {}, "unknown"),
    ({}, {"observed_at": "2026-03-02"}, "unknown"),
])
def test_time_order(new, stored, order):
    assert time_order(new, stored) == order


# -- labels ---------------------------------------------------------------------------------------------------------------

HELD = {"same", "covered"}  # the new fact is already there


def test_a_new_fact_is_dropped_only_where_it_is_held_or_only_takes_back():
    assert fate_of([]) == "keep"
    for size in (1, 2, 3):
        for relations in itertools.product(RELATIONS, repeat=size):
            dropped = fate_of(list(relations)) == "drop"
            assert not dropped or HELD & set(relations) or "retracts" in relations, relations
            if not (HELD | {"retracts"}) & set(relations):
                assert not dropped, relations


@pytest.mark.parametrize("pair", list(itertools.combinations_with_replacement(RELATIONS, 2)))
def test_the_fate_of_a_pair_does_not_hang_on_the_order_and_keeps_what_changes_a_memory(pair):
    fate = fate_of(list(pair))
    assert fate == fate_of(list(reversed(pair)))
    assert fate in {kept for _, kept in ACTIONS.values()}
    if "supersedes" in pair:
        assert fate == "current"
    elif "refines" in pair:
        assert fate == "merge"
    if not {"supersedes", "refines", "retracts"} & set(pair) and HELD & set(pair):
        assert fate == "drop"


def test_labels():
    assert {action_of(r) for r in RELATIONS} == {"NONE", "UPDATE", "DELETE"} and set(ACTIONS) == set(RELATIONS)
    assert [decision_of(k) for k in ("lesson", "correction", "unclear")] == ["SAVE"] * 3
    assert all(decision_of(k) == "SKIP" for k in SKIP_KINDS)


# -- figures --------------------------------------------------------------------------------------------------------------


def rows(job, *pairs):
    """Rows from (record, reference, answer); an answer of None is a failure."""
    out = []
    for i, (name, gold, said) in enumerate(pairs):
        case = Case(f"{name}#m{i}", name, job, {}, gold, parent=name)
        out.append(ScoredRow(case, said, "ok" if said is not None else "timeout", metrics.score(case, said)))
    return out


def figure(name, given):
    metric = next(m for m in metrics.all_metrics() if m.name == name)
    return metric.function(metric.select(given))


ARBITRATED = rows(
    "arbitrate",
    ("a", "same", "same"), ("a", "supersedes", "refines"),
    ("b", "supersedes", None), ("b", "retracts", "retracts"),
    ("c", "independent", "supersedes"), ("c", "independent", "independent"),
    ("d", "same", "covered"), ("d", "retracts", "unsure"),
)


def test_arbitrate_figures_against_hand_worked_ones():
    # same: TP 1, FN 1; supersedes: FP 1, FN 2 (one of them a failure); retracts: TP 1, FN 1; independent: TP 1, FN 1
    assert figure("arbitrate_macro_f1", ARBITRATED) == pytest.approx((2 / 3 + 0 + 2 / 3 + 2 / 3) / 4)
    assert figure("arbitrate_relation_accuracy", ARBITRATED) == 3 / 8
    assert figure("arbitrate_accuracy", ARBITRATED) == 1 / 4  # a: right; b: a failure; c: a false UPDATE; d: NONE for DELETE
    assert figure("none_duplicate_rate", ARBITRATED) == 1  # same and covered are both NONE
    assert figure("false_update_rate", ARBITRATED) == 1 / 6  # of the six memories that should not have been updated
    assert figure("false_delete_rate", ARBITRATED) == 0
    assert figure("over_none_rate", ARBITRATED) == 1 / 4  # of the four that something was due for
    assert figure("recall_supersedes", ARBITRATED) == 0 and figure("recall_same", ARBITRATED) == 1 / 2
    assert figure("recall_stale", ARBITRATED) is None


def test_a_false_positive_of_a_relation_that_never_occurs_costs_only_where_it_was_missed():
    assert figure("arbitrate_macro_f1", rows("arbitrate", ("a", "same", "same"), ("b", "same", "stale"))) == pytest.approx(2 / 3)
    assert figure("arbitrate_macro_f1", []) is None and figure("arbitrate_accuracy", []) is None


def test_memorize_figures_against_hand_worked_ones():
    def kind(name):
        return {"kind": name, "mixed": False}

    given = rows("memorize", ("a", kind("lesson"), kind("plan")), ("b", kind("plan"), kind("log")),
                 ("c", kind("log"), kind("log")), ("d", kind("chitchat"), kind("plan")),
                 ("e", kind("secret"), None), ("f", kind("profile"), None))
    assert figure("memorize_accuracy", given) == 2 / 6
    assert figure("memorize_kind_accuracy", given) == 1 / 6
    assert figure("memorize_fp_rate", given) == 2 / 3  # of three SKIP: one SAVE, one failure
    assert figure("memorize_fn_rate", given) == 2 / 3  # of three SAVE: one SKIP, one failure
    assert figure("classify_accuracy", rows("classify", ("a", "recall", "recall"), ("b", "chat", None))) == 1 / 2


def test_the_gate_and_the_default(task):
    def one(job, **given):
        return Case("x", "s", job, given, None)

    assert task.gate(one("memorize", text="password: hunter22")) == {"kind": "secret", "mixed": False}
    assert task.gate(one("memorize", text="I forgot my password")) is None
    assert task.gate(one("arbitrate", new={"text": "Has a dog."}, stored={"text": "has a dog"})) == "same"
    assert task.gate(one("arbitrate", new={"text": "Has a cat."}, stored={"text": "has a dog"})) is None
    assert task.gate(one("classify", text="password: hunter22")) is None
    assert decision_of(task.default(one("memorize"))["kind"]) == "SAVE"
    assert fate_of([task.default(one("arbitrate"))]) == "keep_flagged" and task.default(one("classify")) == "other"
