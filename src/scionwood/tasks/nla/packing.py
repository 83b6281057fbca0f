"""Writing both halves in the published layout: adapters as they are, or whole weights with the adapters merged in."""

from __future__ import annotations

import copy
import shutil
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from scionwood.errors import UserError
from scionwood.files import write_tensors
from scionwood.tasks.nla.meta import Checkpoint, Critic, Scales, Templates, write_meta
from scionwood.tasks.nla.weights import ADAPTER, HEAD, is_whole

if TYPE_CHECKING:
    from scionwood.tasks.nla.pair import Pair


def pack(pair: "Pair", out: Path, whole: bool = False) -> list[Path]:
    """Write ``out``/av and ``out``/ar with their sidecars; return both folders.

    ``whole`` merges the adapters in float32: AV becomes a model of its own, AR one of blocks 0 to K without head and final norm, each
    with its tokenizer. Any program that knows the layout reads these. Without ``whole``, the sidecar names the base that is needed.
    """
    out = Path(out)
    for folder in (out / "av", out / "ar"):
        if folder.exists() and any(folder.iterdir()):
            raise UserError(f"{folder}: is not empty; name another folder, or remove it")
    if is_whole(pair.av_folder) or is_whole(pair.ar_folder):
        raise UserError("pack: takes adapters, from a run or from their folders; whole weights are in the published layout already")
    av, ar = pair.av, pair.ar  # loaded before anything is written: what does not fit together is told here
    for role, folder, half in (("av", out / "av", av), ("ar", out / "ar", ar)):
        folder.mkdir(parents=True, exist_ok=True)
        if whole:
            _write_whole(role, half, folder, pair)
        else:
            source = pair.av_folder if role == "av" else pair.ar_folder
            for name in (ADAPTER, "adapter_config.json"):
                shutil.copyfile(source / name, folder / name)
        if role == "ar":
            write_tensors(folder / HEAD, {"weight": half.head.weight.detach().float().cpu().contiguous()})
        write_meta(folder, sidecar(pair, role, whole))
    return [out / "av", out / "ar"]


def sidecar(pair: "Pair", role: str, whole: bool) -> Checkpoint:
    """The sidecar of one half."""
    from scionwood.tasks.nla.verbalizer import sidecar_tokens

    tokens = sidecar_tokens(pair.renderer, pair.av.marker)
    return Checkpoint(
        role=role, stage="sft", base_checkpoint=pair.name if whole else pair.base, d_model=pair.width, extraction_layer_index=pair.layer,
        extraction=Scales(injection_scale=pair.av.scale if role == "av" else None, mse_scale=pair.width**0.5), tokens=tokens,
        prompt_templates=Templates(av=pair.av.template, ar=pair.ar.template),
        critic=Critic(extraction_layer_index=pair.layer) if role == "ar" else None,
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"), created_by="scionwood",
        training={"positions": pair.positions, "ar_reading": pair.ar_reading})


def _write_whole(role: str, half, folder: Path, pair: "Pair") -> None:
    """One half's weights with its adapter merged in, and the tokenizer."""
    model = copy.deepcopy(half.model).float()  # merging writes into the weights, and those are shared with the base
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload(safe_merge=True)
    weights = model.state_dict()
    if role == "ar":
        weights = {k: v for k, v in weights.items() if not k.startswith("lm_head.")}
    elif model.config.tie_word_embeddings:
        weights.pop("lm_head.weight", None)
    model.save_pretrained(folder, state_dict={k: v.contiguous() for k, v in weights.items()})
    pair.renderer.tokenizer.save_pretrained(folder)
