"""Small NLA runs: a random base, some twenty of the shipped texts, and a recipe that trains for a few steps."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from scionwood.flow import flow_for
from scionwood.recipe import Recipe
from scionwood.run import Run
from scionwood.tasks.nla import texts


CATEGORIES = ("warm", "hostile", "web")


def write_texts(folder: Path) -> Path:
    """Texts of two authors in three categories: four of each to train on, two of each to test on, and a few Chinese ones in both."""
    folder.mkdir(parents=True)
    for author, count in (("p", 4), ("q", 2)):
        mine = [t for t in texts.load_texts() if t.author == author]
        chosen = [t for c in CATEGORIES for t in [x for x in mine if x.category == c and x.lang == "en"][:count]]
        chosen += [t for t in mine if t.lang == "zh"][:: 10][:count]
        (folder / f"{author}.jsonl").write_text("".join(json.dumps(asdict(t), ensure_ascii=False) + "\n" for t in chosen), "utf-8")
    return folder


def recipe(base: Path, data: Path, evidence: dict | None = None, options: dict | None = None, **train) -> Recipe:
    settings = {"steps": 2, "batch": 4, "lr": 0.01, "dtype": "fp32", "device": "cpu", "seeds": [0], "checkpoint_seconds": 0,
                "max_length": 512} | train
    return Recipe.model_validate({
        "name": "small", "task": "nla", "base": str(base), "adapter": {"rank": 2, "alpha": 4}, "train": settings,
        "task_options": {"data": str(data), "tokens": 12, "curve": [0.5], **(options or {})},
        "evidence": {"shuffled_control": False, **(evidence or {})}})


def make_flow(recipe_: Recipe, folder: Path, lines: list | None = None):
    return flow_for(recipe_, Run(folder, echo=lines.append if lines is not None else lambda text: None))
