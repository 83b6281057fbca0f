"""``scion new``: the package that it writes is found, holds together, and passes its own tests."""

import importlib
import json
import keyword
import re
import runpy
import shlex
import sys
import tomllib

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from scionwood import scaffold
from scionwood.cli.new import new
from scionwood.errors import UserError
from scionwood.evidence.leaks import check_splits, input_text
from scionwood.recipe import read_recipe
from scionwood.systems.base import OK, evaluate
from scionwood.task import SPLITS, load_task

NAME, PACKAGE = "kitchen-notes", "kitchen_notes"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The package as written, and as good as installed: what pip would write beside it for its entry point."""
    out = tmp_path_factory.mktemp("new")
    folder = scaffold.write_package(NAME, out)
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = out / "site" / f"{project['name']}-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0\n")
    points = project["entry-points"]["scionwood.tasks"]
    (info / "entry_points.txt").write_text("[scionwood.tasks]\n" + "".join(f"{name} = {at}\n" for name, at in points.items()))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(info.parent)
        patch.syspath_prepend(folder / "src")
        yield folder
    for module in [m for m in sys.modules if m.split(".")[0] == PACKAGE]:
        del sys.modules[module]
    importlib.invalidate_caches()


@pytest.fixture(scope="module")
def task(folder):
    return load_task(NAME)


def test_what_is_written(folder):
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.suffix != ".pyc")
    assert names == ["README.md", "pyproject.toml", "recipe.toml", *(f"src/{PACKAGE}/{n}" for n in (
        "__init__.py", "data/dev.jsonl", "data/test.jsonl", "data/train.jsonl", "task.py")), "tests/test_task.py"]
    for name in names:
        assert not re.search(r"\$[a-z{]|PACKAGE", (folder / name).read_text("utf-8")), f"{name} has a placeholder left"


def test_the_example_job(task):
    splits = {s: task.cases(s) for s in SPLITS}
    assert [len(splits[s]) for s in SPLITS] == [48, 16, 32]
    assert len({c.source for c in splits["test"]}) >= 6
    assert check_splits(splits, input_text, print)["highest"]["similarity"] < 0.3
    for case in (c for cases in splits.values() for c in cases):
        assert task.parse(case, task.target(case)) == case.reference
        assert task.gate(case) is None
        assert task.default(case) in task.constraint(case).texts
        assert task.messages(case)[-1]["content"] == case.input["text"]


def test_its_own_tests_pass(folder, task):
    tests = {n: f for n, f in runpy.run_path(str(folder / "tests" / "test_task.py")).items() if n.startswith("test_")}
    assert len(tests) == 6
    for test in tests.values():
        test()


def test_the_recipe_names_the_task_and_fits_it(folder, task):
    recipe = read_recipe(folder / "recipe.toml")
    assert (recipe.name, recipe.task, recipe.base, recipe.teacher.kind) == (NAME, NAME, "embedded", "none")
    assert task.primary in {m.name for m in task.metrics()}
    assert all(f.is_file() for f in task.data_files())


def test_every_rival_answers_legally(task):
    for rival in task.rivals():
        rival.fit(task, task.cases("train"))
        assert {p.status for p in evaluate(rival, task, task.cases("test"))} == {OK}


@pytest.mark.parametrize("change, message", [
    ({"label": "shoping"}, "record 1 (t1): label 'shoping' is not one of shopping, chore, appointment, other; did you mean"),
    ({"text": None}, "record 1: 'text' is missing or not a string"),
])
def test_a_bad_line_is_named(task, tmp_path, monkeypatch, change, message):
    monkeypatch.setattr(sys.modules[type(task).__module__], "DATA", tmp_path)
    (tmp_path / "train.jsonl").write_text(json.dumps({"id": "t1", "source": "s", "text": "milk", "label": "shopping"} | change))
    with pytest.raises(UserError, match=re.escape(message)):
        task.cases("train")


def test_the_command_prints_how_to_go_on(tmp_path):
    app, out = typer.Typer(), tmp_path / "a place"
    app.command()(new)
    result = CliRunner().invoke(app, ["notes", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert [shlex.split(line) for line in result.output.splitlines()[-3:]] == [
        ["pip", "install", "-e", str(out / "notes")],
        ["scion", "run", str(out / "notes" / "recipe.toml")],
        ["scion", "show", str(out / "notes" / "recipe.toml")],
    ]


@pytest.mark.parametrize("name, message", [
    ("my task", "name 'my task': letters, digits, - and _ only, the first a letter, the last no - or _; try 'my-task'"),
    ("3d", "try 'd'"),
    ("notes-", "try 'notes'"),
    ("名", "try 'kitchen-notes'"),
    ("", "try 'kitchen-notes'"),
    ("../up", "try 'up'"),
    ("class", "'class' is a word or a module of Python itself; try 'class-task'"),
    ("JSON", "'json' is a word or a module of Python itself"),
    ("cerebellum", "an installed package already has a task of this name"),
    ("numpy", "Python already finds a package 'numpy'"),
])
def test_bad_names_are_refused(tmp_path, name, message):
    with pytest.raises(UserError, match=re.escape(message)):
        scaffold.write_package(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "notes").mkdir()
    with pytest.raises(UserError, match="notes: already there; choose another name"):
        scaffold.write_package("notes", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        scaffold.write_package("notes", tmp_path / "file")
    assert not list((tmp_path / "notes").iterdir())


@given(st.one_of(st.text(max_size=12), st.text("aZ09-_. ", max_size=8), st.from_regex(scaffold.NAME, fullmatch=True)))
def test_a_name_is_refused_or_has_an_import_name(name):
    try:
        package = scaffold.package_of(name)
    except UserError as e:
        assert "\n" not in str(e) and scaffold.NAME.fullmatch(re.search(r"try '(.*)'$", str(e))[1])
        return
    assert package.isidentifier() and package.isascii() and not keyword.iskeyword(package)
    # PEP 508: a project's name begins and ends with a letter or a digit
    assert re.fullmatch(r"[A-Z0-9]([A-Z0-9._-]*[A-Z0-9])?", name, re.IGNORECASE | re.ASCII)
