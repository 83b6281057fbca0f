"""The application on real sockets, with a slow stand-in for the model: deadlines, late answers, limits, the door, what is logged."""

import contextlib
import http.client
import json
import logging
import re
import socket
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from serving_live import SlowModel, live, until
from scionwood.errors import UserError
from scionwood.models.sampling import Drawing
from scionwood.serving import sidecar as sidecar_module
from scionwood.serving.results import Results
from scionwood.serving.server import serve
from scionwood.serving.settings import Serving, api_key
from scionwood.serving.sidecar import Sidecar
from scionwood.task import load_task
from scionwood.tasks.cerebellum.requests import read, respond, to_cases

SECRET = "the wifi password is Gl0xinia!7"
KEY = "k" * 16
PAIR = {"new": {"text": "moved to Ghent"}, "candidates": [{"id": "a", "text": "lives in Leiden"}, {"id": "b", "text": "Moved to Ghent!"}]}


@pytest.fixture
def running(tmp_path):
    with live(tmp_path) as server:
        with httpx.Client(base_url=server.url, timeout=20) as client:
            until(server.sidecar.is_ready)
            server.http = client
            yield server


def slow(server, route="classify", body=None, deadline_ms=30):
    return server.http.post(f"/v1/{route}", json=body or {"text": "where is Fen?"}, headers={"X-Deadline-Ms": str(deadline_ms)})


def test_typed_routes_answer_as_the_tasks_own_code_does(running):
    task = running.model.task
    bodies = {"classify": {"text": "where is Fen?", "request_id": 7}, "memorize": {"text": "her name is Fen"}, "arbitrate": PAIR}
    for job, body in bodies.items():
        got = running.http.post(f"/v1/{job}", json=body)
        assert got.status_code == 200
        request = read(job, body)
        predictions = [running.model.answer(c) if task.gate(c) is None else running.sidecar.by_rule([c])[0] for c in to_cases(job, request)]
        assert {**got.json(), "latency_ms": 0} == {**respond(job, request, predictions, "abc"), "latency_ms": 0}
    assert running.model.warmed  # the prompts of the three jobs
    assert {c.job for c in running.model.warmed} == {"classify", "memorize", "arbitrate"}


def test_the_gate_answers_without_the_model(running):
    running.model.held.clear()
    got = running.http.post("/v1/memorize", json={"text": SECRET}).json()
    assert (got["status"], got["decision"], got["kind"]) == ("gated", "SKIP", "secret")
    same = running.http.post("/v1/arbitrate", json={"new": {"text": "Moved to Ghent!"}, "candidates": [{"text": "moved to Ghent"}]}).json()
    assert same["status"] == "gated" and same["new_fact"] == "drop"


@pytest.mark.parametrize("route, body, default", [
    ("classify", {"text": "where is Fen?"}, {"intent": "other"}),
    ("memorize", {"text": "her name is Fen"}, {"decision": "SAVE", "kind": "unclear"}),
    ("arbitrate", {"new": {"text": "x"}, "candidates": [{"text": "y"}]}, {"new_fact": "keep_flagged"}),
])
def test_at_the_deadline_comes_the_safe_default_and_later_the_answer(running, route, body, default):
    running.model.held.clear()
    got = slow(running, route, body).json()
    assert got | default | {"status": "timeout", "degraded": True} == got
    waits = running.http.get(f"/v1/results/{got['result_id']}")
    assert waits.status_code == 202 and waits.json()["state"] == "pending" and waits.headers["retry-after"]
    running.model.held.set()
    done = until(lambda: (r := running.http.get(f"/v1/results/{got['result_id']}")).status_code == 200 and r.json())
    assert done["state"] == "done" and done["route"] == route
    assert done["response"]["status"] == "ok" and not done["response"]["degraded"] and done["response"]["result_id"] == got["result_id"]


def test_in_a_degraded_answer_what_the_gate_says_stands(running):
    running.model.held.clear()
    got = slow(running, "arbitrate", PAIR).json()
    assert {link["id"]: link["relation"] for link in got["links"]} == {"a": "unsure", "b": "same"} and got["degraded"]


