"""Small GGUF files for tests of the engine: random models, written by the exporter itself."""

from __future__ import annotations

from pathlib import Path


def write_tiny(folder: Path, tokenizer, kind: str = "f32", **shape):
    """A random model and its GGUF file: ``(model, path)``. In f32 nothing but the order of sums tells the two apart."""
    from conftest import tiny_model

    from scionwood.export.gguf import write_gguf

    model = tiny_model(**shape)
    return model, write_gguf(model, tokenizer, folder / f"tiny-{kind}.gguf", kind, {"name": "tiny"})


def log_probs(model, prompt: list[int], answer: list[int]) -> list[float]:
    """Of each token of an answer, by one pass of transformers."""
    import torch

    with torch.no_grad():
        rows = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
    return [float(rows[len(prompt) - 1 + k, t]) for k, t in enumerate(answer)]
