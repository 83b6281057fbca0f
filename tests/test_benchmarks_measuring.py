"""The measuring benchmark runs, and all of its sides agree on the figures. Times are never checked here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "measuring.py"


@pytest.mark.skipif(not SCRIPT.exists(), reason="not a checkout: no benchmarks/")
def test_the_sides_agree(tmp_path):
    text = tmp_path / "text.txt"
    said = "The mill — “old” as the river — stands still; it's the wheel, not the water, that's broken. Nobody mends it. "
    text.write_text(said * 3, "utf-8")
    out = tmp_path / "figures.json"
    done = subprocess.run([sys.executable, str(SCRIPT), "--text", str(text), "--megabytes", "0.02", "--json", str(out)],
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = {r["side"]: r for r in json.loads(out.read_text())["rows"]}
    assert {"ours", "texts", "plain"} <= set(rows) and rows["texts"]["texts"] > 5
    assert rows["ours"]["values"] == pytest.approx(rows["plain"]["values"])
    for side in rows.values():
        assert side["words"] == rows["plain"]["words"] or side["side"] == "texts"
        assert {k: v for k, v in side["values"].items()} == pytest.approx({k: rows["ours"]["values"][k] for k in side["values"]})
    assert "plain code" in done.stdout
