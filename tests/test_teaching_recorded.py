"""Recorded answers: plain lines or a journal, as rows and as a system."""

import json

import pytest

from scionwood.errors import UserError
from scionwood.systems.base import evaluate
from scionwood.systems.recorded import RecordedSystem
from scionwood.task import Case, Choices, Invalid, Task
from scionwood.teaching.journal import ERROR, OK, TIMEOUT, Journal, make_row
from scionwood.teaching.recorded import read_recorded, recall_all


class YesNo(Task):
    name, primary = "yesno", "accuracy"

    def cases(self, split):
        return [Case(f"c{i}", f"s{i}", "yesno", {}, "yes") for i in range(5)]

    def messages(self, case):
        return [{"role": "user", "content": case.id}]

    def target(self, case):
        return case.reference

    def constraint(self, case):
        return Choices(("yes", "no"))

    def parse(self, case, text):
        return text if text in ("yes", "no") else Invalid("neither yes nor no")

    def score(self, case, answer):
        return {"accuracy": float(answer == case.reference)}

    def metrics(self):
        return []


def test_plain_lines_and_cases_without_one(tmp_path):
    path = tmp_path / "human.jsonl"
    path.write_text('{"case": "c0", "text": "yes"}\n{"case": "c1", "text": "no"}')  # an editor left out the last newline
    rows = recall_all(path, ["c1", "c0", "c9"])
    assert list(rows) == ["c1", "c0", "c9"]
    assert rows["c1"]["text"] == "no" and rows["c1"]["status"] == "ok"
    assert rows["c9"] == {"case": "c9", "text": "", "status": "refused", "reason": "no recorded answer"}


def test_a_journal_gives_the_last_ok_row_and_is_not_changed(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        for text, status in [("one", OK), ("two", OK), ("", ERROR)]:
            journal.append(make_row("c0", "k", [], status, text))
        journal.append(make_row("c1", "k1", [], TIMEOUT, "", "no answer within 1 s"))
    with open(path, "ab") as f:
        f.write(b'{"case": "c2", "te')
    before = path.read_bytes()
    rows = read_recorded(path)
    assert rows["c0"]["text"] == "two" and rows["c1"]["status"] == "timeout" and "c2" not in rows
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "text, says",
    [
        ('{"case": "c0"}\n', r"f.jsonl:1: 'text' is missing"),
        ('{"case": "c0", "text": "a"}\n{"case": 3, "text": "a"}\n', r"f.jsonl:2: 'case' is missing or not a string"),
        ('{"case": "c0", "text": "a"}\n{"case": "c', r"f.jsonl: the last line is cut off"),
        ('{"case": "c0", "text": "a", "status": "done"}\n', r"f.jsonl:1: status = 'done'"),
    ],
)
def test_a_bad_file_is_one_plain_line(tmp_path, text, says):
    (tmp_path / "f.jsonl").write_text(text)
    with pytest.raises(UserError, match=says):
        read_recorded(tmp_path / "f.jsonl")
    with pytest.raises(UserError, match="No such file"):
        read_recorded(tmp_path / "other.jsonl")


def test_the_system_gives_a_prediction_for_every_case(tmp_path):
    path = tmp_path / "f.jsonl"
    rows = [
        {"case": "c0", "text": "yes", "latency_ms": 7.5},
        {"case": "c1", "text": "perhaps"},
        {"case": "c2", "text": "", "status": "timeout", "reason": "no answer within 1 s"},
        {"case": "c3", "text": "", "status": "refused", "reason": "content filter"},
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    task = YesNo()
    found = evaluate(RecordedSystem(task, path), task, task.cases("test"))
    assert [(p.status, p.answer, p.reason) for p in found] == [
        ("ok", "yes", ""),
        ("invalid", None, "neither yes nor no"),
        ("timeout", None, "no answer within 1 s"),
        ("error", None, "refused: content filter"),
        ("error", None, "refused: no recorded answer"),
    ]
    assert found[0].latency_ms == 7.5
