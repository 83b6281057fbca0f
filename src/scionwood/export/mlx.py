"""Adapter folders of mlx-lm: written for Apple machines, read to be measured."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from scionwood.errors import UserError
from scionwood.export.lora import Lora, checked, number, read_tensors
from scionwood.files import read_json, write_json, write_tensors

KEY = re.compile(r"(.+)\.lora_(a|b)")
PARENT = {"q_proj": "self_attn", "k_proj": "self_attn", "v_proj": "self_attn", "o_proj": "self_attn",
          "gate_proj": "mlp", "up_proj": "mlp", "down_proj": "mlp"}


def write_mlx(lora: Lora, base: str, layers: int, folder: Path) -> Path:
    """Write ``adapters.safetensors`` and ``adapter_config.json`` as mlx-lm loads them. ``layers`` is the base's number of layers.

    mlx-lm adapts the last N layers, so an adapter of other layers is refused. Its matrices stand the other way round than
    PEFT's: A is ``[in, rank]``, B ``[rank, out]``.
    """
    adapted = lora.layers()
    if adapted != list(range(layers - len(adapted), layers)):
        raise UserError(f"export to mlx: mlx-lm adapts the last layers only, this adapter has layers {adapted} of {layers}")
    tensors = {}
    for name, (a, b) in lora.pairs.items():
        tensors[f"{name}.lora_a"], tensors[f"{name}.lora_b"] = a.T.contiguous(), b.T.contiguous()
    write_tensors(Path(folder) / "adapters.safetensors", tensors, {"format": "mlx"})
    write_json(Path(folder) / "adapter_config.json", {
        "fine_tune_type": "lora", "model": base, "num_layers": len(adapted),
        "lora_parameters": {"rank": lora.rank, "scale": lora.scale, "dropout": lora.dropout,
                            "keys": [f"{PARENT[t]}.{t}" for t in lora.targets()]},
    })
    return Path(folder)


def read_mlx(folder: Path) -> Lora:
    """Read an adapter folder of mlx-lm. Raises UserError for DoRA, full fine-tuning and torn files."""
    path = Path(folder) / "adapter_config.json"
    config = read_json(path)
    parameters = config.get("lora_parameters") if isinstance(config, dict) else None
    if not isinstance(parameters, dict):
        raise UserError(f"{path}: no lora_parameters; not an adapter of mlx-lm")
    kind = config.get("fine_tune_type", "lora")
    if kind != "lora":
        raise UserError(f"{path}: fine_tune_type = '{kind}'; only plain LoRA can be read")
    halves: dict[str, dict[str, Any]] = {}
    for key, tensor in read_tensors(Path(folder) / "adapters.safetensors").items():
        found = KEY.fullmatch(key)
        if not found:
            raise UserError(f"{folder}: tensor '{key}' is no part of plain LoRA")
        halves.setdefault(found[1], {})[found[2]] = tensor.float().T.contiguous()
    pairs = {name: (h.get("a"), h.get("b")) for name, h in halves.items()}
    lora = Lora(int(number(parameters, "rank", folder)), float(number(parameters, "scale", folder)),
                float(parameters.get("dropout") or 0), config.get("model") or "", pairs)
    return checked(lora, folder)
