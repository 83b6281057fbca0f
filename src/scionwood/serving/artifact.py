"""What ``scion export`` left for a sidecar: serving.json, the GGUF files, tokenizer and chat template."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scionwood.errors import UserError, nearest
from scionwood.files import file_hash, read_json


@dataclass(frozen=True)
class Artifact:
    """An exported specialist. ``rev`` is a short hash of the very file that answers."""

    folder: Path
    task: str
    task_options: dict[str, Any]
    name: str
    model: Path
    rev: str
    max_length: int


def read_artifact(folder: Path, wanted: str | None = None) -> Artifact:
    """The export of a run, or an export folder itself. ``wanted``: a format such as q8_0 or gguf:f16, or a file in the folder."""
    folder = Path(folder)
    home = folder if (folder / "serving.json").exists() else folder / "export"
    if not (home / "serving.json").exists():
        raise UserError(f"{folder}: nothing to serve there (no export/serving.json); write it with: scion export {folder} --to gguf:q8_0")
    about = read_json(home / "serving.json")
    try:
        files = {name.removeprefix("gguf:"): entry for name, entry in about["files"].items() if name.startswith("gguf:")}
        file = about["model"] if wanted is None else _file(home, files, wanted)
        if file is None:
            raise UserError(f"{home}: holds no GGUF file; write one with: scion export {folder} --to gguf:q8_0")
        model = home / file
        if not model.is_file():
            raise UserError(f"{model}: is gone; write it again with 'scion export'")
        entry = next((e for e in files.values() if e["file"] == file), None)
        if entry and model.stat().st_size != entry["bytes"]:
            raise UserError(f"{model}: {model.stat().st_size} bytes, not the {entry['bytes']} that were exported; export it anew")
        rev = (entry["sha256"] if entry else file_hash(model))[:12]
        name = f"{about['name']}-{_kind(files, file)}"
        return Artifact(home, about["task"], about["task_options"], name, model, rev, about["max_length"])
    except (KeyError, TypeError, AttributeError) as e:
        raise UserError(f"{home / 'serving.json'}: not written by 'scion export' ({type(e).__name__}: {e}); export the run anew") from None


def _file(home: Path, files: dict[str, dict], wanted: str) -> str:
    short = wanted.removeprefix("gguf:").lower()
    if short in files:
        return files[short]["file"]
    if Path(wanted).suffix == ".gguf" and (home / Path(wanted).name).is_file():
        return Path(wanted).name
    raise UserError(f"--model {wanted}: not exported{nearest(short, files)} (there: {', '.join(sorted(files)) or 'none'})")


def _kind(files: dict[str, dict], file: str) -> str:
    return next((name for name, e in files.items() if e["file"] == file), Path(file).stem)
