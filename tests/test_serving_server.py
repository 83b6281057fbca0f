"""The whole sidecar as its own process: ``scion serve`` on a real GGUF of a tiny random model, started, asked, stopped and killed."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from conftest import tiny_model
from serving_export import write_export
from scionwood.errors import UserError
from scionwood.files import read_json, write_json
from scionwood.serving.artifact import read_artifact
from scionwood.serving.client import Client
from scionwood.systems.label_scoring import LabelScorer
from scionwood.task import load_task
from scionwood.tasks.cerebellum.requests import read, to_cases

pytest.importorskip("xllamacpp", reason="xllamacpp is not installed (pip install 'scionwood[serve]')")

# the command itself; at its end the process says what it has imported
MAIN = """
import atexit, json, sys
atexit.register(lambda: print("MODULES", json.dumps(sorted({m.partition(".")[0] for m in sys.modules})), flush=True))
from scionwood.cli import main
main()
"""
TEXTS = ["where is my key?", "her name is Fen", "forget what I said about the boat", "Fen 养了一只猫", "thanks!"]


@pytest.fixture(scope="module")
def model():
    return tiny_model(layers=2)


@pytest.fixture(scope="module")
def run(model, tokenizer, tmp_path_factory):
    return write_export(tmp_path_factory.mktemp("served") / "run", model, tokenizer, kinds=("f16", "q8_0"))


class Process:
    """``scion serve`` on a free port."""

    def __init__(self, folder, state, *options, env=None):
        command = [sys.executable, "-c", MAIN, "serve", str(folder), "--port", "0", "--state", str(state), "--context", "1000", *options]
        environment = {k: v for k, v in os.environ.items() if k != "SCION_API_KEY"} | {"SCION_LOG": "DEBUG"} | (env or {})
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        self.told = []
        while self.process.poll() is None and "listening on" not in "".join(self.told):
            self.told.append(self.process.stderr.readline())
        self.url = self.told[-1].partition("listening on ")[2].split()[0] if self.process.poll() is None else ""

    def client(self, **kw):
        return Client(self.url, **kw)

    def stop(self, number=signal.SIGTERM):
        """(exit code, stdout, stderr) after a signal."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, "".join(self.told) + err


@pytest.fixture
def start(tmp_path, run):
    begun = []

    def one(*options, folder=run, **kw):
        begun.append(Process(folder, tmp_path / "state", *options, **kw))
        return begun[-1]

    yield one
    for p in begun:
        if p.process.poll() is None:
            p.process.kill()
        p.process.communicate()


def same(a, b):
    """Whether two responses are one answer. How much of a prompt came from the cache may show in a confidence's last digits, no more."""
    said = [{k: v for k, v in answer.items() if k not in ("latency_ms", "confidence")} for answer in (a, b)]
    assert said[0] == said[1]
    assert a["confidence"] == pytest.approx(b["confidence"], abs=2e-3)


def test_answers_are_those_of_the_model_in_memory_and_no_heavy_library_is_loaded(start, model, renderer):
    import contextlib

    process = start("--model", "f16", "--deadline-ms", "20000")
    task = load_task("cerebellum")
    scorer = LabelScorer("a", "adapter", model, renderer, task, contextlib.nullcontext)
    with process.client() as scion:
        scion.wait_ready(30)
        first = {}
        for job in ("classify", "memorize"):
            for text in TEXTS:
                request = read(job, text)
                (said,) = scorer.predict(to_cases(job, request))
                got = first[job, text] = scion.ask(job, {"text": text})
                assert got["status"] == "ok" and not got["degraded"]
                assert (got["intent"] if job == "classify" else {k: got[k] for k in ("kind", "mixed")}) == said.answer
                assert got["confidence"] == pytest.approx(said.confidence, abs=0.02)
        # A-B-A: nothing of a request is left for the next one, whatever came between
        for job, text in reversed(first):
            same(scion.ask(job, {"text": text}), first[job, text])
            scion.arbitrate("moved to Ghent", ["lives in Leiden", "has a dog"])
            scion.chat([{"role": "user", "content": text}], max_tokens=4)
            same(scion.ask(job, {"text": text}), first[job, text])
        with ThreadPoolExecutor(6) as pool:  # and nothing of those that come at the same time
            again = list(pool.map(lambda key: (key, scion.ask(key[0], {"text": key[1]})), list(first) * 2))
        for key, got in again:
            same(got, first[key])
        assert scion.models()["data"][0]["id"] == "tiny-f16"
    code, out, err = process.stop()
    assert code == 0 and "ready after" in err and "Traceback" not in err
    loaded = set(json.loads(out.partition("MODULES ")[2]))
    assert "xllamacpp" in loaded and "fastapi" in loaded
    assert not loaded & {"torch", "transformers", "peft", "accelerate", "scipy", "sklearn", "matplotlib", "gguf", "safetensors"}
    assert not any(text in err for text in TEXTS)


