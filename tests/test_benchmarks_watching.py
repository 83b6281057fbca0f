"""The watching benchmark runs and its arithmetic holds. Times are never checked here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from test_tasks_lantern_task import tasks_file
from tiny_flow import make_base

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "watching.py"
pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="not a checkout: no benchmarks/")


def run(*args):
    return subprocess.run([sys.executable, str(SCRIPT), *args], capture_output=True, text=True, timeout=300)


def test_the_share_follows_from_steps_and_looks(tmp_path):
    make_base(tmp_path / "base")
    out = tmp_path / "figures.json"
    sets = [f"base={tmp_path / 'base'}", f"task_options.tasks={tasks_file(tmp_path, 'Why do bells toll?')}", "train.steps=25",
            "train.batch=2", "train.dtype=fp32", "train.watch.every=10", "train.watch.prompts=2", "train.watch.tokens=20", "adapter.rank=2"]
    done = run("--steps", "2", "--looks", "1", "--json", str(out), *(a for s in sets for a in ("--set", s)))
    assert done.returncode == 0, done.stderr[-2000:]
    f = json.loads(out.read_text())
    assert (f["steps"], f["looks"], f["tokens"]) == (25, 4, 40)
    assert f["share"] == pytest.approx(4 * f["look_s"] / (4 * f["look_s"] + 25 * f["step_s"])) and f["within"] == (f["share"] <= 0.05)
    assert "the watch takes" in done.stdout


def test_a_recipe_without_a_watch_is_one_line():
    done = run("--recipe", "cerebellum")
    assert done.returncode == 2 and "watches nothing; set train.watch.every" in done.stderr and "Traceback" not in done.stderr
