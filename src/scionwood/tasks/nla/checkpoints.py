"""Opening and writing a verbalizer and a reconstructor: a run folder, or checkpoint folders in the published layout.

The published layout is one folder for each half, with ``nla_meta.yaml`` beside the weights. AV: a whole model. AR: the model cut to
blocks 0 to K, and ``value_head.safetensors``. Either may hold a PEFT adapter in place of weights; then the sidecar names the base.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Callable

from scionwood.errors import UserError
from scionwood.tasks.nla.meta import NAME, Checkpoint, read_meta
from scionwood.tasks.nla.pair import LAST, Pair
from scionwood.tasks.nla.weights import ADAPTER, is_whole


def open_pair(run: Path | None = None, av: Path | None = None, ar: Path | None = None, *, base: str | None = None, layer: int | None = None,
              scale: float | None = None, seed: int | None = None, device: str = "auto", dtype: str = "auto",
              echo: Callable[[str], None] = lambda line: None) -> Pair:
    """What a run folder or checkpoint folders hold. Nothing is loaded yet, but what can be known to be wrong is told at once.

    What is given explicitly wins over the checkpoint. A run with several seeds gives those of the lowest, unless ``seed`` names one.
    """
    common = {"device": device, "dtype": dtype, "echo": echo}
    if run is not None:
        if av or ar:
            raise UserError("--run: names both halves already; leave out --av and --ar, or --run")
        return _of_run(Path(run), base, layer, scale, seed, common)
    av_meta, ar_meta = (_sidecar(f, role) if f else None for f, role in ((av, "av"), (ar, "ar")))
    if av_meta and ar_meta and av_meta.d_model != ar_meta.d_model:
        raise UserError(f"{ar}: makes vectors of {ar_meta.d_model} values, {av} reads {av_meta.d_model}; name two halves of one base")
    layers = {m.extraction_layer_index if m.extraction_layer_index is not None else m.critic and m.critic.extraction_layer_index
              for m in (av_meta, ar_meta) if m} - {None}
    if layer is None and len(layers) > 1:
        raise UserError(f"{av} and {ar}: are of different layers ({', '.join(map(str, sorted(layers)))}); name two halves of one layer")
    named = next((m.base_checkpoint for m in (av_meta, ar_meta) if m and m.base_checkpoint), None)
    table = next((m.training for m in (ar_meta, av_meta) if m), {})
    chosen = layer if layer is not None else next(iter(layers), None)
    return Pair(base or named, chosen, scale, av and Path(av), ar and Path(ar), av_meta, ar_meta,
                positions=table.get("positions", LAST), ar_reading=table.get("ar_reading", LAST), **common)


def _of_run(run: Path, base, layer, scale, seed, common) -> Pair:
    if not (run / NAME).exists():
        why = "finish it with 'scion run'" if (run / "recipe.lock.toml").exists() else "'scion run nla' makes one"
        raise UserError(f"{run}: no run of task nla ({NAME} is not there); {why}")
    meta = read_meta(run)
    if not isinstance(meta, Checkpoint):
        raise UserError(f"{run / NAME}: describes a data set, not the halves of a run")
    halves = {role: _seeds(run, role) for role in ("av", "ar")}
    both = sorted(set(halves["av"]) & set(halves["ar"]))
    if not both:
        raise UserError(f"{run}: holds no trained verbalizer and reconstructor yet; finish it with 'scion run'")
    if seed is not None and seed not in both:
        raise UserError(f"--seed {seed}: the run {run} has the seeds {', '.join(map(str, both))}")
    chosen = both[0] if seed is None else seed
    vectors = run / "vectors" / "train.parquet"
    return Pair(base or _base_of_run(run, meta), layer if layer is not None else meta.extraction_layer_index, scale,
                halves["av"][chosen], halves["ar"][chosen], meta, None, vectors if vectors.exists() else None,
                meta.training.get("positions", LAST), meta.training.get("ar_reading", LAST), **common)


def _seeds(run: Path, role: str) -> dict[int, Path]:
    found = {}
    for best in run.glob(f"adapter/{role}-*/best"):
        number = re.fullmatch(rf"{role}-(\d+)", best.parent.name)
        if number and (best / ADAPTER).exists():
            found[int(number[1])] = best
    return found


def _base_of_run(run: Path, meta: Checkpoint) -> str | None:
    """The base of a run; a relative folder is relative to where its recipe lies."""
    from scionwood.settings import read_toml

    lock = run / "recipe.lock.toml"
    if meta.base_checkpoint and lock.exists():
        home = Path(read_toml(lock).get("lock", {}).get("home", "."))
        if (home / meta.base_checkpoint).is_dir():
            return str(home / meta.base_checkpoint)
    return meta.base_checkpoint


def _sidecar(folder: Path, role: str) -> Checkpoint:
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name one with {NAME} and weights or an adapter")
    if not is_whole(folder) and not (folder / ADAPTER).exists():
        raise UserError(f"{folder}: holds neither safetensors weights nor {ADAPTER}")
    meta = read_meta(folder)
    if not isinstance(meta, Checkpoint) or meta.role != role:
        what = meta.role if isinstance(meta, Checkpoint) else "a data set"
        raise UserError(f"{folder / NAME}: is of {what}, not of the role {role}; name the other half's folder")
    return meta
