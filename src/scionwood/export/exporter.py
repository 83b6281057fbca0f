"""Exports of a run: written, checked at once, skipped where they are up to date, and described for the sidecar."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scionwood.export.formats import SERVED, Loaded, check_formats, check_packages, output, write
from scionwood.export.quantize import K_QUANTS, find_quantizer
from scionwood.export.source import Source, source_of
from scionwood.files import file_hash, read_json, write_bytes, write_json

if TYPE_CHECKING:
    from scionwood.flow import Flow
    from scionwood.run import Run

LAYOUT = 1  # raised when the same adapter would be written otherwise, so that older files are written anew


@dataclass(frozen=True)
class Exported:
    """One format that lies in the run: its file or folder relative to the run, its bytes, and what its check found."""

    format: str
    path: str
    bytes: int
    check: dict[str, Any]

    @property
    def failed(self) -> str:
        """Why the check failed, empty where it did not."""
        return self.check["failed"]


def export(flow: "Flow", formats: list[str], adapter: str | None = None) -> list[Exported]:
    """Export an adapter of a run (the best one, unless named) to ``RUN/export`` and check each file. What is up to date is left.

    The caller holds the run's lock. Files of other adapters or of other versions are removed: one folder holds one specialist.
    """
    wanted = check_formats(formats)
    check_packages(wanted)
    for name in wanted:
        if name.removeprefix("gguf:") in K_QUANTS:
            find_quantizer(name.removeprefix("gguf:"))  # before anything is loaded
    source = source_of(flow, adapter)
    loaded, done = Loaded(source), []
    drop_stale(flow.run, source, wanted)
    write_tokenizer(source)
    for name in wanted:
        done.append(_one(flow.run, loaded, name))
    describe(flow.run, loaded)
    return done


def stage_name(kind: str, name: str) -> str:
    """"export-gguf-q8_0" for gguf:q8_0."""
    return f"{kind}-{name.replace(':', '-')}"


def inputs(source: Source, name: str, served: str | None = None) -> dict[str, Any]:
    """What a format depends on."""
    return {"layout": LAYOUT, "format": name, "run": source.run_hash, "metadata": source.metadata(), "served": served}


def _one(run: "Run", loaded: Loaded, name: str) -> Exported:
    from scionwood.export.check import check

    source, path = loaded.source, output(loaded.source, name)
    served = served_model(run, source) if name == "ollama" else None

    def work():
        forget(source, name)
        write(name, loaded, run.path(path), Path(served).name if served else None)
        return {"adapter": source.adapter, "bytes": size(run.path(path))}

    run.stage(stage_name("export", name), inputs(source, name, served), [path], work)
    seen = {"file": run.output_hash(stage_name("export", name)), "prompts": source.prompts(), "layout": LAYOUT}
    run.stage(stage_name("check", name), seen, [], lambda: check(name, loaded, run.path(path)))
    return Exported(name, path, run.facts(stage_name("export", name))["bytes"], run.facts(stage_name("check", name)))


def size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) if path.is_dir() else path.stat().st_size


def present(run: "Run", source: Source) -> dict[str, str]:
    """``{format: path}`` of what was exported of this adapter and still lies in the run."""
    from scionwood.export.formats import FORMATS

    found = {n: output(source, n) for n in FORMATS if run.path("stages", f"{stage_name('export', n)}.json").exists()}
    return {n: p for n, p in found.items() if run.path(p).exists()}


def served_model(run: "Run", source: Source) -> str | None:
    """The GGUF file that is served: the smallest loss at a size that suits a small machine comes first."""
    here = present(run, source)
    return next((here[n] for n in (*SERVED, *here) if n in here and n.startswith("gguf:")), None)


def drop_stale(run: "Run", source: Source, wanted: list[str]) -> None:
    """Remove exports of another adapter, so that nothing in the folder answers otherwise than its neighbours say."""
    from scionwood import __version__
    from scionwood.files import text_hash

    for name, path in sorted(present(run, source).items(), key=lambda item: item[0] == "ollama"):
        if name in wanted:
            continue
        record = read_json(run.path("stages", f"{stage_name('export', name)}.json"))
        left = [p for n, p in present(run, source).items() if n.startswith("gguf:")]  # one of them is what a Modelfile names
        if record["inputs"] not in [text_hash([__version__, inputs(source, name, s)]) for s in (left if name == "ollama" else [None])]:
            run.echo(f"{path}: removed (it is of another adapter or version; export it again with --to {name})")
            shutil.rmtree(run.path(path)) if run.path(path).is_dir() else run.path(path).unlink()
            for kind in ("export", "check"):
                run.path("stages", f"{stage_name(kind, name)}.json").unlink(missing_ok=True)


def describe(run: "Run", loaded: Loaded) -> None:
    """Write serving.json, tokenizer and chat template for the sidecar, and checks.json with every check of the folder."""
    from scionwood import __version__

    source = loaded.source
    here = present(run, source)
    checks = {n: run.facts(stage_name("check", n)) for n in here if run.path("stages", f"{stage_name('check', n)}.json").exists()}
    write_json(source.out / "checks.json", {"run": source.run_hash, "adapter": source.adapter, "checks": checks})
    model = served_model(run, source)
    write_json(source.out / "serving.json", {
        "task": source.task, "task_options": source.task_options, "name": source.name, "base": source.base_name, "adapter": source.adapter,
        "licence": source.licence, "run": source.run_hash, "max_length": source.max_length,
        "model": Path(model).name if model else None,
        "files": {n: {"file": Path(p).name, "bytes": size(run.path(p)), "sha256": file_hash(run.path(p))} for n, p in here.items()},
        "tokenizer": "tokenizer.json", "chat_template": "chat_template.jinja", "scionwood": __version__,
    })


def forget(source: Source, name: str) -> None:
    """Take a format out of serving.json before its file is written anew: after a kill, no file stands there under another's hash."""
    path = source.out / "serving.json"
    about = read_json(path) if path.exists() else {}
    if entry := about.get("files", {}).pop(name, None):
        write_json(path, about | ({"model": None} if about["model"] == entry["file"] else {}))


def write_tokenizer(source: Source) -> None:
    """The run's own tokenizer.json, tokenizer_config.json and chat_template.jinja, beside the models."""
    import tempfile

    from scionwood.export.gguf_vocabulary import template_of
    from scionwood.models.loading import load_tokenizer

    tokenizer = load_tokenizer(source.base)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            write_bytes(source.out / name, (Path(folder) / name).read_bytes())
    write_bytes(source.out / "chat_template.jinja", template_of(tokenizer).encode())
