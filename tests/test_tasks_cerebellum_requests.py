"""Requests are checked line by line, cases are those of the data files, responses always say what became of the fact."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scionwood.errors import UserError
from scionwood.systems.base import ERROR, GATED, OK, TIMEOUT, Prediction
from scionwood.tasks.cerebellum import prompts
from scionwood.tasks.cerebellum.cases import cases_of
from scionwood.tasks.cerebellum.requests import LONGEST, SCHEMAS, read, respond, to_cases

SECRET = "the wifi password is Gl0xinia!7"
PAIR = {"new": "moved to Ghent", "candidates": ["lives in Leiden"]}


def predicted(job, request, answers, **kw):
    cases = to_cases(job, request)
    assert len(cases) == len(answers)
    return [Prediction(c.id, "", a, OK, latency_ms=2.0, confidence=p) for c, (a, p) in zip(cases, answers)]


@pytest.mark.parametrize("job, value, says", [
    ("classify", {"txet": "hi"}, "unknown key 'txet'; did you mean 'text'?"),
    ("classify", {}, "key 'text' is missing"),
    ("classify", {"text": "  \n"}, "text: the text is empty"),
    ("memorize", {"text": "x" * (LONGEST + 1)}, f"text: {LONGEST + 1} characters, more than {LONGEST}"),
    ("memorize", {"text": "half \ud83d"}, "text: holds half a surrogate pair"),
    ("memorize", {"text": 7}, "text: Input should be a valid string"),
    ("memorize", {"text": "hi", "previous": ["a", "b", "c"]}, "previous: List should have at most 2 items"),
    ("memorize", {"text": "hi", "source": "robot"}, "source: Input should be 'user'"),
    ("memorize", {"text": "hi", "now": "yesterday"}, "now: not an ISO date such as 2026-03-02"),
    ("memorize", {"text": "hi", "request_id": True}, "request_id: an id is a whole number or"),
    ("memorize", [1], "a JSON object with 'text' is expected"),
    ("arbitrate", "moved", "a JSON object with 'new' and 'candidates' is expected"),
    ("arbitrate", {"new": "moved"}, "key 'candidates' is missing"),
    ("arbitrate", {"new": "moved", "candidates": []}, "candidates: List should have at least 1 item"),
    ("arbitrate", {"new": "moved", "candidates": ["a"] * 6}, "candidates: List should have at most 5 items"),
    ("arbitrate", {"new": {"text": "a", "seen_at": "x"}, "candidates": ["a"]}, "unknown key 'new.seen_at'"),
    ("arbitrate", {"new": "a", "candidates": [{"txt": "b", "text": "b"}]}, "'candidates.0.txt'; did you mean 'text'?"),
    ("arbitrate", {"new": "a", "candidates": [{"text": "b", "id": "m1"}, "c"]}, "two candidates have the same id"),
])
def test_a_bad_request_is_one_line_that_names_the_key(job, value, says):
    with pytest.raises(UserError) as e:
        read(job, value)
    assert says in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize("value", [
    {"text": "hi", SECRET: 1}, {"text": "hi", "source": SECRET}, {"text": "hi", "now": SECRET},
    {"text": "hi", "lang_hint": SECRET}, {"text": [SECRET]}, {"text": "hi", "request_id": [SECRET]},
])
def test_an_error_never_echoes_a_value(value):
    with pytest.raises(UserError) as e:
        read("memorize", value)
    assert "Gl0xinia" not in str(e.value)


def nested(leaves, keys):
    def deeper(inner):
        return st.lists(inner, max_size=6) | st.dictionaries(keys, inner, max_size=5)

    return st.recursive(leaves, deeper, max_leaves=12)


KEYS = st.sampled_from("text new candidates id observed_at valid_from event_time now previous request_id source txt".split())
JSON = nested(st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()), st.text(max_size=8))
SHAPED = nested(st.text(max_size=12) | st.sampled_from([SECRET, "2026-03-02", "user", "a fact"]) | JSON, KEYS)
REQUESTS = st.fixed_dictionaries({"new": SHAPED, "candidates": st.lists(SHAPED, max_size=3)})


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(SCHEMAS)), JSON | SHAPED | REQUESTS)
def test_whatever_comes_is_answered_or_refused_in_one_line(job, value):
    try:
        request = read(job, value)
    except UserError as e:
        assert "\n" not in str(e)
        str(e).encode()
        return
    cases = to_cases(job, request)
    response = respond(job, request, [Prediction(c.id, status=TIMEOUT) for c in cases])
    assert response["status"] in (GATED, TIMEOUT, OK)
    assert json.loads(json.dumps(response)) == response


def test_prompts_are_those_of_the_data_files():
    new = {"text": "moved to Ghent", "observed_at": "2026-03-02", "event_time": None}
    stored = [{"text": "lives in Leiden", "observed_at": "2025-01-05"}, {"text": "has a dog", "observed_at": "2026-04-01"}]
    common = {"id": "x", "source": "s", "lang": "en"}
    rows = {"classify": common | {"job": "classify", "text": "where is Fen?", "gold": None},
            "memorize": common | {"job": "memorize", "text": "her name is Fen", "previous": ["a dog?"],
                                  "gold": {"kind": None, "mixed": None}},
            "arbitrate": common | {"job": "arbitrate", "new": new, "candidates": stored, "gold": [None, None]}}
    values = {"classify": {"text": "where is Fen?"}, "memorize": {"text": "her name is Fen", "previous": ["a dog?"]},
              "arbitrate": {"new": new, "candidates": [c | {"id": f"db-{i}"} for i, c in enumerate(stored)]}}
    for job, row in rows.items():
        ours = to_cases(job, read(job, values[job]))
        assert [prompts.messages(c) for c in ours] == [prompts.messages(c) for c in cases_of(row)]
    assert [c.id for c in ours] == ["r#m0", "r#m1"]


def test_a_new_text_without_a_day_was_observed_now():
    value = {"new": "moved", "candidates": [{"text": "a", "observed_at": "2026-01-01"}], "now": "2026-03-02T10:00:00+01:00"}
    (case,) = to_cases("arbitrate", read("arbitrate", value))
    assert "about a time: later" in prompts.messages(case)[1]["content"]


def test_responses_of_the_single_jobs():
    request = read("classify", {"text": "hi", "request_id": 7})
    got = respond("classify", request, predicted("classify", request, [("chat", 0.9)]), "abc")
    assert got == {"request_id": 7, "status": "ok", "degraded": False, "intent": "chat",
                   "confidence": 0.9, "latency_ms": 2.0, "model_rev": "abc"}
    request = read("classify", {"text": "hi", "request_id": 4111111111111111})
    assert respond("classify", request, predicted("classify", request, [("chat", 0.9)]))["request_id"] == 4111111111111111
    request = read("memorize", "never descale with vinegar")
    got = respond("memorize", request, predicted("memorize", request, [({"kind": "lesson", "mixed": True}, 0.5)]))
    assert (got["decision"], got["kind"], got["mixed"]) == ("SAVE", "lesson", True) and "request_id" not in got


def test_a_failure_is_answered_with_what_loses_nothing():
    for job, value, wanted in (("classify", "hi", {"intent": "other"}), ("arbitrate", PAIR, {"new_fact": "keep_flagged"}),
                               ("memorize", "hi", {"decision": "SAVE", "kind": "unclear"})):
        request = read(job, value)
        got = respond(job, request, [Prediction(c.id, status=ERROR, reason="too long") for c in to_cases(job, request)])
        assert got | wanted | {"status": "error", "degraded": True, "reason": "too long", "confidence": None} == got


def test_links_name_the_callers_ids_and_leave_out_the_independent():
    stored = [{"id": "db-9", "text": "has a dog"}, {"id": 12, "text": "lives in Leiden"}, "x"]
    request = read("arbitrate", {"new": "moved to Ghent", "candidates": stored})
    said = predicted("arbitrate", request, [("independent", 0.8), ("supersedes", 0.6), ("unsure", 0.7)])
    got = respond("arbitrate", request, said)
    assert got["links"] == [{"id": 12, "relation": "supersedes", "action": "UPDATE", "confidence": 0.6},
                            {"id": "m2", "relation": "unsure", "action": "NONE", "confidence": 0.7}]
    assert got["new_fact"] == "current" and got["confidence"] == 0.6 and got["latency_ms"] == 6.0


@pytest.mark.parametrize("value", [{"text": SECRET}, {"text": "hi", "request_id": SECRET}, {"text": "hi", "previous": [SECRET]}])
def test_a_secret_anywhere_in_a_text_to_keep_is_gated(value):
    request = read("memorize", value)
    assert to_cases("memorize", request) == []
    got = respond("memorize", request, [])
    assert (got["status"], got["decision"], got["kind"], got["reason"]) == ("gated", "SKIP", "secret", "secret")
    assert "Gl0xinia" not in json.dumps(got)


@pytest.mark.parametrize("value", [PAIR | {"new": SECRET}, PAIR | {"request_id": SECRET}])
def test_a_secret_in_a_new_fact_is_not_stored(value):
    request = read("arbitrate", value)
    assert to_cases("arbitrate", request) == []
    got = respond("arbitrate", request, [])
    assert (got["status"], got["new_fact"], got["reason"], got["links"]) == ("gated", "drop", "secret", [])
    assert "Gl0xinia" not in json.dumps(got)


def test_a_stored_secret_is_not_shown_to_the_model_and_the_new_fact_stays():
    stored = [{"id": "a", "text": SECRET}, {"id": SECRET, "text": "x"}, "has wifi"]
    request = read("arbitrate", {"new": "the wifi has a new password", "candidates": stored})
    (case,) = to_cases("arbitrate", request)
    assert case.id == "r#m2"
    got = respond("arbitrate", request, [Prediction(case.id, "", "independent", OK, confidence=0.9)])
    assert [link["id"] for link in got["links"]] == ["a", "m1"]
    assert all(link["relation"] == "unsure" and link["reason"] == "secret" for link in got["links"])
    assert got["new_fact"] == "keep_flagged" and got["degraded"] and got["status"] == "ok"
    assert "Gl0xinia" not in json.dumps(got)


def test_classify_stores_nothing_and_is_asked_whatever_it_holds():
    request = read("classify", {"text": SECRET, "request_id": SECRET})
    assert len(to_cases("classify", request)) == 1
    got = respond("classify", request, predicted("classify", request, [("write", 0.9)]))
    assert got["intent"] == "write" and "request_id" not in got
