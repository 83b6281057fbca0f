"""The source keeps its own rules: imports run one way, files stay small, what is public says what it does, nothing is unpickled."""

import ast
import sys
from pathlib import Path

import pytest

import scionwood

SOURCE = Path(scionwood.__file__).parent
MODULES = {p.relative_to(SOURCE).as_posix(): ast.parse(p.read_text("utf-8")) for p in sorted(SOURCE.rglob("*.py"))
           if "template" not in p.relative_to(SOURCE).parts}
LONGEST = 500  # lines

# Each layer may import itself, where that is no other part's business, and the layers below it.
FOUNDATION = {"errors", "files", "secrets", "settings", "task", ""}
LAYERS = [
    FOUNDATION,
    {"evidence", "models"},
    {"training", "teaching", "systems", "pretraining", "export", "serving"},
    {"recipe", "run", "flow", "doctor", "scaffold", "tasks", "cluster"},
    {"cli", "studio", "__main__"},
]
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
APART = [("evidence", "models"), ("models", "evidence")]  # neighbours that do not know each other


def imports(tree, only_top=False):
    """Modules that a module imports, those for type checkers left out."""
    skipped = {id(n) for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
               for n in ast.walk(node)}
    for node in tree.body if only_top else ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layer"
            whole = [node.module] if node.module != "scionwood" else [f"scionwood.{alias.name}" for alias in node.names]
            yield from whole


def part_of(name: str) -> str:
    """"evidence" for evidence/card.py, "flow" for flow.py, "" for the package itself."""
    first = name.split("/")[0].removesuffix(".py")
    return "" if first == "__init__" else first


def ours(tree) -> set[str]:
    found = {name.split(".")[1] for name in imports(tree) if name.startswith("scionwood.")}
    return {"" if name.startswith("__version") else name for name in found}


def test_every_part_has_a_layer():
    assert {part_of(name) for name in MODULES} <= set(LEVEL)


@pytest.mark.parametrize("name", MODULES)
def test_imports_run_one_way(name):
    part = part_of(name)
    for other in ours(MODULES[name]) - {part}:
        assert LEVEL[other] <= LEVEL[part], f"{name} imports {other}, which stands above it"
        assert (part, other) not in APART, f"{name} imports {other}"


@pytest.mark.parametrize("name", [n for n in MODULES if part_of(n) not in ("tasks", "cli", "studio", "__main__")])
def test_the_core_imports_no_task(name):
    assert "tasks" not in ours(MODULES[name])


@pytest.mark.parametrize("name", [n for n in MODULES if part_of(n) == "cli"])
def test_commands_import_nothing_heavy_at_the_top(name):
    for module in imports(MODULES[name], only_top=True):
        light = module.split(".")[0] in {*sys.stdlib_module_names, "typer"} or module.startswith("scionwood.cli")
        assert light, f"{name} imports {module} at its top: every command would pay for it, --help too"


@pytest.mark.parametrize("name", MODULES)
def test_files_are_small(name):
    assert len((SOURCE / name).read_text("utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("name", MODULES)
def test_what_is_public_says_what_it_does(name):
    tree = MODULES[name]
    assert ast.get_docstring(tree), f"{name} has no docstring"
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    missing = [f"{name}:{n.lineno} {n.name}" for n in tree.body
               if isinstance(n, kinds) and not n.name.startswith("_") and not ast.get_docstring(n)]
    assert not missing


@pytest.mark.parametrize("name", MODULES)
def test_nothing_is_unpickled_and_no_foreign_code_runs(name):
    tree = MODULES[name]
    roots = {module.split(".")[0] for module in imports(tree)}
    assert not roots & {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
        said = ast.unparse(call.func)
        if said == "torch.load" and name == "tasks/nla/directions.py":  # published directions are .pt; it reads tensors and runs nothing
            assert {k.arg: ast.unparse(k.value) for k in call.keywords}.get("weights_only") == "True"
            continue
        assert said not in ("eval", "exec", "torch.load", "yaml.load"), f"{name}:{call.lineno} calls {said}"
        for k in call.keywords:
            assert not (k.arg in ("trust_remote_code", "allow_pickle") and ast.unparse(k.value) != "False"), f"{name}:{call.lineno}"


def test_the_rules_see_what_they_forbid():
    """The checks above pass on anything if they look in the wrong place."""
    tree = ast.parse("import pickle\nfrom scionwood.tasks.cerebellum import task\nfrom scionwood import files\n"
                     "def f():\n    from scionwood.cli import main\n"
                     "if TYPE_CHECKING:\n    from scionwood.flow import Flow\n")
    assert ours(tree) == {"tasks", "files", "cli"} and "pickle" in set(imports(tree))
    assert set(imports(tree, only_top=True)) == {"pickle", "scionwood.tasks.cerebellum", "scionwood.files"}
    assert len(MODULES) > 50 and {"evidence/card.py", "__init__.py", "flow.py"} <= set(MODULES)
