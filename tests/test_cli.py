"""The command as a user meets it: quick help, and one plain line for every mistake."""

import subprocess
import sys

import pytest

import scionwood
from scionwood.cli import main

HEAVY = ("torch", "transformers", "numpy", "scipy", "sklearn", "peft", "matplotlib", "httpx", "jinja2")
THEIRS = "pydantic"  # typer loads it as soon as it reads the options of a subcommand
HELP = """
import sys
from scionwood.cli import main
sys.argv = ["scion", *{arguments!r}]
try:
    main()
except SystemExit as e:
    assert e.code == 0, e.code
print("heavy:", [m for m in {heavy!r} if m in sys.modules])
"""


def scion(*arguments: str, **kw) -> subprocess.CompletedProcess:
    """The command in a process of its own."""
    return subprocess.run([sys.executable, "-m", "scionwood", *arguments], capture_output=True, text=True, timeout=300, **kw)


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["memory", "arbitrate", "--help"], ["--version"]], ids=" ".join)
def test_help_needs_no_heavy_library(arguments):
    heavy = (*HEAVY, THEIRS) if arguments == ["--help"] else HEAVY
    script = HELP.format(arguments=arguments, heavy=heavy)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_version():
    done = scion("--version")
    assert (done.returncode, done.stdout) == (0, f"scionwood {scionwood.__version__}\n")


def test_a_mistake_is_one_line_without_a_traceback(tmp_path):
    done = scion("run", "cerebelum", cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("scion: recipe 'cerebelum': ") and "did you mean 'cerebellum'?" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


MISTAKES = {
    "no such recipe": (["run", "no-such"], "recipe 'no-such': no such file"),
    "no such file": (["run", "no-such.toml"], "no-such.toml: no such recipe"),
    "unknown key": (["run", "cerebellum", "--set", "train.epoch=4"], "unknown key 'train.epoch'; did you mean 'epochs'?"),
    "bad value": (["run", "cerebellum", "--set", "train.lr=-1"], "train.lr = -1: "),
    "no value": (["run", "cerebellum", "--set", "train.lr"], "expected key=value"),
    "no such base": (["run", "cerebellum", "--set", "base=./no-base", "--set", "teacher.kind=none"], "base './no-base': no such folder"),
    "no such task": (["run", "cerebellum", "--set", "task=cerebelum"], "task 'cerebelum': no installed package provides it; did you mean"),
    "not a run": (["verify", "."], "not a run folder"),
    "not a run, shown": (["show", "."], "not a run folder"),
    "not a run, compared": (["compare", ".", "."], "not a run folder"),
    "not a run, card": (["card", "no-such"], "not a run folder"),
    "not a run, asked": (["memory", "classify", "hello", "--run", "."], "not a run folder"),
    "no such case": (["show", "cerebellum", "e-a-1", "--split", "dev"],
                     "case 'e-a-1': not in the dev split of task 'cerebellum'; did you mean 'e-"),
    "no such split": (["show", "cerebellum", "--split", "tset"], "--split tset: one of train, dev, test"),
    "bad name": (["new", "my task"], "name 'my task': letters, digits, - and _ only"),
    "no corpus": (["pretrain", "base-cpu", "--corpus", "no-corpus", "--out", "base"], "no-corpus"),
}


@pytest.mark.parametrize("arguments, message", MISTAKES.values(), ids=MISTAKES)
def test_mistakes_that_a_user_can_mend(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCION_RUNS", raising=False)
    monkeypatch.setattr(sys, "argv", ["scion", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    told = capsys.readouterr()
    assert stopped.value.code == 2 and told.out == ""
    assert message in told.err
    assert told.err.startswith("scion: ") and told.err.count("\n") == 1 and told.err.endswith("\n")


MISUSES = [["rnu"], ["run"], ["run", "cerebellum", "--ot", "x"], ["show", "cerebellum", "a", "b"]]


@pytest.mark.parametrize("arguments", MISUSES, ids=" ".join)
def test_misuse_shows_the_usage(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["scion", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    told = capsys.readouterr()
    assert stopped.value.code == 2 and told.out == ""
    assert told.err.startswith("Usage: ") and "Traceback" not in told.err


def ends_with(error, monkeypatch, capsys) -> tuple[int, str]:
    import scionwood.doctor

    def checks():
        raise error

    monkeypatch.setattr(scionwood.doctor, "checks", checks)
    monkeypatch.setattr(sys, "argv", ["scion", "doctor"])
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code, capsys.readouterr().err


def test_an_interrupt_says_how_to_go_on(monkeypatch, capsys):
    assert ends_with(KeyboardInterrupt(), monkeypatch, capsys) == (130, "scion: stopped; the same command goes on where it was\n")


@pytest.mark.parametrize("error, told", [
    (PermissionError(13, "Permission denied", "/x/y"), "scion: /x/y: Permission denied; check its permissions\n"),
    (OSError(28, "No space left on device"), "scion: a file: No space left on device; make room and run it again\n"),
])
def test_what_the_system_refuses_is_one_line(error, told, monkeypatch, capsys):
    assert ends_with(error, monkeypatch, capsys) == (2, told)
