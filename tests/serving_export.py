"""An export folder as ``scion export`` leaves it, of a tiny random model or of any model that is given."""

from __future__ import annotations

from pathlib import Path

from scionwood.export.gguf import write_gguf
from scionwood.export.gguf_vocabulary import template_of
from scionwood.files import file_hash, write_bytes, write_json


def write_export(folder: Path, model, tokenizer, task: str = "cerebellum", kinds=("f16",), max_length: int = 1000,
                 name: str = "tiny") -> Path:
    """Write ``folder/export`` and return ``folder``."""
    out = folder / "export"
    out.mkdir(parents=True)
    tokenizer.save_pretrained(out)
    write_bytes(out / "chat_template.jinja", template_of(tokenizer).encode())
    files = {}
    for kind in kinds:
        path = write_gguf(model, tokenizer, out / f"{name}-{kind}.gguf", kind, {"name": name, "base": "random", "licence": "apache-2.0"})
        files[f"gguf:{kind}"] = {"file": path.name, "bytes": path.stat().st_size, "sha256": file_hash(path)}
    write_json(out / "serving.json", {"task": task, "task_options": {}, "name": name, "base": "random", "adapter": "adapter-0",
                                      "licence": "apache-2.0", "run": "0" * 64, "max_length": max_length,
                                      "model": f"{name}-{kinds[0]}.gguf", "files": files})
    return folder
