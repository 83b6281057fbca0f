"""What several subcommands need."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def say(text: str) -> None:
    """A line of progress or reason: on stderr, so that results on stdout can be piped."""
    print(text, file=sys.stderr, flush=True)


def quiet_libraries() -> None:
    """Keep the libraries' own progress bars and advice out of ours."""
    import warnings

    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def recipe_path(name: str) -> Path:
    """A recipe by path, or by the name of one that ships with the package."""
    from scionwood.errors import UserError, nearest

    path = Path(name)
    if path.exists() or path.suffix == ".toml":
        return path
    shipped = {p.stem: p for p in shipped_recipes().glob("*.toml")}
    if name in shipped:
        return shipped[name]
    raise UserError(f"recipe '{name}': no such file, and no recipe of that name ships with scionwood{nearest(name, shipped)} "
                    f"(known: {', '.join(sorted(shipped))})")


def shipped_recipes() -> Path:
    """The folder of the recipes that ship with the package."""
    return Path(__file__).resolve().parent.parent / "recipes"


def flow_of_run(folder: Path, finished: bool = False):
    """The flow of an existing run; what it has to say goes to stderr. With ``finished`` the run must have its figures."""
    from scionwood.errors import UserError
    from scionwood.flow import open_flow

    flow = open_flow(folder, say)
    if finished and not flow.run.path("figures.json").exists():
        raise UserError(f"{folder}: this run has no figures yet; finish it with 'scion run'")
    return flow
