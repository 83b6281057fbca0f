"""Texts to activations: the output of one decoder block, and nothing computed beyond it.

"Layer K" is the output of block K, counted from 0: transformers' ``hidden_states[K + 1]``, before the final norm. The last
entry of ``hidden_states`` is normalised, so the block itself is hooked.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Sequence

import numpy as np

from scionwood import files
from scionwood.errors import UserError
from scionwood.models.prompts import Renderer
from scionwood.tasks.nla.meta import Dataset, Extraction
from scionwood.tasks.nla.vectors import Vectors, describe_norms, write_vectors

LAST, MEAN = "last", "mean"  # positions: the last token of the chat template; the mean over the text's own tokens within it
FROM = 50  # first position that is drawn: earlier ones have seen too little text
PART_TOKENS = 65_536  # a killed extraction loses at most about so many tokens of work


class Reached(Exception):
    """The block is done: the rest of the forward pass is not needed."""


@dataclass(frozen=True)
class Read:
    """One text as it is read: its ids, and the positions whose vectors are kept, or averaged where ``mean`` is set."""

    id: str
    ids: list[int]
    positions: list[int]
    mean: bool = False

    def kept(self) -> list[int]:
        """The position of each vector; a mean stands at the last token that it takes in."""
        return self.positions[-1:] if self.mean else self.positions


def default_layer(layers: int) -> tuple[int, str]:
    """``(K, reason)``: two thirds of the depth, where published autoencoders read their models."""
    k = min(layers - 1, 2 * layers // 3)
    return k, f"layer {k}: the output of block {k} (of 0 to {layers - 1}), two thirds of the depth"


def stack_of(model):
    """The decoder stack of a causal LM, with or without PEFT around it."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return getattr(inner, "model", inner)


def check_layer(model, layer: int) -> None:
    """Raise UserError unless the model has block ``layer``."""
    count = len(stack_of(model).layers)
    if not 0 <= layer < count:
        raise UserError(f"layer {layer}: this base has the blocks 0 to {count - 1}")


def drop_above(model, layer: int) -> None:
    """Free the blocks above ``layer``, and the head where it has weights of its own, of a model that is loaded for extraction alone.

    They are never run (see ``states``), and weigh a third of the blocks at the usual layer.
    """
    check_layer(model, layer)
    stack = stack_of(model)
    del stack.layers[layer + 1 :]
    config = model.config.get_text_config()
    if not config.tie_word_embeddings and getattr(model, "lm_head", None) is not None:
        model.lm_head = None


def states(model, ids, layer: int):
    """The output of block ``layer`` for ids (b, n): (b, n, d), in the model's number format. Blocks above it are not run.

    Rows may be padded on the right with any id: a token attends to those before it alone, so no mask is needed.
    """
    import torch

    kept = []

    def hook(module, inputs, output):
        kept.append(output[0] if isinstance(output, tuple) else output)
        raise Reached

    stack = stack_of(model)
    handle = stack.layers[layer].register_forward_hook(hook)
    try:
        with torch.no_grad():
            stack(input_ids=ids, use_cache=False)
    except Reached:
        pass
    finally:
        handle.remove()
    return kept[0]


def batches(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Texts of about the same length together, longest first, at most ``tokens`` with their padding (one text may exceed it)."""
    out: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if out and lengths[out[-1][0]] * (len(out[-1]) + 1) <= tokens:
            out[-1].append(i)
        else:
            out.append([i])
    return out


def drawn_positions(ids: list[int], special: set[int], count: int, start: int, seed: int, doc: str) -> list[int]:
    """``count`` positions from ``start`` on that hold no special token (all, where there are fewer), the same for the same
    seed and document in whatever order documents come."""
    allowed = [p for p in range(start, len(ids)) if ids[p] not in special]
    state = int.from_bytes(hashlib.sha256(f"{seed}|{doc}".encode()).digest()[:8], "big")
    rng = np.random.default_rng(state)
    return sorted(int(p) for p in rng.choice(allowed, min(count, len(allowed)), replace=False)) if allowed else []


def own_tokens(renderer: Renderer, text: str) -> tuple[list[int], list[int]]:
    """A text as a user turn with the generation prompt: its ids, and the positions of the text's own tokens in them."""
    prompt, _ = renderer.text([{"role": "user", "content": text}])
    before, after = renderer.text([{"role": "user", "content": "\ue000"}])[0].split("\ue000")
    encoded = renderer.tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True)
    end = len(prompt) - len(after)
    return list(encoded["input_ids"]), [i for i, (a, b) in enumerate(encoded["offset_mapping"]) if a < end and b > len(before) and b > a]


def reads(renderer, ids: Sequence[str], texts: Sequence[str], positions: str | int, start: int, seed: int, max_tokens: int) -> list[Read]:
    """The texts as ids with their positions. ``last`` and ``mean``: a user turn with the generation prompt; a number: the bare text
    with its special tokens, of which at most ``max_tokens`` are read."""
    tokenizer = getattr(renderer, "tokenizer", renderer)
    out = []
    if positions in (LAST, MEAN):
        renderer = renderer if isinstance(renderer, Renderer) else Renderer(tokenizer)
        for name, text in zip(ids, texts):
            rendered, own = own_tokens(renderer, text)
            if len(rendered) > max_tokens:
                raise UserError(f"text {name}: {len(rendered)} tokens, more than {max_tokens}; raise the limit or shorten the text")
            if not own:
                raise UserError(f"text {name}: is empty")
            out.append(Read(name, rendered, own, mean=True) if positions == MEAN else Read(name, rendered, [len(rendered) - 1]))
        return out
    special = set(tokenizer.all_special_ids)
    for name, text in zip(ids, texts):
        tokens = list(tokenizer.encode(text, add_special_tokens=True))[:max_tokens]
        out.append(Read(name, tokens, drawn_positions(tokens, special, positions, start, seed, name)))
    return out


