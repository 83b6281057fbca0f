"""scion lantern validate: every fault is one line that names file, line and example; what ships has none."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from scionwood.cli.app import app
from scionwood.errors import UserError
from scionwood.files import read_jsonl, write_jsonl
from scionwood.tasks.lantern.cases import EXAMPLES, TWINS
from scionwood.tasks.lantern.validate import validate

RUNNER = CliRunner()


@pytest.fixture
def copy(tmp_path):
    """The examples and twins of one author, to spoil."""
    for folder in (EXAMPLES, TWINS):
        (tmp_path / folder.name).mkdir()
        shutil.copy(folder / "l.jsonl", tmp_path / folder.name)
    return tmp_path


def spoil(copy, place, kind="examples", **changes):
    """Change one row; a value of None removes the key. Returns the id."""
    path = copy / kind / "l.jsonl"
    rows = read_jsonl(path)
    rows[place] = {k: v for k, v in (rows[place] | changes).items() if v is not None}
    write_jsonl(path, rows)
    return rows[place].get("id", "")


def faults(copy):
    return validate([copy / "examples"])[2]


def test_what_ships_has_no_fault(copy):
    got = RUNNER.invoke(app, ["lantern", "validate"])
    assert got.exit_code == 0 and got.output == "64 examples, 64 twins: no faults\n"
    assert validate([copy / "examples" / "l.jsonl"]) == (32, 32, [])


def first(key, n=0):
    return read_jsonl(EXAMPLES / "l.jsonl")[n][key]


@pytest.mark.parametrize("changes, said", [
    ({"witness": None}, "l-004: 'witness' is missing or empty"),
    ({"invoke": "  "}, "l-004: 'invoke' is missing or empty"),
    ({"articulate": 3}, "l-004: 'articulate' is missing or empty"),
    ({"mood": "calm"}, "l-004: unknown key 'mood'; remove it"),
    ({"author": "m"}, r"l-004: an id is the author, a hyphen and three digits \(m-001\)"),
    ({"lang": "fr"}, r"l-004: lang 'fr' is unknown \(known: en, zh\)"),
    ({"lang": "zh"}, "l-004: the prompt reads as 'en', the example is 'zh'"),
    ({"prompt": "Why so?"}, "l-004: the prompt has 2 words, 5 to 30 are asked for"),
    ({"witness": "Short. " * 9}, r"l-004: the answer has \d+ words, 200 to 300 are asked for"),
    ({"invoke": "Invoke: the shop at noon, cold and wide awake."}, "l-004: the invoke is headed by the name of a part"),
    ({"articulate": "- one thing\n- another thing"}, "l-004: the articulate holds a heading, a bullet or bold"),
    ({"articulate": "much longer than all the rest " * 40}, "l-004: witness is not the longest part"),
    ({"prompt": first("prompt")}, r"l-004: its prompt opens with 'my dovetails fit', as that of l-001 \(.*l.jsonl:1\); change one of them"),
    ({"invoke": first("invoke")}, "l-004: its answer shares 'saturday the small workshop one lamp' with the answer of l-001"),
])
def test_every_fault_is_a_line(changes, said, copy):
    import re

    spoil(copy, 3, **changes)
    found = faults(copy)
    assert any(re.search(said, f) and f"{copy}/examples/l.jsonl:4: " in f for f in found), found
    assert all("\n" not in f for f in found)


def test_faults_of_twins(copy):
    spoil(copy, 5, "twins", text="far too short")
    spoil(copy, 6, "twins", id="l-099")
    spoil(copy, 7, "twins", text=" ")
    twin = read_jsonl(copy / "twins" / "l.jsonl")[8]["text"]
    spoil(copy, 8, "twins", text=" ".join(first("witness", 8).split()[:8]) + " " + twin)
    found = "\n".join(faults(copy))
    assert "l-006: its twin has 3 words, the example" in found and "within 5% is asked for" in found and "twins/l.jsonl:6)" in found
    assert f"l-007: has no twin in {copy}/twins/l.jsonl" in found and "l-008: has no twin" in found
    assert "l-099: a twin without an example" in found
    assert "l-009: its twin shares '" in found and "with the answer of l-009" in found


def test_an_id_that_comes_twice(copy):
    path = copy / "examples" / "l.jsonl"
    rows = read_jsonl(path)
    write_jsonl(path, [*rows, rows[0]])
    assert f"{path}:33: l-001: the id 'l-001' of l-001 ({path}:1); change one of them" in faults(copy)


def test_files_without_twins_and_twins_by_name(copy):
    shutil.move(copy / "twins", copy / "elsewhere")
    assert validate([copy / "examples"]) == (32, 0, [])
    for named in (copy / "elsewhere", copy / "elsewhere" / "l.jsonl"):
        assert validate([copy / "examples"], named) == (32, 32, [])
    with pytest.raises(UserError, match="no such file of twins"):
        validate([copy / "examples"], copy / "nowhere")


def test_the_command_fails_with_the_faults(copy):
    spoil(copy, 0, mood="calm")
    got = RUNNER.invoke(app, ["lantern", "validate", str(copy / "examples" / "l.jsonl")])
    assert got.exit_code == 1 and got.output.splitlines() == [f"{copy}/examples/l.jsonl:1: l-001: unknown key 'mood'; remove it",
                                                              "32 examples, 32 twins: 1 fault"]


def test_what_cannot_be_read_is_one_line(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"id": \n')
    with pytest.raises(UserError, match="x.jsonl:1: not valid JSON"):
        validate([tmp_path / "x.jsonl"])
    with pytest.raises(UserError, match="no such file"):
        validate([tmp_path / "y.jsonl"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no .jsonl file in this folder"):
        validate([tmp_path / "empty"])
    (tmp_path / "none.jsonl").write_text(json.dumps({}) + "\n")
    assert validate([tmp_path / "none.jsonl"])[2] == [
        f"{tmp_path}/none.jsonl:1: (no id): 'id' is missing or empty; every example has id, author, domain, lang, prompt, invoke, witness, "
        "articulate"]
