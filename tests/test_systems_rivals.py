"""Rivals answer whatever they are asked; rows keep what was answered."""

import pytest

from scionwood.systems.base import Prediction
from scionwood.systems.rivals import Majority, NearestNeighbour, TfidfLogistic
from scionwood.task import Case
from tiny_flow import TinyTask


@pytest.mark.parametrize("rival", [Majority(), TfidfLogistic(lambda c: [c.input["text"]]), NearestNeighbour(lambda c: [c.input["text"]])],
                         ids=lambda r: r.name)
def test_a_job_without_training_cases_is_a_row_not_an_error(rival):
    task = TinyTask()
    rival.fit(task, task.cases("train"))
    stranger = Case("x", "x", "another job", {"text": "barn"}, "red")
    known, unknown = rival.predict([task.cases("test")[0], stranger])
    assert (known.status, unknown.status) == ("ok", "invalid")


def test_an_empty_answer_is_an_answer():
    assert Prediction("a", "", "").row() == {"case": "a", "answer": "", "status": "ok"}
    assert "answer" not in Prediction("a", "", None, "timeout").row()