def test_late_answers_of_a_killed_process_are_completed_by_the_next(tmp_path):
    """The first process is cut off from its file as a kill would: what it was doing is lost, what it has promised is not."""
    queue = Results(tmp_path / "state")
    queue.add("0" * 32, "memorize", {"text": "her name is Fen", "request_id": "q"})
    queue.add("1" * 32, "gone", {"text": "x"})
    queue.add("2" * 32, "classify", {"txt": "from another version"})
    queue.add("3" * 32, "classify", {"text": SECRET}, private=True)
    queue.add("4" * 32, "classify", {"text": "brings the process down"})
    queue.db.execute("UPDATE results SET tries = 3 WHERE id = ?", ("4" * 32,))
    queue.close()
    with live(tmp_path) as server:
        until(lambda: server.sidecar.results.waiting == 0)
        got = {n: httpx.get(f"{server.url}/v1/results/{str(n) * 32}").json() for n in range(5)}
    assert got[0]["response"]["status"] == "ok" and got[0]["response"]["request_id"] == "q"
    assert "no route" in got[1]["response"]["reason"] and "unknown key 'txt'" in got[2]["response"]["reason"]
    assert got[3]["state"] == "lost" and "given up" in got[4]["response"]["reason"]
    assert all(got[n]["response"]["degraded"] for n in (1, 2, 4))


def test_starts_that_never_have_a_model_use_up_no_try(tmp_path):
    """A service whose file is gone is started again every few seconds; what it has promised waits until there is a model."""
    def broken():
        raise UserError("model.gguf: is gone")

    queue = Results(tmp_path / "state")
    queue.add("0" * 32, "memorize", {"text": "her name is Fen"})
    queue.close()
    for _ in range(4):
        failures = []
        sidecar = Sidecar(load_task("cerebellum"), broken, Serving(state=tmp_path / "state"), failures.append)
        sidecar.start()
        until(lambda: failures)
        sidecar.close()
    with live(tmp_path) as server:
        until(lambda: server.sidecar.results.waiting == 0)
        assert httpx.get(f"{server.url}/v1/results/{'0' * 32}").json()["response"]["status"] == "ok"


def test_a_try_is_counted_when_it_begins(tmp_path):
    """What stands behind a request that brings the process down loses no try by that."""
    def tries():
        with contextlib.closing(sqlite3.connect(tmp_path / "state" / "results.sqlite")) as db:
            return dict(db.execute("SELECT id, tries FROM results"))

    queue = Results(tmp_path / "state")
    for id in "ab":
        queue.add(id, "memorize", {"text": f"the ferry Ondine leaves at {id}"})
    queue.close()
    model = SlowModel(load_task("cerebellum"))
    model.before = lambda case: "Ondine" in str(case.input) and model.held.clear()
    with live(tmp_path, model=model) as server:
        until(lambda: not model.held.is_set())
        assert tries() == {"a": 2, "b": 1}
        model.before = lambda case: None


def test_what_draining_does_not_finish_stays_for_the_next_start(tmp_path):
    task = load_task("cerebellum")
    model = SlowModel(task)
    with live(tmp_path, task, model, drain_seconds=0) as server:
        until(server.sidecar.is_ready)
        model.held.clear()
        hurry = {"X-Deadline-Ms": "20"}
        late = [httpx.post(f"{server.url}/v1/classify", json={"text": f"n {n}"}, headers=hurry).json() for n in range(3)]
        ids = [answer["result_id"] for answer in late]
        server.server.stop()
        until(lambda: not server.thread.is_alive())
        threading.Timer(0.3, model.held.set).start()
        server.sidecar.close()
    with live(tmp_path) as server:
        for id in ids:
            until(lambda: httpx.get(f"{server.url}/v1/results/{id}").json()["state"] == "done")


