"""Descriptions: what is asked, what is accepted, what is refused and why, and that nothing is asked twice."""

import json

import pytest
from hypothesis import given as examples
from hypothesis import strategies as st
from test_teaching_endpoint import Server, completion
from typer.testing import CliRunner

from scionwood.cli.app import app
from scionwood.errors import UserError
from scionwood.files import read_jsonl
from scionwood.tasks.nla import describe as d
from scionwood.tasks.nla.inputs import Given, read_given, read_rows
from scionwood.tasks.nla.texts import load_texts
from scionwood.tasks.nla.wording import Limits, longest_shared, problem, tidy, words
from scionwood.teaching.endpoint import Endpoint
from scionwood.teaching.journal import REFUSED, Journal
from scionwood.teaching.pacing import most_tokens

TEXT = "The ferry was late again, so Marta counted gulls on the pier until the loudspeaker finally admitted that nobody knew anything."
DESCRIPTION = ("Waiting at a harbour, told with dry patience. A traveller passes the time with birds while officials stay clueless; "
               "an arrival comes next.")
SUMMARY = "Someone kept waiting for a boat amuses herself until it turns out that the staff are ignorant."
GOOD = f"<description>{DESCRIPTION}</description>\n<summary>{SUMMARY}</summary>"


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


def texts(count=3):
    return [Given(f"t{i}", f"{TEXT} Number {i}.", {"id": f"t{i}", "text": f"{TEXT} Number {i}.", "category": "web"}) for i in range(count)]


# -- wording ---------------------------------------------------------------------------------------------------------------


def test_what_was_written_by_hand_is_accepted():
    refused = {t.id: why for t in load_texts() if (why := problem(t.text, t.description, t.summary))}
    assert refused == {}


@pytest.mark.parametrize("description, summary, why", [
    ("Too short.", SUMMARY, "the description has 2 words"),
    (DESCRIPTION, "Late boat.", "the summary has 2 words"),
    (DESCRIPTION, "word " * 60, "the summary has 60 words"),
    (DESCRIPTION, "She waits for the boat patiently. Nobody at the harbour knows anything.", "2 sentences"),
    (DESCRIPTION + " She counted gulls on the pier until the loudspeaker spoke.", SUMMARY, "quotes the text at length"),
    (DESCRIPTION, "A traveller passes the time with birds while officials stay clueless", "repeats the description"),
    ("Harbour traveller waiting patience; ferry officials clueless, gulls amusing, arrival delayed, loudspeaker silent, pier empty.",
     "Clueless officials, delayed arrival, waiting traveller, amusing gulls, empty pier, silent loudspeaker, ferry.", "share"),
])
def test_what_cannot_be_used_is_refused(description, summary, why):
    assert why in problem(TEXT, description, summary)


def test_abbreviations_do_not_end_a_sentence_and_layout_is_taken_off():
    assert problem(TEXT, DESCRIPTION, "Dr. Osei and Mrs. Lind wait for a boat while the staff stay ignorant.") == ""
    assert tidy("## Theme\n- **Waiting** at a pier\n2. Birds") == "Theme Waiting at a pier Birds"
    assert words("Don't 等船 3x") == ["don't", "等", "船", "3x"]


@examples(st.text(max_size=200), st.text(max_size=200), st.text(max_size=200))
def test_any_text_gets_a_verdict(text, description, summary):
    assert isinstance(problem(text, description, summary), str)
    assert isinstance(d.read_answer(f"<description>{description}</description><summary>{summary}"), (str, tuple))


@examples(st.lists(st.sampled_from("abcd"), max_size=12), st.lists(st.sampled_from("abcd"), max_size=12), st.integers(1, 4))
def test_a_shared_run_is_found_where_there_is_one(a, b, least):
    found = longest_shared(a, b, least)
    there = any(a[i : i + least] == b[j : j + least] for i in range(len(a) - least + 1) for j in range(len(b) - least + 1))
    assert bool(found) == there


