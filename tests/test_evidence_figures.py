import json
from dataclasses import replace

import pytest
from evidence_fakes import Digits, answers, make_case, system

from scionwood.errors import UserError
from scionwood.evidence import rows
from scionwood.evidence.figures import compute, read_system, scored_rows, tidy
from scionwood.files import file_hash, write_jsonl
from scionwood.systems import base
from scionwood.task import Metric

TASK = Digits()
CASES = TASK.cases("test")


def most(i):
    return i % 5 > 0


def half(i):
    return i % 4 < 2


@pytest.fixture(scope="module")
def figures():
    adapter = answers(CASES, most)
    adapter[3] = {"case": "c3", "status": "timeout"}
    adapter[5] = {"case": "c5", "status": "invalid", "text": "hm", "answer": CASES[5].reference}
    return compute(TASK, CASES, [
        system("base", "base", answers(CASES, lambda i: i % 8 == 0)),
        system("adapter", "adapter", adapter),
        system("majority", "rival", answers(CASES, lambda i: i % 3 == 0)),
        system("nearest", "rival", answers(CASES, half)),
        system("shuffled", "control", answers(CASES, lambda i: i % 3 == 1)),
        system("memory", "control", answers(CASES, lambda i: True)),
    ])


def run_of(figures, name):
    return figures["systems"][name]["runs"][0]


def test_statuses_are_those_of_the_evaluator():
    assert rows.STATUSES == (base.OK, base.GATED, base.INVALID, base.TIMEOUT, base.ERROR)


def test_failures_are_scored_without_their_answer():
    got = answers(CASES, lambda i: True)
    got[0]["status"] = "invalid"
    got[1]["status"] = "gated"
    scored = scored_rows(TASK, CASES, got[::-1])
    assert [r.case.id for r in scored] == [c.id for c in CASES]
    assert scored[0].answer is None and scored[0].scores == {"correct": 0.0}
    assert scored[1].answer == CASES[1].reference and scored[1].scores == {"correct": 1.0}


@pytest.mark.parametrize("spoil, message", [
    (lambda got: got.pop(), "p.jsonl: 1 of 80 cases have no row, first 'c79'"),
    (lambda got: got.append(got[0]), "p.jsonl: case 'c0' is answered twice"),
    (lambda got: got.append({"case": "c81", "status": "ok"}), "p.jsonl: case 'c81' is not one of the test cases; did you mean"),
    (lambda got: got[7].update(status="fine"), "p.jsonl: case 'c7' has status 'fine'; known are ok, gated"),
])
def test_predictions_that_do_not_match_are_refused(spoil, message):
    got = answers(CASES, most)
    spoil(got)
    with pytest.raises(UserError, match=message):
        scored_rows(TASK, CASES, got, "p.jsonl")


def test_the_value_is_json_and_deterministic(figures):
    assert json.loads(json.dumps(figures)) == figures
    systems = [system("base", "base", answers(CASES, half)), system("adapter", "adapter", answers(CASES, most))]
    assert compute(TASK, CASES, systems) == compute(TASK, CASES, systems)


def test_figures_of_a_run(figures):
    run = run_of(figures, "adapter")
    assert run["file"] == "predictions/adapter.jsonl" and run["seed"] is None
    accuracy = run["figures"]["accuracy"]
    assert (accuracy["value"], accuracy["n"], accuracy["method"]) == (63 / 80, 80, "wilson")
    assert accuracy["low"] < 63 / 80 < accuracy["high"]
    mistakes = run["figures"]["mistakes"]
    assert (mistakes["value"], mistakes["method"], mistakes["better"]) == (17, "cluster bootstrap", "lower")
    assert mistakes["sources"] == 20
    assert mistakes["low"] < 17 < mistakes["high"]
    assert run["figures"]["parity recall"]["n"] == 40
    assert run["figures"]["nothing"] == {"value": None, "n": 80, "sources": 20, "low": None, "high": None, "method": "none",
                                         "better": "higher", "file": "predictions/adapter.jsonl"}
    assert run["correct"]["parity"]["value"] == 31 / 40
    assert figures["systems"]["adapter"]["over_seeds"] is None


