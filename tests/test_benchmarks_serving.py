"""The benchmark of the sidecar runs: both servers answer the same prompts, and the soak sees what it looks for. Times are never checked."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import tiny_model
from serving_export import write_export

pytest.importorskip("xllamacpp", reason="xllamacpp is not installed (pip install 'scionwood[serve]')")
pytest.importorskip("schemathesis", reason="schemathesis is not installed (pip install 'scionwood[test]')")
BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def test_all_parts(tokenizer, tmp_path):
    run = write_export(tmp_path / "run", tiny_model(layers=2), tokenizer, max_length=1024)
    options = ["--starts", 1, "--cold-starts", 1, "--requests", 6, "--clients", 2, "--cases", 6, "--minutes", 0.05, "--threads", 1]
    command = [sys.executable, str(BENCHMARKS / "serving.py"), str(run), *map(str, options), "--json", str(tmp_path / "out.json")]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300)
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["starts"]["first_answers"] == 3 and "first answers" in done.stdout, done.stderr
    assert {(r["server"], r["state"]) for r in found["latency"]} == {(s, w) for s in ("scionwood", "llama.cpp") for w in ("cold", "warm")}
    assert all(r["failed"] == 0 for r in found["latency"] if r["server"] == "scionwood")
    assert found["scoring"]["cases"] == 6 and found["scoring"]["generation"]["p50"] > 0
    soak = found["soak"]
    assert soak["requests"] > 10 and soak["server_errors"] == soak["lost"] == soak["exit_code"] == 0 and not soak["fuzz_failures"]
    assert soak["memory_mb"]["end"] > 0


def test_the_soak_notices_what_it_is_there_for(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from serving_soak import Tally, figures

    def broken(lost=0, exit_code=0, memory=(100.0,) * 9, codes=(200,), failure=None):
        tally = Tally()
        tally.memory = list(enumerate(memory))
        for code in codes:
            tally.count(code)
        tally.fuzz_failures = [failure] if failure else []
        return figures(tally, 1.0, lost, exit_code)["broken"]

    assert broken() == []
    assert broken(codes=(200, 429, 422, 413)) == []
    for wrong in ({"lost": 1}, {"exit_code": -11}, {"codes": (500,)}, {"codes": (0,)}, {"failure": "x"},
                  {"memory": (100.0,) * 3 + (120.0,) * 3 + (150.0,) * 3}):
        assert len(broken(**wrong)) == 1, wrong