# -- answers ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer, found", [
    (GOOD, (DESCRIPTION, SUMMARY)), (json.dumps({"description": DESCRIPTION, "summary": SUMMARY}), (DESCRIPTION, SUMMARY)),
    ("```json\n" + json.dumps({"description": "a", "summary": "b"}) + "\n```", ("a", "b")),
    ("Sure! " + GOOD + " Anything else?", (DESCRIPTION, SUMMARY)),
    ("<description>a</description>", "no summary tag"), ("<description>a</description><summary>b", "the summary tag is not closed"),
    (GOOD + GOOD, "2 description tags"),
    ('{"description": 3, "summary": "x"}', "the JSON object has no text under 'description' or 'summary'"),
    ("{" * 5000, "no valid JSON object"),
])
def test_answers_are_read_in_either_form(answer, found):
    assert d.read_answer(answer) == found


def test_all_texts_are_described_and_nothing_is_asked_twice(server, tmp_path):
    server.behave = lambda question, nth: GOOD
    endpoint = Endpoint(base_url=server.base_url, model="m")
    for _ in range(2):
        with Journal(tmp_path / "j.jsonl") as journal:
            found = d.describe(endpoint, texts(), journal)
        assert [(x.id, x.description, x.summary) for x in found] == [(f"t{i}", DESCRIPTION, SUMMARY) for i in range(3)]
    assert server.total() == 3
    body = server.bodies[0]
    assert TEXT in body["messages"][1]["content"] and "response_format" not in body and "vector" not in body["messages"][0]["content"]
    rows = d.rows_of(texts(), found)
    assert rows[0] == {"id": "t0", "text": f"{TEXT} Number 0.", "category": "web", "description": DESCRIPTION, "summary": SUMMARY}


def test_what_is_refused_is_journalled_told_and_asked_for_once_more(server, tmp_path):
    copied = f"<description>{DESCRIPTION}</description><summary>{DESCRIPTION[:60]}</summary>"
    seen = []

    def behave(question, nth):
        seen.append(question)
        if "Number 1" in question:
            return copied
        if "cannot be used" in question:
            return GOOD if len([s for s in seen if "cannot be used" in s]) < 3 else copied
        return GOOD

    server.behave = behave
    endpoint = Endpoint(base_url=server.base_url, model="m", concurrency=1)
    with Journal(tmp_path / "j.jsonl") as journal:
        found = d.describe(endpoint, texts(), journal)
    assert [x.kept for x in found] == [True, True, True] and server.total() == 4
    refused = [r for r in read_jsonl(tmp_path / "j.jsonl") if r["status"] == REFUSED]
    assert [(r["case"], r["text"]) for r in refused] == [("t1", copied)] and "summary" in refused[0]["reason"]
    assert any(m["role"] == "assistant" and m["content"] == copied for m in server.bodies[-1]["messages"])
    with Journal(tmp_path / "j.jsonl") as journal:  # again: the same result, no question, no second refusal
        assert d.describe(endpoint, texts(), journal) == found
    assert server.total() == 4 and len(read_jsonl(tmp_path / "j.jsonl")) == 5


def test_what_stays_bad_is_left_out_with_its_reason(server, tmp_path):
    server.behave = lambda question, nth: "no tags at all"
    with Journal(tmp_path / "j.jsonl") as journal:
        found = d.describe(Endpoint(base_url=server.base_url, model="m"), texts(1), journal)
    assert not found[0].kept and found[0].reason == "no description tag" and server.total() == 2
    assert d.rows_of(texts(1), found) == [] and "no description tag" in "\n".join(d.told(found))


def test_a_constrained_endpoint_is_sent_the_schema(server, tmp_path):
    server.behave = lambda question, nth: json.dumps({"description": DESCRIPTION, "summary": SUMMARY})
    with Journal(None) as journal:
        assert d.describe(Endpoint(base_url=server.base_url, model="m", constrain=True), texts(1), journal)[0].kept
    body = server.bodies[0]
    assert body["response_format"]["json_schema"]["schema"] == d.SCHEMA and "JSON object" in body["messages"][0]["content"]


def test_a_budget_ends_it_and_a_larger_one_goes_on(server, tmp_path):
    server.behave = lambda question, nth: completion(GOOD)
    most = max(most_tokens(d.messages_for(t.text, Limits(), False), 300) for t in texts(40))
    small = Endpoint(base_url=server.base_url, model="m", budget_tokens=most + 95, concurrency=1, max_tokens=300)  # an answer takes ten
    with Journal(tmp_path / "j.jsonl") as journal, pytest.raises(UserError, match="budget_tokens"):
        d.describe(small, texts(40), journal)
    asked = server.total()
    assert 9 <= asked <= 11
    with Journal(tmp_path / "j.jsonl") as journal:
        assert all(x.kept for x in d.describe(small.model_copy(update={"budget_tokens": 10**6}), texts(40), journal))
    assert server.total() == 40


