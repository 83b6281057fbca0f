"""Small pairs of verbalizer and reconstructor on random bases: real folders, real adapters, nothing trained."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    AutoTokenizer, Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM,
    Qwen3Config, Qwen3ForCausalLM)

from scionwood.files import write_tensors
from scionwood.models.adapters import add_adapter
from scionwood.models.loading import embedded_folder
from scionwood.models.settings import Adapter
from scionwood.tasks.nla.meta import Checkpoint, Scales, Templates, write_meta
from scionwood.tasks.nla.template import AR, AV, find_marker
from scionwood.tasks.nla.verbalizer import sidecar_tokens

LAYER, LAYERS, WIDTH = 2, 4, 32
FAMILIES = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM), "qwen3": (Qwen3Config, Qwen3ForCausalLM), "llama": (LlamaConfig, LlamaForCausalLM),
    "gemma3_text": (Gemma3TextConfig, Gemma3ForCausalLM),
}


def tiny(family: str = "qwen3", seed: int = 0):
    """A random model of a family, over the embedded tokenizer's vocabulary."""
    torch.manual_seed(seed)
    config, kind = FAMILIES[family]
    shape = dict(vocab_size=8192, hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=LAYERS, num_attention_heads=4,
                 num_key_value_heads=2, max_position_embeddings=1024, initializer_range=0.2, tie_word_embeddings=family != "llama",
                 pad_token_id=0, bos_token_id=0, eos_token_id=8188)
    if family in ("qwen3", "gemma3_text"):
        shape["head_dim"] = 8
    return kind(config(**shape)).eval().requires_grad_(False)


def write_base(folder: Path, family: str = "qwen3") -> Path:
    """A base as a folder: weights, config, the embedded tokenizer."""
    tiny(family).save_pretrained(folder)
    AutoTokenizer.from_pretrained(embedded_folder()).save_pretrained(folder)
    return folder


def write_adapter(folder: Path, base: Path, seed: int, layers: int | None = None) -> None:
    """A LoRA adapter whose update is not nothing."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    if layers:
        model.model.layers = model.model.layers[:layers]
        model.config.num_hidden_layers = layers
        model.config.layer_types = None
    wrapped = add_adapter(model, Adapter(rank=4, alpha=8), seed)
    torch.manual_seed(seed)
    for name, p in wrapped.named_parameters():
        if "lora_B" in name:
            p.data.normal_(0, 0.1)
    wrapped.save_pretrained(folder)


def sidecar(base: Path, role: str, renderer, **more) -> Checkpoint:
    """The sidecar of one half, or of a run."""
    return Checkpoint(role=role, base_checkpoint=str(base), d_model=WIDTH, extraction_layer_index=LAYER,
                      extraction=Scales(injection_scale=6.0 if role == "av" else None, mse_scale=WIDTH**0.5),
                      tokens=sidecar_tokens(renderer, find_marker(renderer.tokenizer)), prompt_templates=Templates(av=AV, ar=AR), **more)


def write_halves(base: Path, av: Path, ar: Path, renderer, seed: int = 1) -> None:
    """Adapter folders of both halves with their sidecars."""
    write_adapter(av, base, seed)
    write_meta(av, sidecar(base, "av", renderer))
    write_adapter(ar, base, seed + 100, LAYER + 1)
    torch.manual_seed(seed)
    write_tensors(ar / "value_head.safetensors", {"weight": torch.eye(WIDTH) + 0.1 * torch.randn(WIDTH, WIDTH)})
    write_meta(ar, sidecar(base, "ar", renderer))


def write_run(folder: Path, base: Path, renderer, seeds=(3, 7)) -> Path:
    """A run folder as ``scion run nla`` leaves it, as far as the tools look at it."""
    from scionwood.tasks.nla.extract import extract_to
    from transformers import AutoModelForCausalLM

    for seed in seeds:
        write_halves(base, folder / f"adapter/av-{seed}/best", folder / f"adapter/ar-{seed}/best", renderer, seed)
    write_meta(folder, sidecar(base, "av", renderer))
    model = AutoModelForCausalLM.from_pretrained(base)
    texts = [f"text number {n} of the training" for n in range(12)]
    extract_to(folder / "vectors/train.parquet", model, renderer, texts, LAYER, base=str(base))
    return folder
