"""Cached activations of the frozen layers below the lowest adapted one.

The frozen trunk gives the same activations in every epoch, so they are computed once per node of the token tree, kept in a
memory-mapped file, and read row by row. The file's name is a hash of all that determines its content: base, layer count,
number format, token tree and injected vectors.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np

from scionwood.errors import UserError
from scionwood.models import decoder
from scionwood.models.trees import lay_out, to_tensors
from scionwood.training.examples import Examples, embed_row, micro_batches

CHUNK_TOKENS = 2048


def trunk_key(base_hash: str, layers: int, dtype: str, examples: Examples) -> str:
    """The file name of a trunk: a hash of all that determines its content."""
    h = hashlib.sha256(json.dumps([base_hash, layers, dtype]).encode())
    h.update(np.array(examples.tree.tokens, dtype=np.int64).tobytes())
    h.update(np.array(examples.tree.depths, dtype=np.int64).tobytes())
    for node, vector in sorted((examples.vectors or {}).items()):
        h.update(int(node).to_bytes(8, "little") + np.asarray(vector, dtype=np.float32).tobytes())
    return h.hexdigest()[:24]


def build_trunk(model, examples: Examples, layers: int, folder: Path, key: str, device, autocast):
    """Return a memory map (nodes, hidden) of the activations that enter layer ``layers``; computed where it is not there.

    A half-written file is never taken for a whole one: it gets its name only when it is complete. ``folder`` keeps one trunk:
    another one is of data, a base or settings that have changed since. Raises UserError where the disk has no room for it.
    """
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    hidden = decoder.parts(model)[0].config.hidden_size
    path, shape = folder / f"{key}.f32", (len(examples.tree), hidden)
    if not path.exists():
        for old in folder.glob("*.f32"):
            with contextlib.suppress(PermissionError):  # Windows: still mapped by this process
                old.unlink()
        # a full disk would kill the process with a signal once the mapped pages are written
        needed, free = 4 * shape[0] * shape[1], shutil.disk_usage(folder).free
        if needed > free:
            raise UserError(f"{folder}: the cached trunk needs {needed / 1e9:.2f} GB and {free / 1e9:.2f} GB are free; make room or "
                            "set train.cache_trunk = false")
        part = path.with_suffix(f".{os.getpid()}.part")
        out = np.memmap(part, dtype=np.float32, mode="w+", shape=shape)
        done = np.zeros(len(examples.tree), dtype=bool)
        for chosen in micro_batches(examples, range(len(examples.items)), CHUNK_TOKENS):
            row = lay_out(examples.tree, [examples.items[i].path for i in chosen])
            if done[row.nodes].all():
                continue
            ids, positions, mask = to_tensors(row, device)
            with torch.no_grad(), autocast():
                h = decoder.run_layers(model, embed_row(model, examples, chosen, row, ids), positions, mask, 0, layers)
            out[row.nodes] = h[0].float().cpu().numpy()
            done[row.nodes] = True
        out.flush()
        del out
        os.replace(part, path)
    return np.memmap(path, dtype=np.float32, mode="r", shape=shape)
