"""The documents say what the program does: generated regions, links, and every command that they show."""

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from evidence_page_fakes import make_figures

from scionwood.cli.app import app
from scionwood.cli.common import recipe_path
from scionwood.evidence.standing import verdict_sentences
from scionwood.models.loading import embedded_folder
from scionwood.recipe import read_recipe

ROOT = Path(__file__).resolve().parent.parent
DATA_CARD = ROOT / "src/scionwood/tasks/cerebellum/data/README.md"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), DATA_CARD]
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.S | re.M)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
QUICK = {"scion doctor", "scion show cerebellum", "scion new kitchen-notes"}  # these are really run
NEED_WEIGHTS = {"scion doctor", "scion show cerebellum"}

pytestmark = pytest.mark.skipif(not (ROOT / "docs/generate.py").exists(), reason="not a checkout: no docs/")


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- generated regions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["help", "commands", "recipe", "tree", "data", "measures", "student", "limits", "devices"])
def test_what_is_generated_is_up_to_date(generate, capsys, name):
    assert generate.main([name, "--check"]) == 0, capsys.readouterr().out + "run: python docs/generate.py"


def test_every_region_has_a_writer_and_every_writer_a_region(generate):
    texts = [d.read_text("utf-8") for d in DOCUMENTS]
    opened = [name for text in texts for name in re.findall(r"<!-- generated:(\w+)[ \w.-]* -->", text)]
    assert sorted(n for n in opened if n != "figures") == sorted(generate.WRITERS)
    assert sum(text.count("<!-- /generated -->") for text in texts) == len(opened)
    assert sum(len(generate.REGION.findall(text)) for text in texts) == len(opened)


@pytest.fixture
def page(generate, tmp_path, monkeypatch):
    """A document with two regions, in a repository of its own."""
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- generated:commands -->\nold\n<!-- /generated -->\nbetween\n<!-- generated:figures one -->\nnone yet\n"
                    "<!-- /generated -->\nafter\n")
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    monkeypatch.setattr(generate, "DOCUMENTS", [page])
    monkeypatch.setattr(generate, "RUNS", tmp_path / "runs")
    return page


def test_check_names_what_is_out_of_date_and_changes_nothing(generate, page, capsys):
    before = page.read_text()
    assert generate.main(["--check"]) == 1
    assert capsys.readouterr().out == "README.md: region 'commands' is out of date: run python docs/generate.py\n"
    assert page.read_text() == before


def test_without_a_run_the_figures_stay(generate, page):
    assert generate.main([]) == 0 and generate.main(["--check"]) == 0
    text = page.read_text()
    assert "| `scion run` |" in text and "\nold\n" not in text and "none yet" in text
    assert re.sub(r"<!-- generated.*?/generated -->", "", text, flags=re.S) == "before\n\nbetween\n\nafter\n"


def test_figures_come_from_the_run_alone(generate, page, tmp_path):
    figures = make_figures()
    (tmp_path / "runs" / "one").mkdir(parents=True)
    (tmp_path / "runs" / "one" / "figures.json").write_text(json.dumps(figures))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "report-one.png").write_bytes(b"")
    assert generate.main(["figures"]) == 0
    text = page.read_text()
    assert " ".join(verdict_sentences(figures)) in text and "| **`parity recall`** (primary) |" in text
    assert "![The report page of this run](docs/report-one.png)" in text and "none yet" not in text
    assert generate.main(["figures", "--check"]) == 0


@pytest.mark.parametrize("arguments", [["no-such"], ["--no-such"]])
def test_misuse_is_told(generate, page, arguments):
    with pytest.raises(SystemExit) as stopped:
        generate.main(arguments)
    assert stopped.value.code == 2


def test_every_key_of_a_recipe_is_described(generate):
    rows = [line for line in generate.recipe_keys(ROOT / "docs/recipe.md").splitlines() if line.startswith("| `")]
    assert len(rows) > 40
    for row in rows:
        key, kind, default, meaning = (cell.strip() for cell in row.strip("|").split(" | "))
        assert kind and default and meaning, f"{key}: add a description to its Field"


# -- links -----------------------------------------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    """The anchors that a hub gives to the headings of a page."""
    heads = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document):
    for target in LINK.findall(document.read_text("utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (document.parent / path).resolve() if path else document
        assert there.exists() and there.is_relative_to(ROOT), f"{document.name}: {target}"
        assert not anchor or anchor in anchors(there), f"{document.name}: {target}"


# -- commands --------------------------------------------------------------------------------------------------------------


def shown(program: str) -> list[str]:
    """The lines of all ```bash blocks that begin with a program, comments left out."""
    blocks = [b for d in DOCUMENTS for b in BLOCK.findall(d.read_text("utf-8"))]
    lines = [shlex.join(shlex.split(line, comments=True)) for b in blocks for line in b.splitlines()]
    return list(dict.fromkeys(line for line in lines if line.split(" ")[0] == program))


def parse(arguments: list[str]):
    """What the command line parser makes of arguments, with nothing run: (path of the subcommand, its values)."""
    command, context, path = typer.main.get_command(app), None, []
    while True:
        context = command.make_context("scion", arguments, parent=context)
        if not hasattr(command, "commands"):
            return path, context.params
        name, command, arguments = command.resolve_command(context, [*getattr(context, "_protected_args", []), *context.args])
        path.append(name)


def test_there_are_commands_to_check():
    assert len(shown("scion")) >= 12 and QUICK <= set(shown("scion"))


@pytest.mark.parametrize("line", shown("scion"))
def test_commands_are_understood(line):
    path, values = parse(shlex.split(line)[1:])
    if path == ["run"] and not values["recipe"].endswith(".toml"):
        read_recipe(recipe_path(values["recipe"]), values["set_"])


def test_the_parser_refuses_what_is_wrong():
    for line in ("rnu x", "run cerebellum --no-such", "run", "memory clasify x", "show a b c"):
        with pytest.raises(Exception) as refused:
            parse(line.split())
        assert refused.value.exit_code == 2


@pytest.mark.parametrize("line", sorted(QUICK))
def test_quick_commands_run(line, tmp_path):
    if line in NEED_WEIGHTS and not (embedded_folder() / "model.safetensors").exists():
        pytest.skip("the embedded base has no weights in this checkout (models/embedded/model.safetensors)")
    done = subprocess.run([sys.executable, "-m", *shlex.split(line.replace("scion", "scionwood", 1))], cwd=tmp_path, capture_output=True,
                          text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout
    if line.startswith("scion new"):  # the two lines that the README shows next
        assert {"pip install -e kitchen-notes", "scion run kitchen-notes/recipe.toml"} <= {*shown("pip"), *shown("scion")}
        assert (tmp_path / "kitchen-notes" / "pyproject.toml").exists()
        assert read_recipe(tmp_path / "kitchen-notes" / "recipe.toml").name == "kitchen-notes"


def test_the_makefile_has_the_targets_that_are_shown():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    used = {name for d in DOCUMENTS for name in re.findall(r"(?:`|^ {4})make (\w+)", d.read_text("utf-8"), re.M)}
    assert {"demo", "test", "figures"} <= used <= targets