def test_a_secret_never_reaches_disk_or_log(tmp_path, caplog):
    caplog.set_level(logging.DEBUG, "scionwood")
    logging.getLogger("scionwood").propagate = True
    task = load_task("cerebellum")

    def explode(case):
        if "boom" in str(case.input):
            raise RuntimeError(f"cannot handle {case.input}")

    model = SlowModel(task, before=explode)
    with live(tmp_path, task, model) as server:
        until(server.sidecar.is_ready)
        with httpx.Client(base_url=server.url) as c:
            model.held.clear()
            late = c.post("/v1/classify", json={"text": SECRET}, headers={"X-Deadline-Ms": "20"}).json()["result_id"]
            model.held.set()
            until(lambda: c.get(f"/v1/results/{late}").json()["state"] == "done")
            failed = c.post("/v1/classify", json={"text": f"boom {SECRET}"}).json()
            assert failed["status"] == "error" and failed["degraded"] and "Gl0xinia" not in json.dumps(failed)
            c.get(f"/v1/{SECRET}"), c.get("/v1/classify", params={"text": SECRET}), c.post("/v1/classify", json={SECRET: SECRET})
            c.post("/v1/classify", content=f'{{"text": "{SECRET}"', headers={"Content-Type": "application/json"})
            c.get(f"/v1/results/{SECRET}"), c.post("/v1/chat/completions", json={"messages": SECRET})
            said = c.get("/metrics").text
    disk = b"".join(p.read_bytes() for p in (tmp_path / "state").iterdir())
    assert b"Gl0xinia" not in disk and "Gl0xinia" not in said and "Gl0xinia" not in caplog.text
    assert "RuntimeError" in caplog.text and "(none) 404" in caplog.text  # something was logged at all


def test_errors_are_one_line_without_a_value(running):
    def post(content, type="application/json"):
        return running.http.post("/v1/memorize", content=content, headers={"Content-Type": type})

    for content, status, says in (
        (b"{", 400, "not JSON"), (b"\xff", 400, "not UTF-8"), (b'{"text": NaN}', 400, "not JSON"), (b"[" * 100_000, 400, "not JSON"),
        (b"[" * 70 + b"]" * 70, 400, "nested deeper"), (b"[]", 422, "a JSON object is expected"), (b'"hi"', 422, "a JSON object"),
        (b'{"txet":"Gl0xinia"}', 422, "did you mean 'text'?"), (b'{"text":"\\ud800"}', 422, "surrogate"), (b"", 400, "not JSON"),
        (b'{"text":"' + b"x" * 5000 + b'"}', 422, "more than 4000"), (b'{"text":"hi","now":"Gl0xinia"}', 422, "ISO date"),
    ):
        got = post(content)
        assert got.status_code == status and says in got.json()["error"]["message"], content[:20]
        assert "Gl0xinia" not in got.text and "\n" not in got.json()["error"]["message"]
    assert post(b'{"text":"hi"}', "text/plain").status_code == 415
    assert running.http.get("/v1/memorize").status_code == 405 and running.http.get("/nothing").status_code == 404
    for value in ("0", "-1", "x", "60001", "1e3", "9" * 40):
        assert slow(running, deadline_ms=value).status_code == 422
    assert running.http.get("/v1/results/nothing").status_code == 404 and running.http.get(f"/v1/results/{'a' * 32}").status_code == 404


def test_an_oversized_body_is_refused_before_it_is_read(tmp_path):
    with live(tmp_path, max_body=2048, body_seconds=0.3) as server:
        host, port = server.url.removeprefix("http://").split(":")
        big = httpx.post(f"{server.url}/v1/classify", json={"text": "x" * 4000})
        assert big.status_code == 413 and "2048 bytes" in big.json()["error"]["message"]

        def parts():  # chunked, without an announced length
            yield b'{"text":"'
            for _ in range(100):
                yield b"x" * 100

        assert httpx.post(f"{server.url}/v1/classify", content=parts(), headers={"Content-Type": "application/json"}).status_code == 413
        connection = http.client.HTTPConnection(host, int(port), timeout=5)  # a body that never comes
        connection.putrequest("POST", "/v1/classify")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", "100")
        connection.endheaders()
        connection.send(b'{"text":')
        assert connection.getresponse().status == 408


