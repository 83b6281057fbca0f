"""Check of an mlx-lm adapter folder: read back, and where mlx-lm is installed, run by it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from scionwood.export.formats import Loaded
from scionwood.export.lora import read_peft
from scionwood.export.mlx import read_mlx
from scionwood.models.prompts import Renderer

TOLERANCE = 0.02  # of a log-probability, float32 on both sides
PROMPTS = 8


def check_mlx(loaded: Loaded, folder: Path) -> dict[str, Any]:
    """The weights must be those of the adapter. With mlx-lm at hand, its log-probabilities must be those of transformers too."""
    import torch

    source = loaded.source
    ours, theirs = read_peft(source.adapter_folder), read_mlx(folder)
    equal = [torch.equal(x, y) for n in ours.pairs for x, y in zip(ours.pairs[n], theirs.pairs.get(n, ()))]
    if len(equal) != 2 * len(theirs.pairs) or len(equal) != 2 * len(ours.pairs) or not all(equal) or abs(ours.scale - theirs.scale) > 1e-9:
        return {"failed": "the weights that are read back are not the adapter's"}
    if importlib.util.find_spec("mlx_lm") is None:
        return {"failed": "", "said": f"{len(ours.pairs)} matrices read back equal (mlx-lm is not installed here, so it was not run)"}
    from scionwood.export.check import log_probs_of

    model, tokenizer = loaded.merged
    reference, renderer, largest = log_probs_of(model), Renderer(tokenizer), 0.0
    run = mlx_log_probs(source.base, folder)
    prompts = source.prompts()[:PROMPTS]
    for messages in prompts:
        ids = renderer.render(messages).prompt
        largest = max(largest, (run(ids) - reference(ids[:1], ids[1:])).abs().max().item())
    if not largest <= TOLERANCE:
        return {"failed": f"mlx-lm's log-probabilities differ from transformers' by {largest:.3g}", "largest_difference": largest}
    said = f"mlx-lm's log-probabilities on {len(prompts)} prompts differ from transformers' by {largest:.2g} at most"
    return {"failed": "", "largest_difference": largest, "said": said}


def mlx_log_probs(base: str, adapter: Path):
    """A function of token ids to mlx-lm's log-probabilities of the token after each but the last, ``[tokens - 1, vocabulary]``."""
    import mlx.core as mx
    import numpy as np
    import torch
    from mlx_lm.utils import load

    from scionwood.models.loading import folder_of

    model, _ = load(str(folder_of(base)), adapter_path=str(adapter))
    model.set_dtype(mx.float32)

    def log_probs(ids: list[int]):
        logits = model(mx.array([ids[:-1]]))[0]
        return torch.from_numpy(np.array(logits, copy=True)).log_softmax(-1)

    return log_probs
