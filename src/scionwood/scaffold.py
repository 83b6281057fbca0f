"""A task package of a stranger's own, written from ``template/``: files that end in .tmpl are filled in, others copied."""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from pathlib import Path
from string import Template

from scionwood import files
from scionwood.errors import UserError
from scionwood.task import available

TEMPLATE = Path(__file__).parent / "template"
NAME = re.compile(r"[A-Za-z]([A-Za-z0-9_-]*[A-Za-z0-9])?", re.ASCII)


def package_of(name: str) -> str:
    """The import name that belongs to a project's name. Raises UserError for a name that cannot have one."""
    if not NAME.fullmatch(name):
        raise UserError(f"name {name!r}: letters, digits, - and _ only, the first a letter, the last no - or _; "
                        f"{suggestion(name)}")
    package = name.lower().replace("-", "_")
    if keyword.iskeyword(package) or package in sys.stdlib_module_names:
        raise UserError(f"name '{name}': '{package}' is a word or a module of Python itself; try '{name}-task'")
    return package


def suggestion(name: str) -> str:
    """The nearest name that would do."""
    near = NAME.search(re.sub(r"[^A-Za-z0-9_-]+", "-", name))
    return f"try '{near[0]}'" if near else "try 'kitchen-notes'"


def write_package(name: str, out: Path) -> Path:
    """Write the package into ``out/name`` and return that folder.

    Raises UserError for a bad name, one that a task or an installed package already has, and a folder that exists.
    """
    package = package_of(name)
    if name in available():
        raise UserError(f"name '{name}': an installed package already has a task of this name; choose another")
    if importlib.util.find_spec(package):
        raise UserError(f"name '{name}': Python already finds a package '{package}', which yours would hide; choose another")
    folder = out / name
    try:
        folder.mkdir(parents=True)
        for path in sorted(p for p in TEMPLATE.rglob("*") if p.is_file()):
            write(path, folder, {"name": name, "package": package})
    except FileExistsError:
        raise UserError(f"{folder}: already there; choose another name, or another place with --out") from None
    except OSError as e:
        raise UserError(f"{folder}: cannot be written ({e.strerror}); choose another place with --out") from None
    return folder


def write(path: Path, folder: Path, values: dict[str, str]) -> None:
    """One file of the template. PACKAGE in its path is the import name."""
    place = folder / path.relative_to(TEMPLATE).as_posix().replace("PACKAGE", values["package"]).removesuffix(".tmpl")
    text = path.read_text("utf-8")
    files.write_text(place, Template(text).substitute(values) if path.suffix == ".tmpl" else text)