def test_overload_is_429_and_nothing_that_was_taken_is_lost(tmp_path):
    task = load_task("cerebellum")
    model = SlowModel(task)
    with live(tmp_path, task, model, max_waiting=3, max_late=4) as server:
        until(server.sidecar.is_ready)
        model.held.clear()
        with ThreadPoolExecutor(12) as pool:
            got = list(pool.map(lambda n: httpx.post(f"{server.url}/v1/classify", json={"text": f"n {n}"}, timeout=20), range(12)))
        refused, taken = [r for r in got if r.status_code == 429], [r.json() for r in got if r.status_code == 200]
        assert len(taken) + len(refused) == 12 and refused and len(taken) >= 3
        assert all(int(r.headers["retry-after"]) >= 1 for r in refused) and all(r["degraded"] for r in taken)
        ids = [r["result_id"] for r in taken]
        while server.sidecar.results.waiting < 4:
            r = httpx.post(f"{server.url}/v1/classify", json={"text": "more"}, headers={"X-Deadline-Ms": "20"})
            ids += [r.json()["result_id"]] if r.status_code == 200 else []
        r = httpx.post(f"{server.url}/v1/classify", json={"text": "more"})
        assert r.status_code == 429 and "late answers" in r.json()["error"]["message"]
        model.held.set()
        for id in ids:
            until(lambda: httpx.get(f"{server.url}/v1/results/{id}").json()["state"] == "done")
        assert httpx.post(f"{server.url}/v1/classify", json={"text": "again"}).json()["status"] == "ok"


