"""Lumen's benchmark scripts run, and say what they measured. Times are never checked here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def run(script, *options, tmp_path):
    """Run a script with ``--json``; return what it printed and the figures that it wrote."""
    out = tmp_path / "figures.json"
    done = subprocess.run([sys.executable, str(BENCHMARKS / script), *map(str, options), "--json", str(out)],
                          env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout, json.loads(out.read_text("utf-8"))


@pytest.mark.parametrize("numbers", [(), ("--numbers",)], ids=["shape", "numbers"])
def test_student_sides_decide_alike(tmp_path, numbers):
    printed, figures = run("student.py", "--windows", 20, "--trees", 4, "--rounds", 2, *numbers, tmp_path=tmp_path)
    assert figures["same"] == figures["of"] > 0 and figures["bytes"] < 500_000
    assert "times compact" in printed and len(figures["microseconds"]) == 5


def test_live_replays_a_short_day(tmp_path):
    printed, figures = run("live.py", "--hours", 0.2, "--seconds", 1, tmp_path=tmp_path)
    assert figures["replay"]["ticks"] == 360 and figures["replay"]["expressions"] > 3
    assert 10 < figures["replay"]["highest_mb"] and figures["sensing"]["core_share"] < 1
    assert "resident memory" in printed and "of one core" in printed
