"""Vectors in the place of a marker's embedding, checked on the ids that are really fed."""

from __future__ import annotations

import contextlib

import numpy as np

from scionwood.errors import UserError
from scionwood.tasks.nla.template import Marker

TINY = 1e-12  # the smallest norm that is divided by


def to_scale(vectors, scale: float):
    """Vectors (n, d) normalised TO the norm ``scale``, in float32 (torch). Multiplying by it instead is a known error."""
    import torch

    v = torch.as_tensor(np.asarray(vectors) if not torch.is_tensor(vectors) else vectors).float()
    return v * (scale / v.norm(dim=-1, keepdim=True).clamp(min=TINY))


def marker_places(ids, marker: Marker):
    """Where the marker stands in ids (b, n): an index tensor (k, 2), row by row. UserError unless each has both neighbours."""
    places = (ids == marker.id).nonzero()
    for row, at in places.tolist():
        if not 0 < at < ids.shape[1] - 1 or (int(ids[row, at - 1]), int(ids[row, at + 1])) != (marker.left, marker.right):
            raise UserError(f"injection: the marker '{marker.char}' at token {at} of row {row} does not stand between tokens "
                            f"{marker.left} and "
                            f"{marker.right}; the prompt was rendered by another template or tokenizer")
    return places


def place(hidden, ids, vectors, marker: Marker, scale: float):
    """Put vectors (k, d) at the markers of ``hidden`` (b, n, d), the embeddings of ids (b, n); returns a new tensor.

    ``hidden`` is what the embedding layer gives, so where a model scales its embeddings (Gemma: by sqrt(d)) that is done
    already: an injected row has the norm ``scale`` in every family. UserError unless there is one marker for each vector.
    """
    places = marker_places(ids, marker)
    if len(places) != len(vectors):
        raise UserError(f"injection: {len(vectors)} vectors for {len(places)} markers '{marker.char}' in the ids that were fed")
    if len(vectors) and vectors.shape[-1] != hidden.shape[-1]:
        raise UserError(f"injection: vectors of {vectors.shape[-1]} numbers into a model of width {hidden.shape[-1]}; use those of this "
                        f"base")
    rows = to_scale(vectors, scale).to(hidden.device, hidden.dtype)
    return hidden.index_put((places[:, 0], places[:, 1]), rows)


@contextlib.contextmanager
def inject(model, vectors, marker: Marker, scale: float):
    """While it is open, every forward pass of ``model`` from ids reads ``vectors`` (k, d) at its k markers, each of norm ``scale``.

    The hook sits on the embedding layer and looks at the ids that are fed: a wrong count or neighbour is a UserError, and so is
    closing it without any pass. Once the prompt is read, passes of one token a row (generation with a cache) go through.
    """
    read = 0

    def hook(module, inputs, kwargs, output):
        nonlocal read
        ids = inputs[0] if inputs else kwargs["input"]
        if read and ids.shape[1] == 1:
            return None
        read += 1
        return place(output, ids, vectors, marker, scale)

    handle = model.get_input_embeddings().register_forward_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
    if not read:
        raise UserError("injection: the model was never given ids (a pass from embeddings has no markers), so nothing was injected")
