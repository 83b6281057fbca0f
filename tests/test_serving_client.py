"""The client, sync and async, against a real server: answers, retries, late results, errors in the server's words, no heavy imports."""

import asyncio
import json
import socket
import subprocess
import sys
import threading

import pytest

from serving_live import SlowModel, live, until
from scionwood.models.sampling import Drawing
from scionwood.serving.client import AsyncClient, Client, ServerError
from scionwood.task import load_task

KEY = "k" * 16


@pytest.fixture
def server(tmp_path):
    with live(tmp_path) as running:
        until(running.sidecar.is_ready)
        yield running


def test_every_call(server):
    with Client(server.url) as scion:
        scion.wait_ready(5)
        assert scion.classify("where is Fen?", request_id=3)["request_id"] == 3
        assert scion.memorize("her name is Fen")["decision"] in ("SAVE", "SKIP")
        assert scion.arbitrate("moved to Ghent", ["lives in Leiden", {"id": "x", "text": "moved to ghent"}])["links"]
        assert scion.ask("classify", {"text": "hi"})["status"] == "ok"
        assert scion.chat([{"role": "user", "content": "hi"}])["choices"][0]["message"]["content"] == "good day"
        scion.chat([{"role": "user", "content": "hi"}], temperature=0.7, top_p=0.9, min_p=0.1, seed=3, ignore_eos=True)
        assert server.model.chatted[-1][0] == Drawing(0.7, 0.1, 0.9, 3)
        with pytest.raises(ServerError, match="422: 'temperature': .* less than or equal to 2"):
            scion.chat([{"role": "user", "content": "hi"}], temperature=3)
        assert scion.models()["data"][0]["id"] == "slow"
        server.model.held.clear()
        late = scion.classify("later", deadline_ms=20)
        assert late["degraded"] and scion.result(late["result_id"])["state"] == "pending"
        threading.Timer(0.1, server.model.held.set).start()
        assert scion.wait_result(late["result_id"], 5)["status"] == "ok"


def test_the_same_calls_as_coroutines(server):
    async def work():
        async with AsyncClient(server.url) as scion:
            await scion.wait_ready(5)
            one, two = await asyncio.gather(scion.classify("where is Fen?"), scion.memorize("her name is Fen"))
            assert one["intent"] and two["kind"]
            server.model.held.clear()
            late = await scion.classify("later", deadline_ms=20)
            server.model.held.set()
            assert (await scion.wait_result(late["result_id"], 5))["status"] == "ok"
            with pytest.raises(ServerError, match="422: .*did you mean 'text'"):
                await scion.ask("classify", {"txet": "x"})

    asyncio.run(work())


def test_errors_are_the_servers_words_and_are_not_tried_again(server):
    before = len(server.model.asked)
    with Client(server.url) as scion:
        with pytest.raises(ServerError, match="422: key 'text' is missing") as e:
            scion.ask("classify", {})
        assert e.value.status == 422
        with pytest.raises(ServerError, match="404"):
            scion.result("a" * 32)
    assert len(server.model.asked) == before


def test_overload_is_waited_for(tmp_path):
    task = load_task("cerebellum")
    model = SlowModel(task)
    with live(tmp_path, task, model, max_waiting=1, deadline_ms=10_000) as server:
        until(server.sidecar.is_ready)
        model.held.clear()
        with Client(server.url, retries=0) as other, Client(server.url) as scion:
            first = threading.Thread(target=other.classify, args=("first",))
            first.start()
            until(lambda: server.sidecar.line.waiting())
            with Client(server.url, retries=0) as hasty, pytest.raises(ServerError, match="429"):
                hasty.classify("second")
            threading.Timer(0.2, model.held.set).start()
            assert scion.classify("third")["status"] == "ok"  # after a 429 and its Retry-After
            first.join()
        assert 'code="429"' in server.sidecar.metrics.text().decode()


def test_a_server_that_comes_later_is_found(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with Client(url, retries=1) as scion:
        assert not scion.ready()
        with pytest.raises(ServerError, match="cannot be reached"):
            scion.classify("x")
        with pytest.raises(ServerError, match="not ready within"):
            scion.wait_ready(0.1)
    answer = []
    with Client(url, retries=30) as scion:
        asking = threading.Thread(target=lambda: answer.append(scion.classify("x")))
        asking.start()
        with live(tmp_path, port=port):
            asking.join(20)
    assert answer and answer[0]["intent"]


def test_a_lost_result_is_said(tmp_path):
    task = load_task("cerebellum")
    model = SlowModel(task)
    with live(tmp_path, task, model, drain_seconds=0) as server:
        until(server.sidecar.is_ready)
        model.held.clear()
        with Client(server.url) as scion:
            id = scion.classify("the wifi password is Gl0xinia!7", deadline_ms=20)["result_id"]
            with pytest.raises(ServerError, match="not there within"):
                scion.wait_result(id, 0.1)
    with live(tmp_path) as server, Client(server.url) as scion, pytest.raises(ServerError, match="lost"):
        scion.wait_result(id, 5)


def test_the_key_goes_along(tmp_path, monkeypatch):
    with live(tmp_path, api_key=KEY) as server:
        with Client(server.url, retries=0) as scion, pytest.raises(ServerError, match="401"):
            scion.classify("x")
        monkeypatch.setenv("SCION_API_KEY", KEY)
        monkeypatch.setenv("SCION_URL", server.url)
        with Client() as scion:
            assert scion.classify("x")["intent"]


def test_what_is_no_server_of_ours_is_said():
    listener = socket.create_server(("127.0.0.1", 0))

    def answer():
        for _ in range(2):
            connection, _ = listener.accept()
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
            connection.close()

    threading.Thread(target=answer, daemon=True).start()
    url, match = f"http://127.0.0.1:{listener.getsockname()[1]}", "not the answer of a scionwood"
    with Client(url, retries=0) as scion, pytest.raises(ServerError, match=match):
        scion.models()
    listener.close()


def test_it_imports_nothing_heavy():
    code = "import json, sys, scionwood.serving.client; print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    loaded = set(json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout))
    assert "httpx" in loaded
    assert not loaded & {"torch", "transformers", "numpy", "fastapi", "starlette", "uvicorn", "xllamacpp", "pydantic"}
