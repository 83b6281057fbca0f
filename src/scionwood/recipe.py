"""The recipe: the TOML file that names task, base, teacher, adapter, training and evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from scionwood.export.settings import Export
from scionwood.models.settings import Adapter
from scionwood.settings import Settings, load
from scionwood.teaching.settings import Teacher
from scionwood.training.settings import Train


class Evidence(Settings):
    """How the proof is made."""

    decoder: Literal["labels", "json"] = Field(
        "labels", description="labels: score the legal answers; json: write the answer under its schema or grammar")
    temperature: float = Field(
        0.0, ge=0, description="0 takes the likeliest token; above, tokens are drawn, as distributions of answers need")
    dtype: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="number format in which answers are measured; auto: fp32 where that costs little, "
                            "else the format of the training")
    shuffled_control: bool = Field(True, description="train once more on shuffled labels: this must fall to chance")
    control_share: float = Field(1.0, gt=0, le=1, description="how much of the recipe's training the control gets")
    near_duplicate: float = Field(0.8, gt=0, le=1, description="similarity from which two texts of different splits are a leak")
    measure_teacher: bool = Field(False, description="ask the teacher the test cases too")


class Recipe(Settings):
    """A recipe. ``task_options`` are handed to the task as they are."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the run and of its folder below runs/")
    task: str = Field(description="the job: a task that an installed package provides")
    task_options: dict[str, Any] = Field({}, description="options of the task, handed on as they are; cerebellum knows data, a folder; "
                                                         "lumen knows prompt: card, table or blind; lantern.md, lumen.md and nla.md have them all")
    base: str = Field("embedded", description="'embedded', a folder, or a hub name such as Qwen/Qwen3-1.7B")
    teacher: Teacher = Teacher()
    adapter: Adapter = Adapter()
    train: Train = Train()
    evidence: Evidence = Evidence()
    export: Export = Export()
    licence: str = Field("apache-2.0", description="licence of the adapter, as the card names it")


def read_recipe(path: Path, sets: list[str] = ()) -> Recipe:
    """Read and check a recipe; relative paths in it are relative to its folder."""
    return load(path, Recipe, sets)
