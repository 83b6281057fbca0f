"""The endpoint client against a real server on loopback that misbehaves on demand."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from scionwood.errors import UserError
from scionwood.systems.base import evaluate
from scionwood.systems.endpoint import EndpointSystem
from scionwood.task import Case, Choices, Invalid, JsonSchema, Task
from scionwood.teaching import pacing
from scionwood.teaching.endpoint import Endpoint, Request, ask_all
from scionwood.teaching.journal import Journal
from scionwood.teaching.reply import strip_thinking


class Server:
    """Answers chat completions. ``behave(question, nth)`` says what to do the ``nth`` time (from 0) that it is asked:
    a string (the answer), a dict (the JSON body), bytes (the raw body), (status, headers), "hang up" or seconds to sleep."""

    def __init__(self):
        self.behave = lambda question, nth: f"answer to {question}"
        self.asked, self.bodies, self.headers = Counter(), [], []
        self.lock, self.busy, self.busiest, self.delay_s = threading.Lock(), 0, 0, 0.0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_): ...

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                question = body["messages"][-1]["content"]
                with outer.lock:
                    nth = outer.asked[question]
                    outer.asked[question] += 1
                    outer.bodies.append(body)
                    outer.headers.append(dict(self.headers))
                    outer.busy += 1
                    outer.busiest = max(outer.busiest, outer.busy)
                time.sleep(outer.delay_s)
                what = outer.behave(question, nth)
                if isinstance(what, float):
                    time.sleep(what)
                    what = "late"
                with outer.lock:
                    outer.busy -= 1
                try:
                    self.reply(what)
                except OSError:
                    self.close_connection = True  # the client has gone

            def reply(self, what):
                if what == "hang up":
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                status, extra = what if isinstance(what, tuple) else (200, {})
                if isinstance(what, tuple):
                    what = {"error": {"message": f"no: {self.headers.get('Authorization')}"}}
                if isinstance(what, str):
                    what = completion(what)
                data = what if isinstance(what, bytes) else json.dumps(what).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **extra}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def total(self):
        return sum(self.asked.values())

    def close(self):
        self.http.shutdown()
        self.http.server_close()


def completion(text, finish="stop", **message):
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    return {"choices": [{"message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}], "usage": usage}


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


def endpoint(server, **kw):
    return Endpoint(**{"base_url": server.base_url, "model": "m", "backoff_s": 0.01, "timeout_s": 5, "max_tokens": 10} | kw)


def questions(*texts):
    return [Request(f"case-{t}", [{"role": "system", "content": "s"}, {"role": "user", "content": t}]) for t in texts]


def test_answers_come_back_in_order_and_are_not_asked_again(server, tmp_path):
    done = []
    with Journal(tmp_path / "j.jsonl") as journal:
        rows = ask_all(endpoint(server), questions("a", "b", "c"), journal, done.append)
        assert [(case, r["text"]) for case, r in rows.items()] == [(f"case-{t}", f"answer to {t}") for t in "abc"]
        assert rows["case-a"]["prompt_tokens"] == 7 and rows["case-a"]["latency_ms"] > 0 and sum(done) == 3
    with Journal(tmp_path / "j.jsonl") as journal:
        again = ask_all(endpoint(server), questions("c", "d", "a"), journal, done.append)
        assert list(again) == ["case-c", "case-d", "case-a"] and again["case-a"] == rows["case-a"] and sum(done) == 6
        assert server.asked == {"a": 1, "b": 1, "c": 1, "d": 1}
        ask_all(endpoint(server, temperature=0.5), questions("a"), journal)
        assert server.asked["a"] == 2, "other parameters are another question"
    assert server.bodies[0]["chat_template_kwargs"] == {"enable_thinking": False} and server.bodies[0]["temperature"] == 0
    assert "response_format" not in server.bodies[0]


def test_cases_with_the_same_prompt_share_one_question(server):
    same = [Request("one", [{"role": "user", "content": "q"}]), Request("two", [{"role": "user", "content": "q"}])]
    done = []
    rows = ask_all(endpoint(server), same, Journal(None), done.append)
    assert server.total() == 1 and [rows[c]["case"] for c in ("one", "two")] == ["one", "two"] and sum(done) == 2


def test_retry_after_is_honoured_by_all_requests_under_way(server):
    times = {}

    def behave(question, nth):
        times[question, nth] = time.monotonic()
        return (429, {"Retry-After": "0.4"}) if (question, nth) == ("a", 0) else 0.1

    server.behave = behave
    rows = ask_all(endpoint(server, concurrency=2), questions("a", "b", "c"), Journal(None))
    assert {r["status"] for r in rows.values()} == {"ok"} and server.asked == {"a": 2, "b": 1, "c": 1}
    assert times["a", 1] - times["a", 0] >= 0.39
    assert times["c", 0] - times["a", 0] >= 0.39, "c had its turn when b was done, 0.1 s in, and was held back"


def test_500_a_lost_connection_and_a_timeout_are_tried_again(server):
    first = {"a": (500, {}), "b": "hang up", "c": 0.4, "d": (503, {"Retry-After": "0"})}
    server.behave = lambda question, nth: first[question] if nth == 0 else "ok"
    rows = ask_all(endpoint(server, timeout_s=0.2), questions("a", "b", "c", "d"), Journal(None))
    assert {r["status"] for r in rows.values()} == {"ok"}
    assert server.asked == dict.fromkeys("abcd", 2)


def test_failures_of_one_case_are_rows(server):
    what = {
        "500": (500, {}),
        "400": (400, {}),
        "slow": 0.3,
        "hang up": "hang up",
        "garbage": b'{"choices": [',
        "shape": {"choices": []},
        "list": [],
        "empty": "<think>hm</think>  ",
        "cut": completion("half an ans", "length"),
        "refusal": completion(None, refusal="I would rather not"),
        "filter": completion("", "content_filter"),
    }
    server.behave = lambda question, nth: what[question]
    rows = ask_all(endpoint(server, timeout_s=0.15, retries=1), questions(*what), Journal(None))
    said = {case.removeprefix("case-"): (r["status"], r["reason"]) for case, r in rows.items()}
    assert said["500"] == ("error", "HTTP 500 (no: None)") and said["400"] == ("error", "HTTP 400 (no: None)")
    assert said["slow"] == ("timeout", "no answer within 0.15 s")
    assert said["hang up"][0] == "error" and said["hang up"][1].startswith("connection lost")
    assert all(said[q][0] == "error" and "no chat completion" in said[q][1] for q in ("garbage", "shape", "list"))
    assert said["empty"] == ("error", "the answer is empty")
    assert said["cut"] == ("error", "cut off at max_tokens = 10") and rows["case-cut"]["text"] == "half an ans"
    assert said["refusal"] == ("refused", "I would rather not") and said["filter"] == ("refused", "content filter")
    assert server.asked["400"] == server.asked["garbage"] == 1 and server.asked["500"] == server.asked["slow"] == 2


@pytest.mark.parametrize("status, mend", [(401, "check the key in $SCION_TEST_KEY"), (404, "check endpoint.base_url")])
def test_a_wrong_key_or_address_stops_everything_and_shows_no_key(server, tmp_path, monkeypatch, status, mend):
    monkeypatch.setenv("SCION_TEST_KEY", "sk-very-secret")
    server.behave = lambda question, nth: (status, {})
    with Journal(tmp_path / "j.jsonl") as journal, pytest.raises(UserError) as e:
        ask_all(endpoint(server, api_key_env="SCION_TEST_KEY", concurrency=2), questions(*"abcdefgh"), journal)
    assert f"{server.base_url}/chat/completions: HTTP {status}" in str(e.value) and mend in str(e.value)
    assert "***" in str(e.value) and "secret" not in str(e.value) and "\n" not in str(e.value)
    assert server.total() <= 3, "the cases that were not yet sent are not sent"
    assert server.headers[0]["Authorization"] == "Bearer sk-very-secret"


def test_the_key_is_in_no_row(server, tmp_path, monkeypatch):
    monkeypatch.setenv("SCION_TEST_KEY", "sk-very-secret")
    server.behave = lambda question, nth: (400, {}) if question == "a" else "ok"
    with Journal(tmp_path / "j.jsonl") as journal:
        ask_all(endpoint(server, api_key_env="SCION_TEST_KEY"), questions("a", "b"), journal)
    assert "sk-very-secret" not in (tmp_path / "j.jsonl").read_text() and "Bearer ***" in (tmp_path / "j.jsonl").read_text()


def test_no_server_and_a_very_long_wait_stop_everything(server):
    server.behave = lambda question, nth: (429, {"Retry-After": "86400"})
    with pytest.raises(UserError, match="asks to wait 86400 s"):
        ask_all(endpoint(server), questions("a"), Journal(None))
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{s.getsockname()[1]}/v1"
    with pytest.raises(UserError, match="cannot connect .*start the server"):
        ask_all(endpoint(server, base_url=nowhere, retries=1), questions("a"), Journal(None))


def test_concurrency_is_used_and_held(server):
    server.delay_s = 0.03
    ask_all(endpoint(server, concurrency=3), questions(*map(str, range(15))), Journal(None))
    assert server.busiest == 3 and server.total() == 15


def test_requests_per_minute_are_spread(server):
    start = time.monotonic()
    ask_all(endpoint(server, requests_per_minute=1200), questions(*"abcdef"), Journal(None))
    assert time.monotonic() - start >= 5 * 0.05


def test_the_budget_is_never_passed_and_the_journal_counts(server, tmp_path):
    """A call reserves 26 tokens (16 for the prompt, 10 for the answer) and uses 10: with 30 spent a fourth fits, then none."""
    few = endpoint(server, budget_tokens=60, concurrency=4)
    with Journal(tmp_path / "j.jsonl") as journal:
        with pytest.raises(UserError, match=r"budget_tokens = 60: 40 tokens are spent .* the journal keeps every answer"):
            ask_all(few, questions(*"abcdefgh"), journal)
        assert journal.tokens() == 40 and server.total() == 4
    with Journal(tmp_path / "j.jsonl") as journal:
        with pytest.raises(UserError, match="40 tokens are spent"):
            ask_all(few, questions(*"abcdefgh"), journal)
        assert server.total() == 4, "what earlier runs spent counts"
        rows = ask_all(endpoint(server, budget_tokens=200), questions(*"abcdefgh"), journal)
        assert len(rows) == 8 and server.total() == 8 and set(server.asked.values()) == {1}


def test_a_budget_needs_a_server_that_counts(server):
    server.behave = lambda question, nth: {"choices": [{"message": {"content": "hi"}}]}
    assert ask_all(endpoint(server), questions("a"), Journal(None))["case-a"]["status"] == "ok"
    journal = Journal(None)
    with pytest.raises(UserError, match="says nothing of tokens"):
        ask_all(endpoint(server, budget_tokens=1000), questions("a"), journal)
    assert len(journal.rows) == 1, "the answer is kept all the same"


CHILD = """
import json, sys
from pathlib import Path
from scionwood.teaching.endpoint import Endpoint, Request, ask_all
from scionwood.teaching.journal import Journal
with Journal(Path(sys.argv[2])) as journal:
    requests = [Request(f"case-{i}", [{"role": "user", "content": str(i)}]) for i in range(60)]
    ask_all(Endpoint(**json.loads(sys.argv[1])), requests, journal)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_or_interrupted_run_goes_on_without_asking_twice(server, tmp_path, how):
    server.delay_s = 0.02
    where, path = endpoint(server, concurrency=3), tmp_path / "j.jsonl"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    command = [sys.executable, "-c", CHILD, where.model_dump_json(), str(path)]
    # a suite that a shell put into the background ignores it, and so would its children
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    child = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, preexec_fn=heard)
    until = time.monotonic() + 20
    while server.total() < 20 and time.monotonic() < until:
        time.sleep(0.005)
    child.send_signal(how)
    child.communicate(timeout=20)
    assert child.returncode != 0 and 20 <= server.total() < 60
    time.sleep(0.1)  # let the server finish what the dead client had asked

    with Journal(path) as journal:
        kept = [row["case"].removeprefix("case-") for row in journal.answers().values()]
        before = server.total()
        assert before - 3 <= len(kept) <= before, "only what was under way is lost"
        rows = ask_all(where, [Request(f"case-{i}", [{"role": "user", "content": str(i)}]) for i in range(60)], journal)
    assert len(rows) == 60 and {r["status"] for r in rows.values()} == {"ok"}
    assert all(server.asked[question] == 1 for question in kept), "what the journal holds is not asked twice"
    assert server.total() == before + 60 - len(kept)


