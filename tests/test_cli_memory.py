"""scion memory on a run of a tiny random model: order, bad lines, the gate, ids, batches, pipes."""

import io
import json
import os
import shutil
import subprocess
import sys

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from conftest import tiny_model
from scionwood.cli.lines import CHUNK, Line, at_hand, requests_of
from scionwood.cli.memory import app
from scionwood.errors import UserError
from scionwood.models.adapters import add_adapter, trainable
from scionwood.models.loading import embedded_folder
from scionwood.models.settings import Adapter
from scionwood.tasks.cerebellum import answering
from scionwood.tasks.cerebellum.requests import read
from scionwood.training.loop import save_adapter

SECRET = "the wifi password is Gl0xinia!7"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with a base of its own and an adapter whose update is not zero."""
    import torch

    home = tmp_path_factory.mktemp("memory")
    model = tiny_model(layers=2)
    model.save_pretrained(home / "base")
    for file in (*embedded_folder().glob("tok*.json"), *embedded_folder().glob("*.jinja")):
        shutil.copy(file, home / "base")
    adapted = add_adapter(model, Adapter(rank=4), seed=1)
    for name, weight in trainable(adapted).items():
        if "lora_B" in name:
            weight.data = torch.randn(weight.shape, generator=torch.Generator().manual_seed(2)) * 0.3
    folder = home / "run"
    (folder / "adapter" / "adapter-0").mkdir(parents=True)
    save_adapter(adapted, folder / "adapter" / "adapter-0" / "best")
    lock = {"name": "tiny", "task": "cerebellum", "base": str(home / "base"), "train": {"dtype": "fp32", "max_length": 900}}
    (folder / "recipe.lock.toml").write_text(tomli_w.dumps(lock))
    return folder


@pytest.fixture(scope="module")
def router(run):
    return answering.Router(run, device="cpu", echo=lambda line: None)


@pytest.fixture
def ask(run, router, monkeypatch):
    """Call the command with the router loaded once; returns the answers."""
    monkeypatch.setattr(answering, "Router", lambda folder, echo: router)

    def call(*args, piped=None):
        result = CliRunner().invoke(app, [*args, "--run", str(run)], input=piped, catch_exceptions=False)
        assert result.exit_code == 0
        return [json.loads(line) for line in result.stdout.splitlines()]

    return call


def lines(*values):
    return "".join((v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)) + "\n" for v in values)


def test_a_text_is_answered(ask):
    (got,) = ask("classify", "where did I park?")
    assert got["status"] == "ok" and got["intent"] and 0 < got["confidence"] <= 1 and len(got["model_rev"]) == 12
    (got,) = ask("memorize", "never descale with vinegar")
    assert {"decision", "kind", "mixed", "latency_ms", "degraded"} <= set(got)
    (got,) = ask("arbitrate", "moved to Ghent", "-c", "lives in Leiden", "-c", "moved to ghent!")
    assert {"id": "m1", "relation": "same", "action": "NONE", "confidence": None} in got["links"]
    assert ask("classify", '{"text":"where did I park?","request_id":"q"}')[0]["request_id"] == "q"


def test_order_is_kept_and_every_bad_line_is_answered_in_its_place(ask):
    piped = lines({"text": "a", "request_id": 1}, '{"text": "b"', {"txt": "c"}, {"text": "d", "request_id": 4}, "not json", "[1]",
                  "7", "", {"text": ""}, {"text": "x" * 4001}, {"text": "e", "request_id": 11}, '{"text": "\\ud800"}', "[" * 5000)
    got = ask("memorize", piped=piped)
    answered, refused = [1, 4, 11], [2, 3, 5, 6, 7, 9, 10, 12, 13]
    assert [r.get("request_id", r.get("line")) for r in got] == sorted(answered + refused)
    assert [r["line"] for r in got if "line" in r] == refused
    for r in got:
        assert ("line" in r) == (r["status"] == "invalid") == ("error" in r)
    assert "did you mean 'text'" in got[2]["error"]


def test_bytes_that_are_no_text_are_a_bad_line(ask):
    got = ask("classify", piped=b'{"text":"a"}\n{"text":"\xff"}\n')
    assert [r["status"] for r in got] == ["ok", "invalid"]


def test_secrets_and_duplicates_are_gated(ask):
    (got,) = ask("memorize", SECRET)
    assert (got["status"], got["kind"], got["confidence"]) == ("gated", "secret", None)
    (got,) = ask("arbitrate", SECRET, "-c", "has wifi")
    assert (got["status"], got["new_fact"], got["reason"]) == ("gated", "drop", "secret")
    (got,) = ask("arbitrate", "Has a dog.", "-c", "has a dog")
    assert (got["status"], got["new_fact"], got["reason"]) == ("gated", "drop", "duplicate")


FACTS = ["lives in Leiden", "has a whippet called Fen", "对青霉素过敏", "works at a bakery", "moved to Ghent"]


def test_the_callers_ids_come_back_and_the_order_of_candidates_does_not_matter(ask):
    def relations(facts):
        stored = [{"id": f"db/{fact}", "text": fact} for fact in facts]
        (got,) = ask("arbitrate", piped=lines({"new": "moved to Ghent in March", "candidates": stored}))
        return {link["id"]: link["relation"] for link in got["links"]}, got["new_fact"]

    first = relations(FACTS)
    assert first[0] and set(first[0]) <= {f"db/{fact}" for fact in FACTS}
    for k in (1, 3):
        assert relations(FACTS[k:] + FACTS[:k]) == first
    assert relations(FACTS[::-1]) == first


def test_a_batch_equals_one_by_one(router):
    asked = [("memorize", [read("memorize", f"{a}, {b}") for a in FACTS for b in ("yes", "no?")]),
             ("arbitrate", [read("arbitrate", {"new": a, "candidates": FACTS}) for a in ("moved", "Fen is ill", SECRET)])]
    for job, requests in asked:
        apart = [router.answer(job, [request])[0] for request in requests]
        for together, alone in zip(router.answer(job, requests), apart, strict=True):
            assert {k for k, v in together.items() if v == alone[k]} >= set(together) - {"latency_ms", "confidence", "links"}
            assert together["confidence"] == pytest.approx(alone["confidence"], abs=1e-3)
            for a, b in zip(together.get("links", []), alone.get("links", []), strict=True):
                assert (a["id"], a["relation"]) == (b["id"], b["relation"])
                assert a["confidence"] == pytest.approx(b["confidence"], abs=1e-3)


def test_what_is_too_long_for_the_model_fails_alone(router):
    good, long = read("memorize", "a dog"), read("memorize", " ".join(f"q{i}z" for i in range(600)))
    a, b, c = router.answer("memorize", [good, long, good])
    assert a["status"] == c["status"] == "ok"
    assert (b["status"], b["degraded"], b["decision"], b["kind"]) == ("error", True, "SAVE", "unclear")
    assert "max_length = 900" in b["reason"]


def test_files_of_every_kind(ask, tmp_path):
    requests = [{"text": "a", "request_id": i} for i in range(3)]
    files = {"lines.jsonl": lines(*requests), "array.json": json.dumps(requests, indent=1), "one.json": json.dumps(requests),
             "bom.jsonl": "\ufeff" + lines(*requests)}
    for name, text in files.items():
        (tmp_path / name).write_text(text, "utf-8")
        assert [r["request_id"] for r in ask("classify", str(tmp_path / name))] == [0, 1, 2], name
    (tmp_path / "object.json").write_text(json.dumps(requests[2], indent=1))
    assert [r["request_id"] for r in ask("classify", str(tmp_path / "object.json"))] == [2]
    (tmp_path / "plain.txt").write_text("[INFO] ready\n\nhello there\n\"To be\" she said\n", "utf-8")
    assert [r["status"] for r in ask("memorize", str(tmp_path / "plain.txt"))] == ["ok"] * 3
    assert {r["status"] for r in ask("arbitrate", str(tmp_path / "plain.txt"))} == {"invalid"}


def test_what_cannot_be_read_at_all_is_an_error(ask, tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n\n")
    empty, gone = str(tmp_path / "empty.jsonl"), str(tmp_path / "gone.jsonl")
    for args in (["classify", empty], ["classify", gone], ["arbitrate", "-", "-c", "x"]):
        with pytest.raises(UserError):
            ask(*args)
    with pytest.raises(UserError):
        ask("classify", piped="")


def test_a_run_that_cannot_answer_is_told(run, tmp_path):
    with pytest.raises(UserError, match="did you mean 'adapter-0'"):
        answering.Router(run, "adapter-1", echo=lambda line: None)
    with pytest.raises(UserError, match="not a run folder"):
        answering.Router(tmp_path, echo=lambda line: None)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200) | st.text(alphabet='{}[]":,a1 \n\\', max_size=60).map(str.encode), st.booleans(), st.booleans())
def test_any_bytes_become_requests_in_order(raw, plain, ends):
    got = [line for chunk in requests_of(at_hand(io.BytesIO(raw)), plain, ends) for line in chunk]
    assert [line.number for line in got] == sorted({line.number for line in got})
    assert all(isinstance(line, Line) for line in got)


def test_chunks_are_bounded():
    sizes = [len(c) for c in requests_of(at_hand(io.BytesIO(b'{"text":"a"}\n' * 300)), True, False)]
    assert sum(sizes) == 300 and max(sizes) <= CHUNK


def test_an_open_pipe_is_answered_line_by_line_and_stderr_tells_no_text(run):
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "scionwood", "memory", "memorize", "-", "--run", str(run)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, text=True, env=env, stdin=pipe, stdout=pipe, stderr=pipe)
    for text in ("the dog is called Fen", "bad\\", SECRET):
        process.stdin.write(f'{{"text":"{text}"}}\n')
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())  # comes while the pipe is still open
        assert answer["status"] == {"bad\\": "invalid", SECRET: "gated"}.get(text, "ok")
    rest, told = process.communicate(timeout=60)
    assert rest == "" and process.returncode == 0
    assert "device:" in told and "Fen" not in told and "Gl0xinia" not in told


def test_a_missing_run_ends_with_2(tmp_path):
    command = [sys.executable, "-m", "scionwood", "memory", "classify", "hi there", "--run", str(tmp_path / "none")]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 2 and process.stdout == ""
    assert process.stderr.startswith("scion: ") and process.stderr.count("\n") == 1 and "hi there" not in process.stderr
