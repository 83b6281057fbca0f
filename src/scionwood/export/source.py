"""What is exported: one trained adapter of a run, and what its files say about themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from scionwood.errors import UserError, nearest
from scionwood.files import file_hash, read_json, text_hash
from scionwood.models.loading import EMBEDDED, embedded_folder

if TYPE_CHECKING:
    from scionwood.flow import Flow

PROMPTS = 50  # that an export is checked on, where the task has as many


@dataclass(frozen=True)
class Source:
    """One adapter of a run. ``run_hash`` stands for base and adapter: equal hashes, equal answers."""

    folder: Path
    name: str
    adapter: str
    adapter_folder: Path
    base: str  # what is loaded
    base_name: str  # what files say: no path of this machine
    licence: str
    task: str
    task_options: dict[str, Any]
    max_length: int
    run_hash: str
    prompts: Callable[[], list[list[dict[str, str]]]] = field(repr=False)
    targets: Callable[[], list[str]] = field(repr=False)

    @property
    def out(self) -> Path:
        return self.folder / "export"

    def metadata(self) -> dict[str, Any]:
        """What goes into a file's own head."""
        return {"name": f"{self.name} {self.adapter}", "base": self.base_name, "licence": self.licence, "task": self.task,
                "run": self.run_hash, "adapter": file_hash(self.adapter_folder / "adapter_model.safetensors")}


def source_of(flow: "Flow", adapter: str | None = None) -> Source:
    """The best adapter of a run, or the one that is named. Raises UserError where it is not trained yet."""
    trained = {n: flow.run.path("adapter", n, "best") for n in (f"adapter-{s}" for s in flow.recipe.train.seeds)}
    name = adapter or best_adapter(flow)
    if name not in trained:
        raise UserError(f"{flow.run.folder}: has no adapter '{name}'{nearest(name, trained)} (known: {', '.join(trained)})")
    folder = trained[name]
    if not (folder / "adapter_model.safetensors").exists():
        raise UserError(f"{flow.run.folder}: adapter '{name}' is not trained yet; finish the run with 'scion run'")
    cases = _spread([c for split in ("test", "dev", "train") for c in flow.task.cases(split) if flow.task.gate(c) is None], PROMPTS)
    return Source(
        folder=flow.run.folder, name=flow.recipe.name, adapter=name, adapter_folder=folder, base=flow.base,
        base_name=public_name(flow.base),
        licence=flow.recipe.licence, task=flow.recipe.task, task_options=flow.recipe.task_options, max_length=flow.recipe.train.max_length,
        run_hash=text_hash([flow.base_hash, file_hash(folder)]),
        prompts=lambda: [flow.task.messages(c) for c in cases], targets=lambda: [flow.task.target(c) for c in cases],
    )


def best_adapter(flow: "Flow") -> str:
    """The adapter that did best on the dev split; the first seed's where they are level. The test split has no say."""
    names = [f"adapter-{s}" for s in flow.recipe.train.seeds]
    if len(names) == 1:
        return names[0]
    dev = {n: flow.run.facts(f"train-{n}").get("dev") for n in names}
    known = [n for n in names if dev[n] is not None]
    best = max(known, key=lambda n: dev[n]) if known else names[0]
    flow.run.echo(f"adapter: {best} (best of {len(names)} on the dev split)" if known else f"adapter: {best} (the first seed's)")
    return best


def public_name(base: str) -> str:
    """The name of a base as files may say it: a hub name as it is, a folder by its last part, the embedded base by its own."""
    if base == EMBEDDED:
        about = embedded_folder() / "base.json"
        return read_json(about)["name"] if about.exists() else EMBEDDED
    return Path(base).name if Path(base).is_dir() else base


def _spread(cases: list, count: int) -> list:
    """``count`` cases, evenly from all; the same ones every time."""
    if len(cases) <= count:
        return cases
    return [cases[i * len(cases) // count] for i in range(count)]