def test_recorded_descriptions_and_journals_are_validated_alike(tmp_path):
    rows = [{"id": "t0", "description": DESCRIPTION, "summary": SUMMARY}, {"id": "t1", "description": "Short.", "summary": SUMMARY},
            {"id": "other", "description": DESCRIPTION, "summary": SUMMARY}]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = d.recall(tmp_path / "r.jsonl", texts())
    assert [x.kept for x in found] == [True, False, False]
    assert [x.reason for x in found[1:]] == ["the description has 1 words, not 15 to 90", "no recorded description"]
    journal = [{"case": "t0", "key": "k", "text": "bad", "status": "ok"},
               {"case": "t0", "key": "k", "text": "bad", "status": "refused", "reason": "no"},
               {"case": "t0", "key": "l", "text": GOOD, "status": "ok"},
               {"case": "t1", "key": "m", "text": "", "status": "timeout", "reason": "late"}]
    (tmp_path / "j.jsonl").write_text("\n".join(map(json.dumps, journal)))
    found = d.recall(tmp_path / "j.jsonl", texts(2))
    assert found[0].kept and found[1].reason == "late"


# -- files -----------------------------------------------------------------------------------------------------------------


def test_texts_come_from_lines_or_from_json(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\n two \n")
    assert [(g.id, g.text) for g in read_given(tmp_path / "a.txt")] == [("a-1", "one"), ("a-2", "two")]
    (tmp_path / "b.jsonl").write_text('{"id": "x", "said": "hello", "n": 1}\n')
    assert read_given(tmp_path / "b.jsonl", "said") == [Given("x", "hello", {"id": "x", "said": "hello", "n": 1})]
    for name, text, why in (("c.jsonl", '{"id": 1}', "no text under 'text'"),
                            ("d.jsonl", '{"id":"a","text":"x"}\n{"id":"a","text":"y"}', "twice"),
                            ("e.txt", "\n", "holds no text")):
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=why):
            read_given(tmp_path / name)
    with pytest.raises(UserError, match="no such file"):
        read_given(tmp_path / "no.txt")


def test_arrays_are_read_without_pickle(tmp_path):
    import numpy as np

    np.save(tmp_path / "one.npy", np.ones(4))
    assert read_rows(tmp_path / "one.npy").values.shape == (1, 4)
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "nan.npy", np.array([[1.0, np.nan]]))
    (tmp_path / "text.npy").write_text("hello")
    for name, why in (("objects.npy", "not an array"), ("nan.npy", "not finite"), ("text.npy", "not an array"), ("x.npy", "no such file")):
        with pytest.raises(UserError, match=why):
            read_rows(tmp_path / name)
    with pytest.raises(UserError, match="4 values, but this model's have 8"):
        read_rows(tmp_path / "one.npy", 8)


def test_the_command_asks_writes_and_tells(server, tmp_path, monkeypatch):
    server.behave = lambda question, nth: "nothing" if "two" in question or "cannot be used" in question else GOOD
    (tmp_path / "t.txt").write_text("one text\ntext two\n")
    monkeypatch.chdir(tmp_path)
    asked = ["--url", server.base_url, "--model", "m", "--set", "concurrency=1"]
    said = CliRunner().invoke(app, ["nla", "describe", "t.txt", *asked, "--out", "o.jsonl"])
    assert said.exit_code == 0, said.output
    assert "1 of 2 texts described" in said.stderr and "no description tag" in said.stderr
    assert [r["id"] for r in read_jsonl(tmp_path / "o.jsonl")] == ["t-1"]
    about = json.loads((tmp_path / "o.about.json").read_text())
    assert about["model"] == "m" and "description" in about["instruction_prompt"]
    again = CliRunner().invoke(app, ["nla", "describe", "t.txt", "--recorded", "o.journal.jsonl", "--out", "p.jsonl"])
    assert again.exit_code == 0 and (tmp_path / "p.jsonl").read_text() == (tmp_path / "o.jsonl").read_text()
