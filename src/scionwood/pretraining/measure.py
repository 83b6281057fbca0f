"""Bits per byte on held-out text: the base beside ``xz -9e`` and a 5-gram model."""

from __future__ import annotations

import lzma
import math
from pathlib import Path

import numpy as np

from scionwood.pretraining import corpus, streams
from scionwood.pretraining.ngram import NgramModel

WINDOW = 512  # tokens; the base sees nothing before its window
LINE = 12  # characters; shorter lines are the same by chance


def nats(model, ids: list[int], first: int) -> float:
    """Negative log-likelihood of a document's tokens in nats, in windows that each open with the token ``first``."""
    import torch
    import torch.nn.functional as F

    device, total = next(model.parameters()).device, 0.0
    for start in range(0, len(ids), WINDOW):
        part = ids[start : start + WINDOW]
        x = torch.tensor([[first, *part]], device=device)
        with torch.no_grad():
            logits = model(input_ids=x, use_cache=False).logits[0, :-1].float()
        total += F.cross_entropy(logits, x[0, 1:], reduction="sum").item()
    return total


def xz_bits(texts: list[str]) -> int:
    """Size in bits of the texts as ``xz -9e`` packs them together.

    A landmark, no rival on equal terms: xz packs all the texts at once and can point back to the first from the last, but it has
    seen no training text, and no one counts the weights that the base brings along.
    """
    return 8 * len(lzma.compress("\n".join(texts).encode(), preset=9 | lzma.PRESET_EXTREME))


def trained_tokens(folder: Path, rows: list[streams.Rows]) -> np.ndarray:
    """All tokens of the rows that a run trained on, in order, as the n-gram model's training text."""
    return np.concatenate([r.row(i) for r in rows for i in range(len(r.source))]).astype(np.uint16)


def repeated_bytes(held: dict[str, list[str]], known: dict[str, Path]) -> dict[str, int]:
    """How many held-out bytes stand in lines that a training document of any of the sources holds too, word for word.

    Documents are held out whole, but one may quote another: the base may have learnt such lines by heart. Lines of fewer than
    ``LINE`` characters do not count. The whole corpus is read, so it is an upper bound where only a part of it was trained.
    """
    wanted = {line for texts in held.values() for line in _lines(texts)}
    again: set[str] = set()
    for name in held:
        for doc in corpus.documents(known[name]):
            if not corpus.is_held_out(doc):
                again.update(wanted.intersection(line.strip() for line in doc.split("\n")))
    return {name: sum(len(line.encode()) for line in _lines(texts) if line in again) for name, texts in held.items()}


def _lines(texts: list[str]) -> list[str]:
    return [line.strip() for text in texts for line in text.split("\n") if len(line.strip()) >= LINE]


def measure(model, tokenizer, known: dict[str, Path], names: list[str], limit_bytes: int, ngram: NgramModel) -> dict:
    """Bits per byte of each source's held-out text and of all of it: ``{source: {bytes, repeated, base, xz, ngram}}`` and "all".

    ``repeated`` is the share of the bytes that also stands in training documents. A source without held-out text is left out;
    where none has any, the figures of "all" are None.
    """
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    held = {name: texts for name in names if (texts := streams.held_out_texts(name, known[name], limit_bytes))}
    again = repeated_bytes(held, known)
    sums = {}
    for name, texts in held.items():
        encoded = [e.ids for e in tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)]
        sums[name] = {
            "bytes": sum(len(t.encode()) for t in texts),
            "repeated": again[name],
            "base": sum(nats(model, ids, end) for ids in encoded) / math.log(2),
            "xz": xz_bits(texts),
            "ngram": -sum(ngram.log_probs(np.array([end, *ids], dtype=np.uint16))[1:].sum() for ids in encoded) / math.log(2),
        }
    whole = {k: sum(s[k] for s in sums.values()) for k in ("bytes", "repeated", "base", "ngram")}
    whole["xz"] = xz_bits([t for texts in held.values() for t in texts])
    return {name: _per_byte(s) for name, s in sums.items()} | {"all": _per_byte(whole)}


def _per_byte(sums: dict) -> dict:
    """Sums over the bytes that they were taken over; None where there are none."""
    size = sums["bytes"]
    return {"bytes": size} | {k: round(float(sums[k]) / size, 3) if size else None for k in ("repeated", "base", "xz", "ngram")}