def test_chat_on_the_real_engine(start):
    process = start("--max-tokens", "20")
    with process.client(retries=0) as scion:
        scion.wait_ready(30)
        got = scion.chat([{"role": "user", "content": "hello <|im_end|> there"}], max_tokens=5)
        assert got["usage"]["completion_tokens"] <= 5 and got["choices"][0]["finish_reason"] in ("stop", "length")
        assert got == got | {"object": "chat.completion", "model": "tiny-f16"}
        schema = {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"],
                  "additionalProperties": False}
        wanted = {"type": "json_schema", "json_schema": {"name": "c", "schema": schema}}
        content = scion.chat([{"role": "user", "content": "a colour"}], response_format=wanted)["choices"][0]["message"]["content"]
        assert content.startswith("{") and json.loads(content)["colour"] in ("red", "blue")
        for body, says in (({"type": "nothing"}, "schema"), ({"type": "string", "pattern": "(?<=a)b"}, "schema")):
            broken = {"type": "json_schema", "json_schema": {"name": "c", "schema": body}}
            r = scion.http.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "x"}], "response_format": broken})
            assert r.status_code == 422 and says in r.json()["error"]["message"]
        r = scion.http.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "word " * 3000}]})
        assert r.status_code == 422 and "context" in r.json()["error"]["message"]


def test_what_is_too_long_for_the_model_is_refused_with_its_length(start, renderer):
    """The export's context is 1000 tokens; each text is within the 4000 characters that a request may have."""
    task, process = load_task("cerebellum"), start("--deadline-ms", "20000")

    def tokens(job, body):
        return [len(renderer.render(task.messages(c)).prompt) for c in to_cases(job, read(job, body))]

    def post(job, body):
        r = scion.http.post(f"/v1/{job}", json=body)
        return r.status_code, r.json().get("error", {}).get("message", ""), r.json().get("status")

    def asked():
        return [line for line in httpx.get(f"{process.url}/metrics").text.splitlines() if line.startswith("scion_model_seconds_count")]

    with process.client(retries=0) as scion:
        scion.wait_ready(30)
        long, short = {"text": "mill " * 790, "previous": ["mill " * 790]}, {"text": "mill " * 700}
        (n,), (m,) = tokens("memorize", long), tokens("memorize", short)
        assert n > 1000 > m and len(short["text"]) > 1000  # the second is long in characters alone
        told = f"{n} tokens with the instructions, more than the context of 1000; shorten or split the text"
        before = asked()
        assert post("memorize", long) == (422, told, None)
        assert asked() == before  # the model did not see it
        assert post("memorize", short) == (200, "", "ok")
        pair = {"new": "moved to Ghent", "candidates": ["lives in Leiden", "é" * 3000]}
        assert post("arbitrate", pair) == (422, f"m1: {told.replace(str(n), str(tokens('arbitrate', pair)[1]))}", None)


def test_a_stop_drains_and_a_kill_loses_nothing_that_was_promised(start):
    process = start()
    with process.client(retries=0) as scion:
        scion.wait_ready(30)
        said = [scion.memorize(f"note {n}: the boat is at pier {n}", deadline_ms=1) for n in range(8)]
        promised = [answer["result_id"] for answer in said if answer["degraded"]]
    process.stop(signal.SIGKILL)
    again = start()
    with again.client() as scion:
        answers = [scion.wait_result(id, 30) for id in promised]
        assert all(a["status"] == "ok" and a["result_id"] in promised for a in answers)
        late = scion.memorize("one more", deadline_ms=1)
    code, _, err = again.stop()
    assert code == 0 and "left for the next start" not in err
    if late["degraded"]:
        third = start()
        with third.client() as scion:
            assert scion.result(late["result_id"])["state"] == "done"


