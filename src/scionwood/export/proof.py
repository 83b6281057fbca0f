"""The stages ``export`` and ``prove the export``: the files that a recipe names, each measured on the whole test set as one more system."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator

from scionwood.errors import UserError
from scionwood.files import file_hash

if TYPE_CHECKING:
    from scionwood.flow import Flow
    from scionwood.recipe import Recipe

NEEDED = ("gguf", "xllamacpp")  # packages without which no GGUF file is written and measured


def proved(recipe: "Recipe") -> list[str]:
    """The formats that are measured: GGUF files. They are the names of the systems, too."""
    return [f for f in recipe.export.to if f.startswith("gguf:")]


def stem(format_: str) -> str:
    """"gguf-q8_0" for gguf:q8_0: a name for files and stages on every system."""
    return format_.replace(":", "-")


def check_possible(recipe: "Recipe") -> None:
    """Refuse before training what could not be exported and measured after it."""
    from importlib.util import find_spec

    missing = [p for p in NEEDED if proved(recipe) and find_spec(p) is None]
    if proved(recipe) and recipe.evidence.temperature:
        raise UserError("[export] to: GGUF files are measured with the likeliest token taken, so they cannot be compared with answers that "
                        f"are drawn (evidence.temperature = {recipe.evidence.temperature}); set it to 0, or export with 'scion export'")
    if missing:
        raise UserError(f"[export] to: needs {' and '.join(missing)}; install with: pip install 'scionwood[export]', or go without: "
                        "--set 'export.to=[]'")


def export_and_prove(flow: "Flow") -> None:
    """Write and check the recipe's formats, then measure each GGUF file. Stops where a file's check against transformers failed."""
    if not flow.recipe.export.to:
        return
    from scionwood.export.exporter import export

    failed = [e for e in export(flow, list(flow.recipe.export.to)) if e.failed]
    if failed:
        raise UserError(f"{flow.run.path(failed[0].path)}: its check failed ({failed[0].failed}); do not ship it, and please report it")
    for name in proved(flow.recipe):
        prove(flow, name)


def prove(flow: "Flow", name: str) -> None:
    """The stage that measures one GGUF file."""
    written = flow.run.record(f"export-{stem(name)}")
    (path, sha256), = written["outputs"].items()

    def work():
        from scionwood.evidence.exports import EXPORT
        from scionwood.models.light import LightTokenizer
        from scionwood.models.llamacpp import LlamaCpp
        from scionwood.models.prompts import Renderer
        from scionwood.systems.gguf import MAX_NEW_TOKENS, GgufSystem

        longest = flow.recipe.train.max_length
        renderer = Renderer(LightTokenizer(flow.run.path("export")))
        with LlamaCpp(flow.run.path(path), context=longest + MAX_NEW_TOKENS) as engine:
            facts = flow.write_predictions(stem(name), GgufSystem(name, EXPORT, engine, renderer, flow.task, longest))
        return facts | {"seed": seed_of(written["facts"]["adapter"]), "file": path, "bytes": written["facts"]["bytes"], "sha256": sha256}

    inputs = {"file": written["outputs"], "asked": flow.asked, "max_length": flow.recipe.train.max_length,
              "tokenizer": [file_hash(flow.run.path("export", f)) for f in ("tokenizer.json", "chat_template.jinja")]}
    flow.run.stage(f"prove-{stem(name)}", inputs, [f"predictions/{stem(name)}.jsonl"], work)


def seed_of(adapter: str) -> int:
    """The seed of "adapter-2" is 2."""
    return int(adapter.removeprefix("adapter-"))


def exported_systems(flow: "Flow") -> list[tuple[str, str, str, int]]:
    """(predictions file, name, kind, seed) of every measured export."""
    from scionwood.evidence.exports import EXPORT

    return [(f"predictions/{stem(n)}.jsonl", n, EXPORT, flow.run.facts(f"prove-{stem(n)}")["seed"]) for n in proved(flow.recipe)]


def facts(flow: "Flow") -> dict[str, dict[str, Any]]:
    """What card and report tell of each file: its size, its hash."""
    return {n: flow.run.facts(f"prove-{stem(n)}") for n in proved(flow.recipe)}


def changed_files(flow: "Flow") -> Iterator[str]:
    """For ``scion verify``: exported files that are no longer those that were measured."""
    for name, fact in facts(flow).items():
        path = Path(flow.run.path(fact["file"]))
        found = file_hash(path) if path.is_file() else "absent"
        if found != fact["sha256"]:
            yield (f"{fact['file']}: sha256: {fact['sha256']} measured, {found} found; "
                   f"write it again: scion export {flow.run.folder} --to {name}")