def extract(model, renderer, texts: Sequence[str], layer: int, *, ids: Sequence[str] | None = None, positions: str | int = LAST,
            start: int = FROM,
            seed: int = 0, max_tokens: int = 2048, batch_tokens: int = 2048, base: str | None = None, base_hash: str = "",
            work: Path | None = None, echo: Callable[[str], None] = lambda line: None) -> Vectors:
    """The activations of texts at the output of block ``layer``, raw and in float32.

    ``positions`` is "last" (the last token of the chat template's prompt), "mean" (the mean over the text's own tokens within the
    template), or how many positions are drawn from each bare text, from position ``start`` on; texts that are too short for one
    are left out and told. ``renderer`` may be a bare tokenizer in the latter case. With a folder ``work``, what was read is kept
    there part by part and a killed extraction goes on.
    """
    ids = [f"text-{i}" for i in range(len(texts))] if ids is None else list(ids)
    if not texts or len(ids) != len(texts) or len(set(ids)) != len(ids):
        raise UserError("extraction: " + ("there is no text" if not texts else "every text needs an id of its own"))
    if positions not in (LAST, MEAN) and (not isinstance(positions, int) or positions < 1):
        raise UserError(f"positions = {positions!r}: '{LAST}', '{MEAN}', or how many of each text (1 or more)")
    check_layer(model, layer)
    wanted = reads(renderer, ids, texts, positions, start, seed, max_tokens)
    kept = [r for r in wanted if r.positions]
    if len(kept) < len(wanted):
        echo(f"  {len(wanted) - len(kept)} of {len(wanted)} texts are too short: no token from position {start} on")
    if not kept:
        raise UserError(f"extraction: no text has a token from position {start} on; give longer texts or lower the first position")
    values = read_all(model, kept, layer, batch_tokens, work, base_hash, echo)
    tokenizer = getattr(renderer, "tokenizer", renderer)
    by_id = dict(zip(ids, texts))
    rows = [(r, p) for r in kept for p in r.kept()]
    meta = Dataset(stage="extract", row_count=len(rows), extraction=Extraction(
        base_model=base or getattr(model, "name_or_path", None) or None, d_model=values.shape[1], layer_index=layer, norm="none",
        positions_per_doc=positions))
    shown = [by_id[r.id] if positions in (LAST, MEAN) else tokenizer.decode(r.ids[: p + 1], skip_special_tokens=True) for r, p in rows]
    out = Vectors([r.id for r, _ in rows], shown, np.array([p for _, p in rows], dtype=np.int64), values, meta)
    tell_norms(out, echo)
    return out


def read_all(model, kept: list[Read], layer: int, batch_tokens: int, work: Path | None, base_hash: str, echo) -> np.ndarray:
    """The vectors of all positions (n, d), in the order of ``kept``; parts that lie in ``work`` are not computed again."""
    import torch
    from safetensors.numpy import load_file

    device = next(model.parameters()).device
    # every part is an equal share of the texts, so that what a part holds never depends on where a run was killed
    shares, tokens = [[]], 0
    for i, r in enumerate(kept):
        if tokens >= PART_TOKENS:
            shares.append([])
            tokens = 0
        shares[-1].append(i)
        tokens += len(r.ids)
    parts = []
    for number, share in enumerate(shares):
        key = files.text_hash([base_hash, str(model.dtype), layer, [[kept[i].ids, kept[i].positions, kept[i].mean] for i in share]])
        path = work / f"part-{key[:24]}.safetensors" if work else None
        if path and path.exists():
            parts.append(load_file(path)["values"])
            continue
        chosen = [kept[i] for i in share]
        out: list = [None] * len(chosen)
        for group in batches([len(r.ids) for r in chosen], batch_tokens):
            width = max(r.positions[-1] for r in (chosen[i] for i in group)) + 1  # nothing behind the last position is needed
            padded = torch.zeros(len(group), width, dtype=torch.long)
            for n, i in enumerate(group):
                cut = chosen[i].ids[:width]
                padded[n, : len(cut)] = torch.tensor(cut)
            h = states(model, padded.to(device), layer)
            for n, i in enumerate(group):
                rows = h[n, chosen[i].positions].float()
                out[i] = (rows.mean(0, keepdim=True) if chosen[i].mean else rows).cpu().numpy()
            del h
        parts.append(np.concatenate(out))
        if path:
            files.write_tensors(path, {"values": torch.from_numpy(parts[-1])})
        if len(shares) > 1:
            echo(f"  extraction: {number + 1} of {len(shares)} parts")
    return np.concatenate(parts)


def tell_norms(vectors: Vectors, echo: Callable[[str], None]) -> None:
    """Say how long the vectors are, and name the outliers."""
    figures = describe_norms(vectors)
    if "median" in figures:
        echo(f"  {figures['count']} vectors, norms: median {figures['median']:.4g}, 75th percentile {figures['p75']:.4g}, largest "
             f"{figures['max']:.4g}")
    if wild := figures["outliers"]:
        named = ", ".join(f"{w['id']} at {w['position']} ({w['norm']:.4g})" for w in wild[:4])
        echo(f"  {len(wild)} outliers (8 times the median or not finite), which decode badly: {named}")


def extract_to(path: Path, model, renderer, texts: Sequence[str], layer: int, **options) -> Vectors:
    """``extract`` into a Parquet file; what a killed run had read lies beside it until the file is whole."""
    work = Path(path).with_name(f".{Path(path).name}.parts")
    vectors = extract(model, renderer, texts, layer, work=work, **options)
    write_vectors(path, vectors)
    shutil.rmtree(work, ignore_errors=True)
    return vectors