def test_callers_under_way_are_answered_when_it_stops(start):
    process = start("--deadline-ms", "20000")
    with process.client() as scion, ThreadPoolExecutor(6) as pool:
        scion.wait_ready(30)
        asked = [pool.submit(httpx.post, f"{process.url}/v1/arbitrate", timeout=30,
                             json={"new": {"text": f"moved to Ghent {n}"}, "candidates": [{"text": f"lives in {c} {n}"} for c in "abcde"]})
                 for n in range(6)]
        while httpx.get(f"{process.url}/metrics").text.find("scion_waiting 0.0") >= 0 and not all(a.done() for a in asked):
            time.sleep(0.01)
        code, _, _ = process.stop()
        answered = [a.result() for a in asked if not isinstance(a.exception(), httpx.TransportError)]  # those that came in before it
    assert code == 0 and answered and all(r.status_code == 200 and r.json()["status"] == "ok" for r in answered)


def test_what_cannot_be_served_ends_with_2_and_one_line(start, run, tmp_path, model, tokenizer):
    def refused(*options, **kw):
        process = start(*options, **kw)
        out, err = process.process.communicate(timeout=30)
        lines = [line for line in ("".join(process.told) + err).splitlines() if line.startswith("scion: ")]
        assert process.process.returncode == 2 and len(lines) == 1, err
        return lines[0]

    assert "openssl rand" in refused("--host", "0.0.0.0", env={"SCION_API_KEY": "short"})
    assert "other machines could ask" in refused("--host", "0.0.0.0")
    assert "scion export" in refused(folder=tmp_path)
    torn = write_export(tmp_path / "torn", model, tokenizer)
    file = torn / "export" / "tiny-f16.gguf"
    file.write_bytes(b"GGUF" + bytes(file.stat().st_size - 4))
    assert "llama.cpp cannot load it" in refused(folder=torn)


def test_exports_are_found_and_broken_ones_are_told(run, tmp_path):
    assert read_artifact(run).model.name == "tiny-f16.gguf" and read_artifact(run / "export", "gguf:q8_0").name == "tiny-q8_0"
    assert read_artifact(run, "tiny-q8_0.gguf").rev == read_artifact(run, "Q8_0").rev != read_artifact(run).rev
    with pytest.raises(UserError, match="not exported.*did you mean 'q8_0'.*there: f16, q8_0"):
        read_artifact(run, "q8_1")
    about = read_json(run / "export" / "serving.json")
    for change, says in (({"files": {}}, "is gone"), ({"model": None}, "holds no GGUF"), ({"task": None, "files": 3}, "not written by"),
                         ({"files": {"gguf:f16": about["files"]["gguf:f16"] | {"bytes": 1}}}, "export it anew")):
        write_json(tmp_path / "serving.json", about | change)
        (tmp_path / "tiny-f16.gguf").write_bytes(b"GGUF" * 10)
        if says == "is gone":
            (tmp_path / "tiny-f16.gguf").unlink()
        with pytest.raises(UserError, match=says):
            read_artifact(tmp_path)


HELD = """
import sys, time
from pathlib import Path
from serving_live import SlowModel
from scionwood.serving.server import serve
from scionwood.serving.settings import Serving
from scionwood.task import load_task
model = SlowModel(load_task("cerebellum"))
model.before = lambda case: "for ever" in str(case.input) and time.sleep(300)
serve(model.task, lambda: model, Serving(port=0, state=Path(sys.argv[1]), drain_seconds=200))
"""


def test_a_second_signal_ends_it_at_once(tmp_path):
    """A late answer that takes for ever is waited for after the first; after the second it is left to the next start."""
    process = subprocess.Popen([sys.executable, "-c", HELD, str(tmp_path)], stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parent)
    try:
        url = process.stderr.readline().partition("listening on ")[2].split()[0]
        with Client(url) as scion:
            scion.wait_ready(30)
            assert "result_id" in scion.classify("this takes for ever", deadline_ms=50)
            process.send_signal(signal.SIGTERM)
            while scion.ready():
                time.sleep(0.01)
        time.sleep(0.5)  # by then nobody is connected, and the late answer alone is waited for
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert "1 late answers are left" in process.communicate(timeout=60)[1]
    finally:
        process.kill()
        process.communicate()


def test_systemd_is_told(start, tmp_path):
    import socket

    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(path)
        s.settimeout(20)
        process = start(env={"NOTIFY_SOCKET": path})
        assert s.recv(100) == b"READY=1" and httpx.get(f"{process.url}/readyz").status_code == 200
        assert process.stop()[0] == 0
        assert s.recv(100) == b"STOPPING=1"
