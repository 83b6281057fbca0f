"""Directions in activation space as files: our own safetensors, and ``.pt`` tensors read with weights_only."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scionwood.errors import UserError

KEY = "direction"


@dataclass(frozen=True)
class Direction:
    """A direction (d,) float32 of unit norm. ``layer``: the block whose output it belongs to, None where the file does not say.
    ``norm``: its length before it was made one. ``about``: what else its file says."""

    name: str
    vector: np.ndarray
    layer: int | None = None
    norm: float = 1.0
    about: dict[str, Any] = field(default_factory=dict)


def unit_direction(name: str, vector: np.ndarray, layer: int | None = None, about: dict[str, Any] | None = None) -> Direction:
    """A direction from any vector (d,). Raises UserError where it has no length or is not finite."""
    vector = np.asarray(vector, dtype=np.float32)
    norm = float(np.linalg.norm(vector))
    if vector.ndim != 1 or not np.isfinite(norm) or norm == 0:
        raise UserError(f"{name}: shape {vector.shape} and norm {norm:g}; a direction is one finite vector that is not zero")
    return Direction(name, vector / norm, layer, norm, about or {})


def write_direction(path: Path, direction: Direction) -> None:
    """Write safetensors with the tensor ``direction`` (d,) and layer, name and the rest in the metadata."""
    import torch

    from scionwood.files import write_tensors

    about = {"format": "scionwood-direction-1", "name": direction.name, "layer": "" if direction.layer is None else str(direction.layer),
             "norm": repr(direction.norm), "about": json.dumps(direction.about, ensure_ascii=False)}
    write_tensors(path, {KEY: torch.from_numpy(np.ascontiguousarray(direction.vector))}, about)


def read_direction(path: Path) -> Direction:
    """Read a direction: ``.safetensors`` as written here (or with a single tensor), or a ``.pt`` that holds one tensor (d,)."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in (".pt", ".pth"):
        return unit_direction(path.stem, _read_pt(path))
    raise UserError(f"{path}: not a direction (known: .safetensors, .pt)")


def _read_safetensors(path: Path) -> Direction:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as f:
            keys, about = list(f.keys()), f.metadata() or {}
            key = KEY if KEY in keys else keys[0] if len(keys) == 1 else None
            vector = f.get_tensor(key).float().numpy() if key else None
    except (SafetensorError, OSError) as e:
        raise UserError(f"{path}: cannot be read ({str(e).splitlines()[0]})") from None
    if vector is None:
        raise UserError(f"{path}: holds {len(keys)} tensors and none named '{KEY}'")
    try:
        found = unit_direction(about.get("name") or path.stem, vector, int(about["layer"]) if about.get("layer") else None,
                               json.loads(about.get("about") or "{}"))
    except ValueError:
        raise UserError(f"{path}: its metadata is damaged; write it anew with 'scion nla axis'") from None
    return Direction(found.name, found.vector, found.layer, float(about.get("norm") or found.norm), found.about)


def _read_pt(path: Path) -> np.ndarray:
    """One tensor from PyTorch's own format. ``weights_only`` reads tensors and plain containers and runs no code of the file."""
    import torch

    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # a damaged or refused file fails in many ways, none of them ours
        raise UserError(f"{path}: not a tensor that can be read safely ({(str(e).splitlines() or [type(e).__name__])[0]})") from None
    if isinstance(value, dict) and len(value) == 1:
        value = next(iter(value.values()))
    if not isinstance(value, torch.Tensor):
        raise UserError(f"{path}: holds a {type(value).__name__}, not one tensor")
    if value.ndim == 2 and value.shape[0] == 1:
        value = value[0]
    return value.detach().float().numpy()
