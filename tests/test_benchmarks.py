"""The benchmark scripts run, and both of their sides compute the same thing. Times are never checked here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import tiny_model

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def run(script: str, *options, tmp_path: Path) -> tuple[str, dict]:
    """Run a script with ``--json``; return what it printed and the figures that it wrote."""
    out = tmp_path / "figures.json"
    command = [sys.executable, str(BENCHMARKS / script), *map(str, options), "--device", "cpu", "--json", str(out)]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout, json.loads(out.read_text("utf-8"))


def test_training_agrees_with_trl(tmp_path):
    pytest.importorskip("trl", reason="TRL is not installed (pip install 'scionwood[bench]')")
    size = ("--layers", 2, "--hidden", 64, "--vocab", 512, "--prefix", 40, "--own", 18, "--cases", 4, "--trl-micro", 2)
    printed, figures = run("training.py", *size, tmp_path=tmp_path)
    trl, ours = figures["rows"]
    assert len(ours["losses"]) == 3 and ours["losses"][-1] < ours["losses"][0]
    assert ours["loss_difference"] < 1e-3
    assert ours["data"] == trl["data"] and ours["drawn"] == trl["drawn"]
    assert "scionwood" in printed and "TRL" in printed


def test_deciding_agrees_with_restricted_generate(tokenizer, tmp_path):
    base = tmp_path / "base"
    tiny_model(layers=2).save_pretrained(base)
    tokenizer.save_pretrained(base)
    printed, figures = run("deciding.py", "--base", base, "--cases", 6, "--restricted", tmp_path=tmp_path)
    scored, loop, restricted = figures["rows"]
    assert scored["equal"] == restricted["equal"] == 6 and restricted["unparseable"] == 0
    assert loop["unparseable"] + loop["equal"] <= 6  # what cannot be parsed is never equal
    assert "Without an adapter" in printed


def test_exporting_decides_alike_by_labels_and_under_a_grammar(tmp_path):
    pytest.importorskip("xllamacpp", reason="xllamacpp is not installed (pip install 'scionwood[serve]')")
    printed, figures = run("exporting.py", "--random", "64,2,8192", "--cases", 4, "--threads", 1, tmp_path=tmp_path)
    (file,) = figures["files"]
    scored, legal, free = file["rows"]
    assert scored["equal"] == 4 and scored["unfinished"] == legal["unfinished"] == 0 and scored["cold_ratio"] == 1
    assert free["unfinished"] + free["equal"] <= 4 and "label scoring" in printed
