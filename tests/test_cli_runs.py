"""The commands that look at a run, on a small one."""

import subprocess
import sys

import pytest

from scionwood.cli import main
from export_runs import scion
from tiny_flow import TinyTask, make_base, make_flow, recipe


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    with pytest.MonkeyPatch.context() as m:
        make_flow(recipe(make_base(tmp_path_factory.mktemp("base")), epochs=1), folder, m).all()
    return folder


def test_show_marks_right_and_wrong(done, monkeypatch, capsys):
    code, out, _ = scion(monkeypatch, capsys, "show", done, "test-36")
    answers = [line.split()[:2] for line in out.splitlines() if line.startswith(("adapter-0", "base", "majority", "shuffled"))]
    assert code == 0 and len(answers) == 4 and {mark for _, mark in answers} <= {"right", "wrong"}


def test_show_gives_the_scores_where_there_is_no_right_or_wrong(done, monkeypatch, capsys):
    monkeypatch.setattr(TinyTask, "score", lambda self, case, answer: {"length": float(len(answer or ""))})
    _, out, _ = scion(monkeypatch, capsys, "show", done, "test-36")
    assert "wrong" not in out and "length=" in out


def test_show_names_a_torn_row(done, monkeypatch, capsys):
    path = done / "predictions" / "base.jsonl"
    good = path.read_text()
    path.write_text(good[:-20])
    code, _, err = scion(monkeypatch, capsys, "show", done)
    path.write_text(good)
    assert code == 2 and err.startswith(f"scion: {path}:24: not valid JSON")


def test_compare_takes_a_folder_with_a_colon_in_its_name(done, monkeypatch, capsys, tmp_path):
    import shutil

    folder = shutil.copytree(done, tmp_path / "C:drive")
    code, out, err = scion(monkeypatch, capsys, "compare", folder, f"{folder}:majority")
    assert code == 0 and "C:drive:adapter-0" in out and "C:drive:majority" in out, err


@pytest.mark.parametrize("command", ["verify", "card"])
def test_an_unfinished_run_says_so(command, done, monkeypatch, capsys, tmp_path):
    import shutil

    folder = shutil.copytree(done, tmp_path / "half")
    (folder / "figures.json").unlink()
    assert scion(monkeypatch, capsys, command, folder) == (2, "", f"scion: {folder}: this run has no figures yet; finish it with 'scion run'\n")


def test_verify_and_card_on_a_finished_run(done, monkeypatch, capsys):
    before = (done / "README.md").read_bytes()
    assert scion(monkeypatch, capsys, "card", done)[0] == 0
    assert (done / "README.md").read_bytes() == before
    code, out, err = scion(monkeypatch, capsys, "verify", done)
    assert code == 0 and "follow from the predictions" in out, out + err


def test_doctor_where_only_the_sidecar_is_installed():
    """The libraries of training are hidden from the import system."""
    code = """
import sys
from importlib.machinery import PathFinder
find, hidden = PathFinder.find_spec, {"torch", "transformers", "peft", "accelerate", "scipy", "sklearn"}
PathFinder.find_spec = lambda name, path=None, target=None: None if name in hidden else find(name, path, target)
sys.argv = ["scion", "doctor"]
from scionwood.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "note torch is not installed, so nothing is trained here" in done.stdout, done.stderr
    assert "task 'cerebellum'" in done.stdout and done.returncode == 0
    assert "note task 'nla' (scionwood.tasks.nla.task:Nla): needs scipy" in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="asks for a library of Linux")
def test_doctor_notes_a_library_that_the_system_lacks():
    from scionwood.doctor import library_checks

    assert list(library_checks("c")) == []
    [check] = library_checks("nosuchlibrary")
    assert check.mark == "note" and "apt install libnosuchlibrary1" in check.text


def test_doctor_goes_on_after_a_broken_task(monkeypatch):
    import scionwood.task
    from scionwood.doctor import task_checks

    def broken():
        raise ZeroDivisionError("in a stranger's package")

    infos = {"bad": scionwood.task.TaskInfo("bad", "stranger", load=broken)}
    monkeypatch.setattr(scionwood.task, "available", lambda: infos)
    [check] = task_checks()
    assert (check.mark, "ZeroDivisionError: in a stranger's package" in check.text) == ("FAIL", True)
