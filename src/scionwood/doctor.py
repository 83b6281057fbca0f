"""Checks of the installation and the machine, each one line."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Iterator

CORE = ("numpy", "pydantic", "typer", "rich")
TRAIN = ("torch", "transformers", "peft", "accelerate", "safetensors", "tokenizers", "scipy", "scikit-learn", "llguidance", "matplotlib")
EXTRA = {"gguf": "scion export", "xllamacpp": "scion export and scion serve", "fastapi": "scion serve", "psutil": "scion lumen",
         "skl2onnx": "scion lumen distil", "trl": "benchmarks/training.py", "trackio": "experiment tracking",
         "playwright": "the tests of pages"}


@dataclass(frozen=True)
class Check:
    """One line: ``mark`` says how it went."""

    mark: str  # ok, note or FAIL
    text: str


def checks() -> Iterator[Check]:
    """Everything that ``scion doctor`` prints: Python, packages, machine, embedded base, tasks."""
    yield Check("ok", f"Python {platform.python_version()} on {platform.system()} {platform.machine()}")
    yield from package_checks(CORE, "scionwood")
    training = importlib.util.find_spec("torch") is not None
    if training:
        yield from package_checks(TRAIN, "'scionwood[train]'")
    else:
        yield Check("note", "torch is not installed, so nothing is trained here; for that: pip install 'scionwood[train]'")
    for name, use in EXTRA.items():
        if importlib.util.find_spec(name) is None:
            yield Check("note", f"{name} is not installed (only needed for {use})")
    if importlib.util.find_spec("xllamacpp") is not None:
        yield from library_checks()
    if training:
        yield from machine_checks()
        yield from base_checks()
    yield from task_checks()


def package_checks(names: tuple[str, ...], source: str) -> Iterator[Check]:
    """The version of each package, or where the missing ones come from."""
    for name in names:
        try:
            yield Check("ok", f"{name} {version(name)}")
        except PackageNotFoundError:
            yield Check("FAIL", f"{name} is missing: pip install {source}")


def library_checks(name: str = "gomp") -> Iterator[Check]:
    """Whether the system has the library that llama.cpp is linked with on Linux; elsewhere its package carries all it needs."""
    from ctypes.util import find_library

    if platform.system() == "Linux" and find_library(name) is None:
        yield Check("note", f"lib{name} is not found; llama.cpp (scion export and scion serve) needs the system's own: "
                            f"apt install lib{name}1")


def machine_checks() -> Iterator[Check]:
    """What would be chosen on this machine, each choice with its reason."""
    from scionwood.models import machine

    yield Check("ok", machine.tune_memory())
    yield Check("ok", machine.limit_threads())
    device, why = machine.choose_device()
    yield Check("ok", why)
    yield Check("ok", machine.choose_dtype("auto", device)[1])
    free = shutil.disk_usage(os.getcwd()).free / 1e9
    yield Check("ok" if free > 2 else "note", f"disk: {free:.0f} GB free here")


def base_checks() -> Iterator[Check]:
    """Whether the embedded base is whole."""
    from scionwood.errors import UserError
    from scionwood.models.loading import EMBEDDED, check_folder, folder_of

    try:
        config = check_folder(folder_of(EMBEDDED), "base 'embedded'")
        yield Check("ok", f"embedded base: {config['num_hidden_layers']} layers, hidden {config['hidden_size']}, "
                          f"{config['vocab_size']} tokens")
    except UserError as e:
        yield Check("FAIL", str(e))


def task_checks() -> Iterator[Check]:
    """Whether each installed task can be imported and its cases read."""
    from scionwood.errors import UserError
    from scionwood.task import available, load_task

    for name, info in sorted(available().items()):
        try:
            counts = {s: len(load_task(name).cases(s)) for s in ("train", "dev", "test")}
            yield Check("ok", f"task '{name}' ({info.package}): " + ", ".join(f"{n} {s}" for s, n in counts.items()) + " cases")
        except UserError as e:
            yield Check("FAIL", str(e))
        except ModuleNotFoundError as e:
            needed = (e.name or "").partition(".")[0]
            ours = info.package.startswith("scionwood.")
            yield Check("note" if ours else "FAIL", f"task '{name}' ({info.package}): needs {needed}, which is not installed"
                        + ("; for that: pip install 'scionwood[train]'" if ours else "; install what its package names"))
        except Exception as e:  # a stranger's task may fail in any way
            yield Check("FAIL", f"task '{name}' ({info.package}): {type(e).__name__}: {e}; mend or uninstall the package")
