"""A run as a folder in the layout of the Hugging Face hub, and its upload."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator

from scionwood.errors import UserError
from scionwood.export.exporter import Exported, present, stage_name
from scionwood.export.source import Source, public_name
from scionwood.files import file_hash, read_json

if TYPE_CHECKING:
    from scionwood.flow import Flow

RUN_FILES = ("README.md", "report.html", "figures.json")
BESIDE = ("serving.json", "checks.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
LEFT_OUT = ("merged",)  # as large as the base, and made again by one command


def layout(flow: "Flow", source: Source) -> dict[str, Path]:
    """``{path on the hub: file}``: the card, the adapter where PEFT looks for it, exports, student, predictions, recipe.

    All else lies where it lies in a run, so that ``scion verify`` and ``scion serve`` work on the downloaded folder. The data that
    was trained on is not in it.
    """
    run = flow.run
    files = {name: run.path(name) for name in (*RUN_FILES, "recipe.lock.toml")}
    files |= {p.name: p for p in sorted(source.adapter_folder.iterdir()) if p.suffix in (".json", ".safetensors")}
    here = present(run, source)
    for name, path in here.items():
        if name not in LEFT_OUT:
            whole = run.path(path)
            files |= {f"{path}/{p.name}": p for p in sorted(whole.iterdir())} if whole.is_dir() else {path: whole}
    if here:
        files |= {f"export/{n}": source.out / n for n in BESIDE}
    for pattern in ("predictions/*.jsonl", "stages/*.json", "adapter/*/log.jsonl", "adapter/*/best/*", "student/**/*"):
        files |= {p.relative_to(run.folder).as_posix(): p for p in sorted(run.folder.glob(pattern)) if p.is_file()
                  and not p.name.startswith(".")}
    return files


def changed_exports(flow: "Flow", source: Source) -> Iterator[str]:
    """Exported files that are no longer what was checked, or whose check failed."""
    for name, path in present(flow.run, source).items():
        if file_hash(flow.run.path(path)) != flow.run.record(stage_name("export", name))["outputs"][path]:
            yield f"{path}: was changed after its export; run scion export again"
        elif not flow.run.path("stages", f"{stage_name('check', name)}.json").exists():
            yield f"{path}: was not checked; run scion export again"
        elif (failed := Exported(name, path, 0, flow.run.facts(stage_name("check", name))).failed):
            yield f"{path}: its check failed ({failed})"


def stage(files: dict[str, Path], folder: Path) -> Path:
    """Put the files into ``folder`` as they go to the hub: large ones as links, texts without paths of this machine."""
    for name, path in files.items():
        to = folder / name
        to.parent.mkdir(parents=True, exist_ok=True)
        if name == "recipe.lock.toml":
            to.write_text(portable_recipe(path.read_text("utf-8")), "utf-8")
        elif path.name == "adapter_config.json":
            to.write_text(json.dumps(portable_config(read_json(path)), indent=1) + "\n", "utf-8")
        else:
            try:
                os.link(path, to)
            except OSError:  # another disk
                shutil.copyfile(path, to)
    return folder


def portable_recipe(text: str) -> str:
    """A lock file without the folders of this machine: of an absolute path its last part is left."""
    import tomllib

    import tomli_w

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: "." if k == "home" else clean(v) for k, v in value.items()}
        if isinstance(value, list):
            return [clean(v) for v in value]
        if isinstance(value, str) and re.match(r"[/~\\]|[A-Za-z]:[\\/]", value):
            return re.split(r"[\\/]", value.rstrip("\\/"))[-1]
        return value

    return tomli_w.dumps(clean(tomllib.loads(text)))


def portable_config(config: dict[str, Any]) -> dict[str, Any]:
    """An adapter's config whose base is named, not a folder of this machine."""
    base = config.get("base_model_name_or_path") or ""
    return {**config, "base_model_name_or_path": public_name(base)}


def upload(files: dict[str, Path], name: str, private: bool) -> str:
    """Create the repository where it is not there yet and upload the files in one commit. Returns its address."""
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    api = HfApi()
    try:
        with tempfile.TemporaryDirectory(dir=next(iter(files.values())).parent, prefix=".publish-") as folder:
            stage(files, Path(folder))
            repository = api.create_repo(name, exist_ok=True, private=private or None)
            api.upload_folder(folder_path=folder, repo_id=repository.repo_id, commit_message="scion publish")
    except LocalTokenNotFoundError:
        raise UserError(f"--to {name}: not logged in to the hub; run 'hf auth login' or set HF_TOKEN") from None
    except HFValidationError as e:
        raise UserError(f"--to {name}: not a name that the hub takes ({str(e).splitlines()[0]})") from None
    except HfHubHTTPError as e:
        raise UserError(f"--to {name}: the hub refused it ({str(e).splitlines()[0]}); "
                        "check the name and that your token may write") from None
    except (httpx.HTTPError, OSError) as e:
        raise UserError(f"--to {name}: the hub cannot be reached ({str(e).splitlines()[0] if str(e) else type(e).__name__}); "
                        "nothing is lost, run it again") from None
    return str(repository)