def test_status_latency_and_confusion(figures):
    run = run_of(figures, "adapter")
    assert run["status"] == {"ok": 78, "gated": 0, "invalid": 1, "timeout": 1, "error": 0}
    assert run["latency_ms"]["n"] == 78 and run["latency_ms"]["p50"] < run["latency_ms"]["p95"] < run["latency_ms"]["p99"]
    table = run["confusion"]["parity"]
    assert sum(sum(row.values()) for row in table.values()) == 40
    assert sum(row.get("(failed)", 0) for row in table.values()) == 2
    assert sum(table[gold].get(gold, 0) for gold in table) == 31


def test_the_strongest_rival_is_named_and_the_base_may_be_it(figures):
    assert figures["strongest"]["name"] == "nearest"
    systems = [system("base", "base", answers(CASES, most)), system("majority", "rival", answers(CASES, half))]
    other = compute(TASK, CASES, systems)
    assert other["strongest"]["name"] == "base" and other["comparisons"] == [] == other["slices"]


def test_comparisons_with_base_and_each_rival(figures):
    assert [c["against"] for c in figures["comparisons"]] == ["base", "majority", "nearest"]
    first = figures["comparisons"][0]
    assert first["primary"]["metric"] == "parity recall" and first["primary"]["verdict"] == "better"
    assert first["primary"]["low"] < first["primary"]["difference"] < first["primary"]["high"]
    assert first["primary"]["p_holm"] >= first["primary"]["p"]
    assert first["primary"]["alpha"] == tidy(.05 / 3) and first["primary"]["seeds"] == []
    digit = first["jobs"]["digit"]
    assert (digit["n"], digit["gains"], digit["losses"]) == (40, 24, 2)
    assert digit["difference"] == .55 and digit["verdict"] == "better" and digit["floor"] == 7 / 40 < digit["detectable"]


def test_slices_and_languages(figures):
    entry, = figures["slices"]
    assert (entry["system"], entry["against"]) == ("adapter", "nearest")
    assert list(entry["slices"]) == ["lang:en", "lang:zh", "late"]
    late = entry["slices"]["late"]
    assert (late["n"], late["sources"], late["correct"], late["against_correct"]) == (20, 5, .8, .5)
    assert late["difference"] == pytest.approx(.3) and late["verdict"] == "cannot tell" and late["p_holm"] >= late["p"]


def test_controls(figures):
    shuffled, memory = figures["controls"]
    assert (shuffled["system"], shuffled["against"], shuffled["verdict"]) == ("shuffled", "majority", "at chance")
    assert memory["verdict"] == "leaks" and memory["primary"]["value"] == 1
    assert memory["jobs"]["parity"]["correct"] == 1 and memory["jobs"]["parity"]["chance"] < .5
    assert memory["primary"]["chance"] == run_of(figures, "majority")["figures"]["parity recall"]["value"]


def test_files_are_recorded(tmp_path):
    write_jsonl(tmp_path / "predictions/base.jsonl", answers(CASES, half))
    read = read_system(tmp_path, "predictions/base.jsonl", "base", "base")
    figures = compute(TASK, CASES, [read])
    assert figures["files"] == {"predictions/base.jsonl": file_hash(tmp_path / "predictions/base.jsonl")}


def seeds(*rights):
    return compute(TASK, CASES, [
        system("base", "base", answers(CASES, lambda i: i % 8 == 0)),
        *(system("adapter", "adapter", answers(CASES, right), seed) for seed, right in enumerate(rights)),
    ])


