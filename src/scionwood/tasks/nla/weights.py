"""Whole models from folders in the published layout, and copies that share the tensors of the frozen base."""

from __future__ import annotations

import copy
from pathlib import Path

from scionwood.errors import UserError
from scionwood.files import read_json
from scionwood.tasks.nla.meta import NAME, Checkpoint

ADAPTER, HEAD = "adapter_model.safetensors", "value_head.safetensors"
FAMILIES = ("qwen2", "qwen3", "llama", "gemma3_text")  # text models whose blocks were walked in tests


def is_whole(folder: Path) -> bool:
    """Whether a checkpoint folder holds a model's own weights, not an adapter."""
    return (folder / "config.json").exists() and not (folder / ADAPTER).exists()


def shared_copy(model):
    """The same model once more: modules, hooks and adapters of its own, the very same frozen weights."""
    return copy.deepcopy(model, {id(t): t for t in (*model.parameters(), *model.buffers())})


def check_width(model, meta: Checkpoint, folder: Path) -> None:
    """Raise UserError where a model is not as wide as its sidecar says."""
    if (width := model.config.get_text_config().hidden_size) != meta.d_model:
        raise UserError(f"{folder}: a model of width {width}, but its {NAME} says d_model = {meta.d_model}; the two do not belong together")


def load_whole(folder: Path, what: str, device, dtype, headless: bool = False):
    """A text model from a folder: safetensors only, no remote code, frozen. ``headless``: final norm and head may be missing."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    from scionwood.models import attention
    from scionwood.models.loading import FAMILIES as TREES
    from scionwood.models.loading import first_line

    config = read_json(folder / "config.json")
    if "auto_map" in config:
        raise UserError(f"{what}: its config asks for remote code (auto_map); remote code is never run")
    if config.get("model_type") not in FAMILIES:
        raise UserError(f"{what}: model type '{config.get('model_type')}' is not supported (known: {', '.join(FAMILIES)})")
    if not list(folder.glob("*.safetensors")):
        raise UserError(f"{what}: no safetensors weights in {folder}; convert it to safetensors first")
    how = {"attn_implementation": attention.NAME} if config["model_type"] in TREES else {}
    try:
        model, loaded = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, trust_remote_code=False, use_safetensors=True, output_loading_info=True, **how)
    except (SafetensorError, OSError, ValueError, RuntimeError) as e:
        raise UserError(f"{what}: its weights cannot be read ({first_line(e)}); fetch or save {folder} anew") from None
    missing = {k for k in loaded["missing_keys"] if not (headless and k in ("lm_head.weight", "model.norm.weight"))}
    if missing:  # transformers would draw them at random
        raise UserError(f"{what}: {len(missing)} of its weights are not in {folder}, first '{sorted(missing)[0]}'; fetch or save it anew")
    model.requires_grad_(False)
    return model.to(device).eval()
