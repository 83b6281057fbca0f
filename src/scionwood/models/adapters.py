"""LoRA adapters through PEFT."""

from __future__ import annotations

from scionwood.errors import UserError
from scionwood.models.settings import Adapter


def frozen_layers(model, adapter: Adapter) -> int:
    """How many decoder layers from the bottom carry no adapter."""
    layers = model.config.num_hidden_layers
    if adapter.last_layers is None:
        return 0
    if adapter.last_layers > layers:
        raise UserError(f"adapter.last_layers = {adapter.last_layers}: this base has {layers} layers")
    return layers - adapter.last_layers


def add_adapter(model, adapter: Adapter, seed: int):
    """Wrap a base in a fresh LoRA adapter with fp32 weights. PEFT draws A at random, so the seed is set before."""
    import torch
    from peft import LoraConfig, get_peft_model

    first = frozen_layers(model, adapter)
    torch.manual_seed(seed)
    config = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=list(adapter.targets),
        layers_to_transform=list(range(first, model.config.num_hidden_layers)) if first else None,
        use_rslora=adapter.rslora,
        bias="none",
        task_type="CAUSAL_LM",
    )
    wrapped = get_peft_model(model, config)
    for p in wrapped.parameters():
        if p.requires_grad:
            p.data = p.data.float()
    return wrapped


def trainable(model) -> dict:
    """``{name: parameter}`` of what is trained."""
    return {n: p for n, p in model.named_parameters() if p.requires_grad}