class Yes(Task):
    """Choices for the even cases, a schema for the odd ones."""

    name, primary = "yes", "accuracy"

    def cases(self, split):
        return [Case(f"c{i}", f"s{i}", "yes", {}, "yes") for i in range(6)]

    def messages(self, case):
        return [{"role": "user", "content": case.id}]

    def target(self, case):
        return case.reference

    def constraint(self, case):
        return Choices(("yes", "no")) if int(case.id[1:]) % 2 == 0 else JsonSchema({"type": "boolean"})

    def parse(self, case, text):
        return text if text in ("yes", "no") else Invalid(f"not yes or no: {text}")

    def score(self, case, answer):
        return {"accuracy": float(answer == case.reference)}

    def metrics(self):
        return []


def test_the_system_constrains_and_makes_every_failure_a_row(server):
    what = {"c0": '"yes"', "c1": "true", "c2": "<think>\nlong\n</think>\n\nno", "c3": 0.3, "c4": (400, {})}
    what["c5"] = completion("", "content_filter")
    server.behave = lambda question, nth: what[question]
    task = Yes()
    system = EndpointSystem(task, endpoint(server, constrain=True, timeout_s=0.15))
    found = evaluate(system, task, task.cases("test"))
    assert [p.status for p in found] == ["ok", "invalid", "ok", "timeout", "error", "error"]
    assert found[0].answer == "yes" and found[2].answer == "no" and found[5].reason == "refused: content filter"
    assert all(p.latency_ms > 0 for p in found)
    assert server.asked["c3"] == 1, "a time-out is measured, not tried again"
    schemas = {b["messages"][0]["content"]: b["response_format"]["json_schema"]["schema"] for b in server.bodies}
    assert schemas["c0"] == {"type": "string", "enum": ["yes", "no"]} and schemas["c1"] == {"type": "boolean"}
    assert (system.name, system.kind) == ("m", "teacher")


