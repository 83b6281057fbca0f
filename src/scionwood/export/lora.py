"""LoRA weights read from and written to PEFT folders, checked for what the other formats can carry."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scionwood.errors import UserError
from scionwood.files import read_json, write_json, write_tensors
from scionwood.models.settings import TARGETS

MODULE = re.compile(r"model\.layers\.(\d+)\.(?:self_attn|mlp)\.(\w+)")
PEFT_KEY = re.compile(r"base_model\.model\.(.+)\.lora_(A|B)\.weight")


@dataclass
class Lora:
    """Plain LoRA weights. ``pairs``: module name, such as ``model.layers.3.self_attn.q_proj``, to A ``[rank, in]`` and B ``[out, rank]``.

    The update of a module is ``scale * B @ A``.
    """

    rank: int
    scale: float
    dropout: float
    base: str
    pairs: dict[str, tuple[Any, Any]] = field(repr=False)

    def layers(self) -> list[int]:
        """The numbers of the layers that carry an update."""
        return sorted({int(MODULE.fullmatch(name)[1]) for name in self.pairs})

    def targets(self) -> list[str]:
        """The matrices that are adapted, in the order of ``TARGETS``."""
        return [t for t in TARGETS if any(name.endswith(f".{t}") for name in self.pairs)]


def read_peft(folder: Path) -> Lora:
    """Read a PEFT folder. Raises UserError where it holds more than plain LoRA of the seven matrices of a layer."""
    config = read_json(Path(folder) / "adapter_config.json")
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise UserError(f"{folder}: not a LoRA adapter in PEFT format (peft_type is not LORA)")
    for key in ("use_dora", "fan_in_fan_out", "modules_to_save", "rank_pattern", "alpha_pattern", "trainable_token_indices"):
        if config.get(key):
            raise UserError(f"{folder}: {key} = {config[key]!r} is more than plain LoRA and cannot be exported")
    if config.get("bias", "none") != "none":
        raise UserError(f"{folder}: bias = '{config['bias']}' trains more than the adapter and cannot be exported; use 'none'")
    halves: dict[str, dict[str, Any]] = {}
    for key, tensor in read_tensors(Path(folder) / "adapter_model.safetensors").items():
        found = PEFT_KEY.fullmatch(key)
        if not found:
            raise UserError(f"{folder}: tensor '{key}' is no part of plain LoRA and cannot be exported")
        halves.setdefault(found[1], {})[found[2]] = tensor.float()
    rank, alpha = number(config, "r", folder), number(config, "lora_alpha", folder)
    scale = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    pairs = {name: (h.get("A"), h.get("B")) for name, h in halves.items()}
    return checked(Lora(int(rank), scale, float(config.get("lora_dropout") or 0), config.get("base_model_name_or_path") or "", pairs),
                   folder)


def write_peft(lora: Lora, folder: Path) -> Path:
    """Write a PEFT folder that ``read_peft`` reads back to the same weights."""
    tensors = {}
    for name, (a, b) in lora.pairs.items():
        tensors |= {f"base_model.model.{name}.lora_A.weight": a.contiguous(), f"base_model.model.{name}.lora_B.weight": b.contiguous()}
    write_tensors(Path(folder) / "adapter_model.safetensors", tensors, {"format": "pt"})
    write_json(Path(folder) / "adapter_config.json", {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": lora.base, "r": lora.rank,
        "lora_alpha": lora.scale * lora.rank, "lora_dropout": lora.dropout, "target_modules": lora.targets(),
        "layers_to_transform": lora.layers(), "bias": "none", "inference_mode": True,
    })
    return Path(folder)


def read_tensors(path: Path) -> dict[str, Any]:
    """The tensors of a safetensors file; a missing or torn file is one line."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (SafetensorError, OSError) as e:
        raise UserError(f"{path}: cannot be read ({e}); copy it anew") from None


def number(config: dict[str, Any], key: str, where) -> float:
    """A positive number of a config file."""
    value = config.get(key)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < math.inf:
        raise UserError(f"{where}: adapter_config.json: {key} = {value!r}; a positive number is expected")
    return value


def checked(lora: Lora, folder: Path) -> Lora:
    """The same weights, once names and shapes are those of plain LoRA."""
    if not lora.pairs:
        raise UserError(f"{folder}: holds no LoRA weights")
    for name, (a, b) in lora.pairs.items():
        found = MODULE.fullmatch(name)
        if not found or found[2] not in TARGETS:
            raise UserError(f"{folder}: adapts '{name}', which cannot be exported (known: {', '.join(TARGETS)} of a layer)")
        if a is None or b is None:
            raise UserError(f"{folder}: '{name}' has only one of its two matrices; copy it anew")
        if a.ndim != 2 or b.ndim != 2 or a.shape[0] != lora.rank or b.shape[1] != lora.rank:
            raise UserError(f"{folder}: '{name}' has shapes {tuple(a.shape)} and {tuple(b.shape)}, which do not fit rank {lora.rank}")
    return lora
