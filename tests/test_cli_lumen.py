"""scion lumen: record, replay and import from the command line."""

import json

from typer.testing import CliRunner

from scionwood.cli.lumen import app
from test_tasks_lumen_store import raw_line, rows, some, write

runner = CliRunner()


def ok(*args):
    result = runner.invoke(app, list(map(str, args)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def test_record_then_replay(tmp_path):
    store = tmp_path / "a.db"
    sets = ("--set", "state.every_s=0.1", "--set", "state.preset=card")
    told = ok("record", "--store", store, "--for", "0.5", *sets, "--json").stdout.splitlines()
    assert 1 <= len(told) == len(rows(store)) <= 6  # a busy machine leaves ticks out
    again = ok("replay", store, "--json").stdout.splitlines()  # with the table that it was recorded with
    felt = [{k: v for k, v in json.loads(line).items() if k in "EISV"} for line in told]
    assert felt == [{k: v for k, v in json.loads(line).items() if k in "EISV"} for line in again]


def test_replay_tells_shapes_and_draws(tmp_path):
    write(tmp_path / "a.db", some(80))
    result = ok("replay", tmp_path / "a.db", "--picture", tmp_path / "a.svg")
    assert len(result.stdout.splitlines()) == 80 and "robust  published" in result.stderr and "80 states, 7 windows" in result.stderr
    assert (tmp_path / "a.svg").read_text().startswith("<svg")


def test_leds_are_driven_in_a_replay_where_they_are_named(tmp_path):
    write(tmp_path / "a.db", some(30))
    assert "not available" not in ok("live", "--replay", tmp_path / "a.db").stderr
    assert "dotstars: not available" in ok("live", "--replay", tmp_path / "a.db", "--leds").stderr


def test_import_to_a_shipped_recording_and_play_it(tmp_path):
    (tmp_path / "raw.jsonl").write_text("".join(map(raw_line, range(50))))
    ok("import", tmp_path / "raw.jsonl", "--to", tmp_path / "day.csv.xz", "--made", "What was done.")
    assert "What was done." in (tmp_path / "README.md").read_text()
    assert len(ok("replay", tmp_path / "day.csv.xz").stdout.splitlines()) == 50