def test_a_measurement_that_goes_on_keeps_its_timeouts(server):
    server.behave = lambda question, nth: 0.3 if question == "c0" and nth == 0 else "yes"
    task, journal = Yes(), Journal(None)
    system = EndpointSystem(task, endpoint(server, timeout_s=0.15), journal)
    first = [p.status for p in system.predict(task.cases("test"))]
    assert first == ["timeout"] + ["ok"] * 5 == [p.status for p in system.predict(task.cases("test"))]
    assert server.total() == 6


def test_thinking_is_stripped_only_where_it_leads():
    assert strip_thinking("<think>\n\n</think>\n\nyes") == "yes"
    assert strip_thinking("\n<think>a</think>b</think>") == "b</think>"
    assert strip_thinking("say <think>a</think>") == "say <think>a</think>"
    assert strip_thinking("<think>never closed") == "<think>never closed"


def test_half_a_surrogate_can_be_journalled(server, tmp_path):
    server.behave = lambda question, nth: json.dumps(completion("ok \ud83d")).encode()
    with Journal(tmp_path / "j.jsonl") as journal:
        assert ask_all(endpoint(server), questions("a"), journal)["case-a"]["text"] == "ok ?"


def test_waits():
    assert all(0 <= pacing.backoff(n, 1.0) <= min(60, 2**n) for n in range(12))
    assert pacing.retry_after("2") == 2.0 and pacing.retry_after("soon") is None and pacing.retry_after(None) is None
    assert pacing.retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert pacing.retry_after("Wed, 21 Oct 2199 07:28:00 GMT") > 1e9
