"""The benchmarks of the NLA run, and both of their sides compute the same thing. Times are never checked here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
pytestmark = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="not a checkout: no benchmarks/")


def run(script: str, *options, out: Path) -> tuple[str, dict]:
    """Run a script with ``--json``; return what it printed and the figures that it wrote."""
    done = subprocess.run([sys.executable, str(BENCHMARKS / script), *map(str, options), "--device", "cpu", "--json", str(out)],
                          env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout, json.loads(out.read_text("utf-8"))


def test_extraction_gives_the_values_of_a_plain_forward(tmp_path):
    printed, figures = run("extracting.py", "--layers", 6, "--hidden", 64, "--vocab", 512, "--texts", 8, "--longest", 40, "--batch", 3,
                           "--batch-tokens", 90, out=tmp_path / "f.json")
    plain, ours = figures["rows"]
    assert ours["difference"] < 1e-4 and ours["layer"] == plain["layer"] == 4 and ours["tokens"] == plain["tokens"]
    assert "scionwood" in printed and "output_hidden_states" in printed


def test_verbalizer_training_has_the_losses_of_a_plain_loop(tmp_path):
    printed, figures = run("verbalizing.py", "--layers", 2, "--hidden", 64, "--vocab", 512, "--prompt", 30, "--texts", 5, "--micro", 2,
                           "--longest", 24,
                           out=tmp_path / "f.json")
    plain, ours = figures["rows"]
    assert len(ours["losses"]) == 3 and ours["losses"][-1] < ours["losses"][0] and ours["loss_difference"] < 1e-3
    assert "plain loop" in printed and len(plain["seconds"]) == 2


def test_reconstructor_training_has_the_losses_of_a_plain_loop(tmp_path):
    printed, figures = run("verbalizing.py", "--half", "ar", "--layers", 3, "--hidden", 64, "--vocab", 8192, "--texts", 5, "--micro", 2,
                           "--longest", 24, out=tmp_path / "f.json")
    plain, ours = figures["rows"]
    assert len(ours["losses"]) == 3 and ours["losses"][-1] < 0.99 * ours["losses"][0] and ours["loss_difference"] < 1e-4
    assert "blocks 0 to 2" in printed and figures["settings"]["half"] == "ar" and len(plain["seconds"]) == 2
