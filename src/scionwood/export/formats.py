"""The formats that a run can be exported to: what each is called, what it writes, and how."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

from scionwood.errors import UserError, nearest
from scionwood.export.gguf import KINDS
from scionwood.export.quantize import K_QUANTS
from scionwood.export.source import Source

FORMATS = (*(f"gguf:{k}" for k in KINDS), *(f"gguf:{k}" for k in K_QUANTS), "merged", "lora-gguf", "mlx", "ollama")
# What is served where several are there: the first of these.
SERVED = ("gguf:q8_0", "gguf:f16", "gguf:q6_k", "gguf:q5_k_m", "gguf:q4_k_m", "gguf:q4_0", "gguf:f32")


def check_formats(formats: list[str]) -> list[str]:
    """The formats, each once, in the order in which they can be written. Unknown ones are one line."""
    for name in formats:
        if name not in FORMATS:
            raise UserError(f"--to {name}: no such format{meant(name)} (known: {', '.join(FORMATS)})")
    wanted = list(dict.fromkeys(formats))
    if "ollama" in wanted and not any(f.startswith("gguf:") for f in wanted):
        wanted.append("gguf:q8_0")
    return sorted(wanted, key=lambda f: f == "ollama")  # its Modelfile names a file that must be there


def meant(name: str) -> str:
    """``nearest`` among the formats, also where "gguf:" was left out."""
    short = {f.removeprefix("gguf:"): f for f in FORMATS}
    return nearest(name, FORMATS) or re.sub("'(.+)'", lambda m: f"'{short[m[1]]}'", nearest(name.lower(), short))


def check_packages(formats: list[str]) -> None:
    """GGUF files are written by one package and checked with another; without them nothing is begun."""
    from importlib.util import find_spec

    missing = [p for p in ("gguf", "xllamacpp") if find_spec(p) is None]
    if missing and any(f.startswith("gguf:") or f == "lora-gguf" for f in formats):
        raise UserError(f"export to GGUF: needs {' and '.join(missing)}; install with: pip install 'scionwood[export]'")


def output(source: Source, name: str) -> str:
    """The file or folder of a format, relative to the run folder."""
    stem = re.sub(r"[^A-Za-z0-9._-]", "-", source.name)
    if name.startswith("gguf:"):
        return f"export/{stem}-{name.removeprefix('gguf:')}.gguf"
    return {"merged": "export/merged", "lora-gguf": f"export/{stem}-lora.gguf", "mlx": "export/mlx", "ollama": "export/Modelfile"}[name]


class Loaded:
    """The models behind a source, each loaded when it is first needed."""

    def __init__(self, source: Source):
        self.source = source

    @cached_property
    def merged(self):
        """``(model, tokenizer)``: adapter and base as one, in float32."""
        from scionwood.export.merge import merged

        return merged(self.source.base, self.source.adapter_folder)

    @cached_property
    def config(self):
        from transformers import AutoConfig

        from scionwood.models.loading import folder_of

        return AutoConfig.from_pretrained(folder_of(self.source.base), trust_remote_code=False)


def write(name: str, loaded: Loaded, out: Path, served: str | None) -> None:
    """Write one format to ``out``. ``served`` is the GGUF file that a Modelfile names."""
    source, metadata = loaded.source, loaded.source.metadata()
    if name.startswith("gguf:"):
        from scionwood.export.gguf import write_gguf
        from scionwood.export.quantize import write_k_quant

        kind = name.removeprefix("gguf:")
        if kind in K_QUANTS:
            write_k_quant(*loaded.merged, out, kind, metadata)
        else:
            write_gguf(*loaded.merged, out, kind, metadata)
    elif name == "lora-gguf":
        from scionwood.export.gguf_lora import write_lora_gguf

        write_lora_gguf(loaded.config, source.adapter_folder, out, metadata)
    elif name == "merged":
        from scionwood.export.merge import write_merged

        write_merged(*loaded.merged, out)
    elif name == "mlx":
        from scionwood.export.lora import read_peft
        from scionwood.export.mlx import write_mlx

        write_mlx(read_peft(source.adapter_folder), source.base_name, loaded.config.num_hidden_layers, out)
    else:
        from scionwood.export.ollama import modelfile
        from scionwood.files import write_text
        from scionwood.models.loading import load_tokenizer

        write_text(out, modelfile(load_tokenizer(source.base), source.prompts(), served, source.max_length))