def test_seeds_are_summed_up_and_tested_one_by_one():
    figures = seeds(most, half, lambda i: True)
    adapter = figures["systems"]["adapter"]
    assert [run["seed"] for run in adapter["runs"]] == [0, 1, 2]
    assert adapter["over_seeds"]["accuracy"] == {"mean": tidy((.8 + .5 + 1) / 3), "min": .5, "max": 1.0, "seeds": 3}
    assert adapter["over_seeds"]["nothing"] is None
    primary = figures["comparisons"][0]["primary"]
    assert [s["seed"] for s in primary["seeds"]] == [0, 1, 2]
    assert primary["difference"] == pytest.approx(sum(s["difference"] for s in primary["seeds"]) / 3, abs=1e-5)
    parity = figures["comparisons"][0]["jobs"]["parity"]
    assert parity["p"] == max(s["p"] for s in parity["seeds"]) and parity["verdict"] == "better"
    late = figures["slices"][0]["slices"]["late"]
    assert late["correct"] == tidy((.8 + .5 + 1) / 3)
    assert late["difference"] == pytest.approx(late["correct"] - late["against_correct"], abs=2e-6)


def test_seeds_that_disagree_tell_nothing():
    parity = compute(TASK, CASES, [
        system("base", "base", answers(CASES, lambda i: i % 4 == 1)),
        system("adapter", "adapter", answers(CASES, lambda i: True), 0),
        system("adapter", "adapter", answers(CASES, lambda i: False), 1),
    ])["comparisons"][0]["jobs"]["parity"]
    assert [s["verdict"] for s in parity["seeds"]] == ["better", "worse"]
    assert parity["p"] == 1 and parity["verdict"] == "cannot tell"


class Ungraded(Digits):
    """No right answers, as a diversity task: a lower figure is better, and nothing is called correct."""

    primary = "length"

    def score(self, case, answer):
        return {"length": float(len(answer or ""))}

    def metrics(self):
        return [Metric("length", lambda rows: sum(r.scores["length"] for r in rows) / len(rows), better="lower")]


def test_a_task_without_right_answers_is_judged_by_its_primary_metric():
    short, long = answers(CASES, lambda i: False, wrong="x"), answers(CASES, lambda i: False, wrong="xxxx")
    figures = compute(Ungraded(), CASES, [
        system("base", "base", long), system("adapter", "adapter", short), system("constant", "rival", long),
        system("broken", "control", long), system("cheat", "control", short)])
    assert [c["primary"]["verdict"] for c in figures["comparisons"]] == ["better", "better"]
    assert figures["comparisons"][0]["jobs"] == {} and figures["slices"][0]["slices"] == {}
    assert [(c["against"], c["verdict"]) for c in figures["controls"]] == [("constant", "at chance"), ("constant", "leaks")]


def test_free_text_has_no_confusion_table():
    cases = [replace(make_case(i), reference=f"answer {i}") for i in range(120)]
    assert run_of(compute(TASK, cases, [system("base", "base", answers(cases, most))]), "base")["confusion"] == {}


class Partly(Digits):
    def score(self, case, answer):
        return {} if answer is None else super().score(case, answer)


class Doubtful(Digits):
    def score(self, case, answer):
        return {"correct": .5}


def test_a_score_called_correct_must_be_there_and_be_0_or_1():
    got = answers(CASES, most)
    got[3]["status"] = "error"
    for task, message in ((Partly(), "case 'c3': score 'correct' is None"), (Doubtful(), "case 'c0': score 'correct' is 0.5")):
        with pytest.raises(UserError, match=message):
            compute(task, CASES, [system("base", "base", got)])


def test_bad_line_ups_are_refused():
    one = system("a", "adapter", answers(CASES, most))
    with pytest.raises(UserError, match="system 'a' with seed None stands in 2 files"):
        compute(TASK, CASES, [one, one])
    with pytest.raises(UserError, match="of kind base, but of kind adapter"):
        compute(TASK, CASES, [one, replace(one, kind="base", seed=1)])
    with pytest.raises(UserError, match="case 'c0' stands twice"):
        compute(TASK, [*CASES, CASES[0]], [one])
    task = Digits()
    task.primary = "parity"
    with pytest.raises(UserError, match="did you mean 'parity recall'"):
        compute(task, CASES, [one])


def test_tidy_keeps_six_digits():
    assert tidy({"a": (1 / 3, 1e-12, float("nan"), 123.4567891, 2, True, None)}) == {
        "a": [.333333, 1e-12, None, 123.456789, 2, True, None]}