def test_open_requests_are_bounded_and_probes_still_answered(tmp_path):
    with live(tmp_path, max_open=3) as server:
        until(server.sidecar.is_ready)
        host, port = server.url.removeprefix("http://").split(":")
        slow_ones = [socket.create_connection((host, int(port))) for _ in range(3)]
        for s in slow_ones:
            s.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{")
        until(lambda: httpx.get(f"{server.url}/v1/models").status_code == 429)
        assert httpx.get(f"{server.url}/healthz").status_code == 200
        for s in slow_ones:
            s.close()
        until(lambda: httpx.post(f"{server.url}/v1/classify", json={"text": "x"}).status_code == 200)


def test_not_ready_until_warm_and_no_request_is_lost_before(tmp_path):
    task = load_task("cerebellum")
    model = SlowModel(task)
    model.held.clear()
    with live(tmp_path, task, model) as server:
        assert httpx.get(f"{server.url}/healthz").status_code == 200
        early = httpx.get(f"{server.url}/readyz")
        assert early.status_code == 503 and early.json()["error"]["type"] == "not_ready" and early.headers["retry-after"]
        got = httpx.post(f"{server.url}/v1/classify", json={"text": "too early"}, headers={"X-Deadline-Ms": "20"}).json()
        assert got["degraded"] and not server.sidecar.is_ready()
        model.held.set()
        until(lambda: httpx.get(f"{server.url}/readyz").status_code == 200)
        until(lambda: httpx.get(f"{server.url}/v1/results/{got['result_id']}").json()["state"] == "done")
        server.sidecar.draining.set()
        assert httpx.get(f"{server.url}/readyz").status_code == 503


@pytest.mark.parametrize("parallel", [1, 2])
def test_what_comes_while_the_model_is_loaded_waits_for_it_and_is_answered_once(tmp_path, parallel):
    task, there = load_task("cerebellum"), threading.Event()
    model = SlowModel(task)

    def open_model():
        there.wait(30)
        return model

    with live(tmp_path, task, model, open_model, parallel=parallel) as server:
        late = httpx.post(f"{server.url}/v1/classify", json={"text": "too early"}, headers={"X-Deadline-Ms": "50"}).json()
        assert late["status"] == "timeout"
        model.seconds = 0.05  # so that it is still under way when the queue is looked at
        there.set()
        until(lambda: httpx.get(f"{server.url}/v1/results/{late['result_id']}").json()["state"] == "done")
        until(server.sidecar.is_ready)
        until(lambda: not server.sidecar.line.late and not server.sidecar.line.running)
        assert [c.input.get("text") for c in model.asked].count("too early") == 1
        assert server.sidecar.results.waiting == 0


def test_a_full_disk_does_not_end_the_keeping_of_the_house(tmp_path, monkeypatch):
    monkeypatch.setattr(sidecar_module, "PURGE_SECONDS", 0.01)
    with live(tmp_path) as server:
        purged = []

        def purge():
            purged.append(1)
            raise sqlite3.OperationalError("database or disk is full")

        server.sidecar.results.purge = purge
        until(lambda: len(purged) > 2)


def test_the_door(tmp_path):
    with live(tmp_path) as server:
        assert httpx.get(f"{server.url}/healthz", headers={"Host": "evil.example"}).status_code == 403
        for host in ("localhost", "localhost:99", "[::1]:8", "127.0.0.1"):
            assert httpx.get(f"{server.url}/healthz", headers={"Host": host}).status_code == 200
        assert "access-control-allow-origin" not in httpx.get(f"{server.url}/healthz", headers={"Origin": "http://a"}).headers
    with live(tmp_path, api_key=KEY) as server:
        assert httpx.get(f"{server.url}/healthz", headers={"Host": "device.local"}).status_code == 200
        wrong = (f"Bearer {KEY}x", KEY, "Basic x", "Bearer é")
        for headers in ({}, *({"Authorization": text} for text in wrong)):
            got = httpx.post(f"{server.url}/v1/classify", json={"text": "x"}, headers={k: v.encode() for k, v in headers.items()})
            assert got.status_code == 401 and got.headers["www-authenticate"] == "Bearer"
        for path in ("/metrics", "/docs", "/openapi.json", "/v1/models", "/nothing"):
            assert httpx.get(server.url + path).status_code == 401
            assert httpx.get(server.url + path, headers={"Authorization": f"Bearer {KEY}"}).status_code in (200, 404)


def test_it_does_not_listen_beyond_this_machine_without_a_key(tmp_path):
    task = load_task("cerebellum")
    for settings, says in ((Serving(host="0.0.0.0", state=tmp_path), "other machines"),
                           (Serving(host="0.0.0.0", api_key="short"), "16 printable"),
                           (Serving(host="127.0.0.1", api_key="ключ-ключ-ключ-ключ"), "16 printable")):
        with pytest.raises(UserError, match=says):
            serve(task, lambda: None, settings)
    taken = socket.create_server(("127.0.0.1", 0))
    with pytest.raises(UserError, match="cannot listen there"):
        serve(task, lambda: None, Serving(port=taken.getsockname()[1], state=tmp_path))
    taken.close()
    assert not (tmp_path / "results.sqlite").exists()


def test_the_key_comes_from_a_file_or_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("SCION_API_KEY", raising=False)
    assert api_key(None) is None
    monkeypatch.setenv("SCION_API_KEY", KEY)
    assert api_key(None) == KEY
    (tmp_path / "key").write_text(" abc\n")
    assert api_key(tmp_path / "key") == "abc"
    (tmp_path / "empty").write_text("\n")
    for name in ("empty", "none"):
        with pytest.raises(UserError, match=name):
            api_key(tmp_path / name)


def test_a_disk_that_cannot_be_written_still_gives_the_default(running):
    running.model.held.clear()
    running.sidecar.results.db.execute("PRAGMA query_only = ON")
    got = slow(running).json()
    assert got["degraded"] and "result_id" not in got and "cannot write" in got["reason"]
    running.sidecar.results.db.execute("PRAGMA query_only = OFF")
    running.model.held.set()
    assert running.http.post("/v1/classify", json={"text": "x"}).json()["status"] == "ok"


def test_chat_in_openais_form(running):
    def ask(**more):
        return running.http.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "hi"}], **more})

    got = ask(model="any", temperature=0, max_tokens=5).json()
    assert got["choices"][0]["message"] == {"role": "assistant", "content": "good day"} and got["usage"]["total_tokens"] == 5
    events = [line.removeprefix("data: ") for line in ask(stream=True, stream_options={"include_usage": True}).text.split("\n\n") if line]
    assert events.pop() == "[DONE]"
    chunks = [json.loads(e) for e in events]
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"]) == "good day"
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop" and chunks[-1]["usage"]["total_tokens"] == 5
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
    assert ask(response_format=schema).json()["choices"][0]["message"]["content"] == "{}"
    assert running.http.get("/v1/models").json()["data"][0]["id"] == "slow"
    assert got == got | {"system_fingerprint": "abc"} and chunks[0]["system_fingerprint"] == "abc"
    for more, says in (({"temperature": 2.5}, "temperature"), ({"n": 2}, "'n'"), ({"tools": []}, "unknown key 'tools'"),
                       ({"messages": []}, "messages"),
                       ({"messages": [{"role": "assistant", "content": "x"}]}, "end with a message of the user"),
                       ({"response_format": {"type": "json_schema"}}, "json_schema is missing"), ({"max_tokens": 0}, "max_tokens")):
        got = ask(**more)
        assert got.status_code == 422 and says in got.json()["error"]["message"]
    running.model.held.clear()
    got = running.http.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "hi"}]}, headers={"X-Deadline-Ms": "1"})
    assert got.status_code == 429 and got.headers["retry-after"]


