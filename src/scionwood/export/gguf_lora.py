"""A LoRA adapter as a GGUF file that llama.cpp adds to the base at run time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scionwood.errors import UserError
from scionwood.export.gguf import add_general, check_config, gguf_name, rotation_order, storage, write_tensors, writing
from scionwood.export.lora import read_peft


def write_lora_gguf(config, adapter: Path, out: Path, metadata: dict[str, Any]) -> Path:
    """Write a PEFT adapter for a base of this ``config`` as GGUF in float32, atomically.

    llama.cpp scales the update by ``alpha / rank``, so the alpha that is written is our scale times the rank, rsLoRA or not.
    """
    from gguf import GGUFWriter

    check_config(config)
    lora = read_peft(adapter)
    if lora.layers()[-1] >= config.num_hidden_layers:
        raise UserError(f"{adapter}: adapts layer {lora.layers()[-1]}, but the base has {config.num_hidden_layers} layers; "
                        "name its own base")
    to_gguf = gguf_name(config)
    tensors = []
    for name, (a, b) in lora.pairs.items():
        new = to_gguf(f"{name}.weight")
        b = rotation_order(config, name, b.numpy())  # the rows of the update are the rows of the matrix that it is added to
        tensors += [(f"{new}.lora_a", tuple(a.shape), storage(a.shape, "f32"), lambda x=a.numpy(): x),
                    (f"{new}.lora_b", tuple(b.shape), storage(b.shape, "f32"), lambda x=b: x)]
    with writing(out) as part:
        writer = GGUFWriter(part, config.model_type)
        add_general(writer, metadata, "adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", lora.scale * lora.rank)
        write_tensors(writer, tensors)
    return Path(out)
