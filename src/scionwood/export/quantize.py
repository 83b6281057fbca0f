"""Kinds of quantisation that need llama.cpp's own llama-quantize."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from scionwood.errors import UserError
from scionwood.export.gguf import temporary, write_gguf, writing

K_QUANTS = ("q2_k", "q3_k_s", "q3_k_m", "q3_k_l", "q4_k_s", "q4_k_m", "q5_k_s", "q5_k_m", "q6_k")


def find_quantizer(kind: str) -> str:
    """The path of llama-quantize. Raises UserError where it is not on PATH."""
    found = shutil.which("llama-quantize")
    if not found:
        raise UserError(f"gguf:{kind}: needs llama-quantize on PATH (it comes with llama.cpp); without it choose q8_0 or q4_0")
    return found


def write_k_quant(model, tokenizer, out: Path, kind: str, metadata: dict[str, Any]) -> Path:
    """Write a merged model as GGUF in float32 and have llama-quantize make ``kind`` of it, atomically."""
    tool = find_quantizer(kind)
    whole = temporary(out)
    try:
        write_gguf(model, tokenizer, whole, "f32", metadata)
        with writing(out) as part:
            done = subprocess.run([tool, str(whole), str(part), kind.upper()], capture_output=True, text=True, errors="replace",
                                  check=False)
            if done.returncode or not part.exists():
                lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
                raise UserError(f"gguf:{kind}: llama-quantize failed with code {done.returncode} "
                                f"({lines[-1].strip() if lines else 'it said nothing'})")
    finally:
        whole.unlink(missing_ok=True)
    return Path(out)