def test_chat_hands_on_how_to_draw(running):
    def handed(**more):
        assert running.http.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "hi"}], **more}).status_code == 200
        return running.model.chatted[-1]

    drawing, endless, anew = handed(temperature=0.7, top_p=0.9, min_p=0.05, seed=7, ignore_eos=True)
    assert drawing == Drawing(0.7, 0.05, 0.9, 7) and endless and anew
    drawing, endless, anew = handed()
    assert (drawing.temperature, drawing.min_p, drawing.top_p) == (0, 0, 1) and not endless and not anew
    assert len({handed(temperature=1)[0].seed for _ in range(4)}) == 4 and not handed(temperature=1)[2]


def test_metrics_count_what_happened(running):
    running.http.post("/v1/classify", json={"text": "x"}), running.http.post("/v1/memorize", json={"text": SECRET})
    running.model.held.clear()
    id = slow(running).json()["result_id"]
    running.model.held.set()
    until(lambda: running.http.get(f"/v1/results/{id}").status_code == 200)
    lines = dict(line.rsplit(" ", 1) for line in running.http.get("/metrics").text.splitlines() if not line.startswith("#"))
    assert float(lines['scion_requests_total{code="200",route="/v1/classify"}']) == 2
    assert float(lines['scion_answers_total{route="memorize",status="gated"}']) == 1
    assert float(lines['scion_degraded_total{route="classify"}']) == 1 and float(lines['scion_late_total{route="classify"}']) == 1
    assert float(lines["scion_ready"]) == 1 and float(lines["scion_late_pending"]) == 0 and float(lines["scion_waiting"]) == 0
    assert lines['scion_model_info{name="slow",revision="abc",task="cerebellum"}'] == "1.0"


def test_the_documentation_needs_nothing_from_elsewhere(running):
    page = running.http.get("/docs")
    assert page.status_code == 200
    assert all(part in page.text for part in ("/v1/arbitrate", "candidates[].text", "curl http://127.0.0.1"))
    assert not re.search(r"<script|src=|@import|//cdn", page.text)
    document = running.http.get("/openapi.json").json()
    assert set(document["paths"]) == {"/v1/classify", "/v1/memorize", "/v1/arbitrate", "/v1/results/{id}", "/v1/models",
                                      "/v1/chat/completions", "/healthz", "/readyz", "/metrics"}
    known = document["components"]["schemas"]
    assert set(re.findall(r"#/components/schemas/(\w+)", json.dumps(document))) <= set(known)
    assert known["Arbitrate"]["properties"]["candidates"]["maxItems"] == 5


def test_a_model_that_cannot_be_started_ends_the_server(tmp_path):
    def broken():
        raise UserError("model.gguf: torn")

    failures = []
    sidecar = Sidecar(load_task("cerebellum"), broken, Serving(state=tmp_path), failures.append)
    sidecar.start()
    until(lambda: failures)
    assert "torn" in str(failures[0]) and not sidecar.is_ready()
    sidecar.close()
