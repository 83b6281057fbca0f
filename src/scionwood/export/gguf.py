"""GGUF files of Qwen3 and Llama models, written with Python alone."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, Callable, Iterator, Literal

from scionwood.errors import UserError
from scionwood.export.gguf_vocabulary import add_vocabulary
from scionwood.files import replacing

Kind = Literal["f32", "f16", "q8_0", "q4_0"]
KINDS: tuple[str, ...] = ("f32", "f16", "q8_0", "q4_0")
ARCHITECTURES = {"qwen3": "QWEN3", "llama": "LLAMA"}
LAYOUT = 1  # raised when the same model would be written otherwise, so that older files are written anew


def write_gguf(model, tokenizer, out: Path, kind: Kind, metadata: dict[str, Any]) -> Path:
    """Write a merged model with its tokenizer and chat template as one GGUF file, atomically.

    ``metadata`` holds ``name``, ``base``, ``licence`` and, as they are, further texts that go in as ``scionwood.KEY``. Vectors
    are float32 in every kind. In q4_0 the token table and the output head are q8_0: they are a small model's largest part
    and the one that four bits hurt most. A matrix whose rows do not divide into blocks of 32 is float16.
    Raises UserError for models that llama.cpp would compute otherwise, and on a full disk.
    """
    from gguf import GGUFWriter, LlamaFileType

    if kind not in KINDS:
        raise UserError(f"GGUF kind '{kind}': one of {', '.join(KINDS)}")
    config = model.config
    check_config(config)
    types = {"f32": LlamaFileType.ALL_F32, "f16": LlamaFileType.MOSTLY_F16, "q8_0": LlamaFileType.MOSTLY_Q8_0,
             "q4_0": LlamaFileType.MOSTLY_Q4_0}
    with writing(out) as part:
        writer = GGUFWriter(part, config.model_type)
        add_general(writer, metadata)
        add_shape(writer, config)
        writer.add_file_type(int(types[kind]))
        writer.add_quantization_version(2)
        add_vocabulary(writer, tokenizer, config.vocab_size)
        write_tensors(writer, list(_tensors(model, kind)))
    return Path(out)


@contextlib.contextmanager
def writing(out: Path) -> Iterator[Path]:
    """A temporary neighbour that takes ``out``'s place once it is whole and on the disk."""
    try:
        with replacing(out) as part:
            yield part
            with open(part, "r+b") as f:
                os.fsync(f.fileno())
    except OSError as e:
        raise UserError(f"{out}: cannot be written ({e.strerror or e}); make room and run it again") from None


def temporary(out: Path) -> Path:
    """A name beside ``out`` for a whole model that is needed for a while. Where a kill leaves it, ``files.sweep`` removes it."""
    return out.with_name(f".{out.name}.whole.{os.getpid()}.part")


def check_config(config) -> None:
    """Refuse what llama.cpp's two graphs do not compute: biases, sliding windows, other activations, scaled rotations of other kinds."""
    what = f"model type '{config.model_type}'"
    if config.model_type not in ARCHITECTURES:
        raise UserError(f"{what}: cannot be exported to GGUF (known: {', '.join(ARCHITECTURES)})")
    for key in ("attention_bias", "mlp_bias", "use_sliding_window"):
        if getattr(config, key, False):
            raise UserError(f"{what} with {key} = true: cannot be exported to GGUF; use a base without")
    if config.hidden_act != "silu":
        raise UserError(f"{what} with hidden_act = '{config.hidden_act}': cannot be exported to GGUF; use a base with silu")
    kind = config.rope_parameters.get("rope_type", "default")
    if kind not in ("default", "linear", "llama3"):
        raise UserError(f"{what} with rope_type = '{kind}': cannot be exported to GGUF (known: default, linear, llama3)")


def head_dim(config) -> int:
    """Width of one attention head."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def add_general(writer, metadata: dict[str, Any], kind: str = "model") -> None:
    """Name, base, licence; whatever else is known goes in under ``scionwood.``. ``kind``: model or adapter."""
    from scionwood import __version__

    writer.add_type(kind)
    writer.add_name(metadata.get("name", "model"))
    if metadata.get("licence"):
        writer.add_license(metadata["licence"])
    if base := metadata.get("base"):
        writer.add_base_model_count(1)
        writer.add_base_model_name(0, base.split("/")[-1])
        if base.count("/") == 1 and not base.startswith((".", "/", "~")):
            writer.add_base_model_repo_url(0, f"https://huggingface.co/{base}")
    writer.add_quantized_by(f"scionwood {__version__}")
    for key, value in sorted(metadata.items()):
        if key not in ("name", "base", "licence"):
            writer.add_string(f"scionwood.{key}", str(value))


def add_shape(writer, config) -> None:
    """The numbers that the decoder is built from."""
    from gguf import RopeScalingType

    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_dim(config))
    writer.add_value_length(head_dim(config))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    rope = config.rope_parameters
    writer.add_rope_freq_base(rope["rope_theta"])
    if config.model_type == "llama":
        writer.add_rope_dimension_count(head_dim(config))
        writer.add_vocab_size(config.vocab_size)
    if rope.get("rope_type") == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])


def gguf_name(config) -> Callable[[str], str | None]:
    """From Hugging Face's name of a tensor to GGUF's."""
    from gguf import MODEL_ARCH, get_tensor_name_map

    names = get_tensor_name_map(MODEL_ARCH[ARCHITECTURES[config.model_type]], config.num_hidden_layers)
    return lambda name: names.get_name(name, try_suffixes=(".weight", ".bias"))


def rotation_order(config, name: str, array):
    """Rows of q and k in the order that llama.cpp's Llama graph rotates them in: pairs side by side, not in two halves.

    Qwen3's graph rotates two halves, as Hugging Face does, so nothing moves there. ``array``: ``[rows, ...]``.
    """
    if config.model_type != "llama" or not name.endswith(("q_proj", "k_proj")):
        return array
    heads = config.num_attention_heads if name.endswith("q_proj") else config.num_key_value_heads
    return array.reshape(heads, 2, array.shape[0] // heads // 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)


def _tensors(model, kind: str) -> Iterator[tuple[str, tuple[int, ...], Any, Callable[[], Any]]]:
    """``(name, shape, quantisation type, function that gives the float32 array)`` of every tensor, in the model's order."""
    config, to_gguf = model.config, gguf_name(model.config)
    if config.rope_parameters.get("rope_type") == "llama3":
        factors = llama3_factors(config)
        yield "rope_freqs.weight", factors.shape, storage(factors.shape, "f32"), lambda: factors
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        new = to_gguf(name)
        if new is None:
            raise UserError(f"tensor '{name}': GGUF has no name for it; only plain Qwen3 and Llama decoders can be exported")
        stem = name.removesuffix(".weight")
        whole = "q8_0" if kind == "q4_0" and new in ("token_embd.weight", "output.weight") else kind
        yield (new, tuple(tensor.shape), storage(tensor.shape, whole),
               lambda t=tensor, s=stem: rotation_order(config, s, t.float().cpu().numpy()))


def storage(shape, kind: str):
    """How a tensor is stored: vectors as float32, and float16 where rows do not divide into whole blocks."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    wanted = GGMLQuantizationType[kind.upper()]
    if len(shape) == 1:
        return GGMLQuantizationType.F32
    return wanted if shape[-1] % GGML_QUANT_SIZES[wanted][0] == 0 else GGMLQuantizationType.F16


def llama3_factors(config):
    """By what Llama 3.1's rotation divides each frequency, ``[head_dim / 2]`` in float32.

    Wave lengths below ``original / high_freq_factor`` are kept, those above ``original / low_freq_factor`` divided by
    ``factor``, with a linear passage between (transformers' ``_compute_llama3_parameters`` says the same of the frequencies).
    """
    import math

    import numpy as np

    rope, dim = config.rope_parameters, head_dim(config)
    low, high, original = rope["low_freq_factor"], rope["high_freq_factor"], rope["original_max_position_embeddings"]
    waves = 2 * math.pi * rope["rope_theta"] ** (np.arange(0, dim, 2) / dim)
    share = np.clip((original / waves - low) / (high - low), 0, 1)
    return (1 / ((1 - share) / rope["factor"] + share)).astype(np.float32)


def write_tensors(writer, tensors) -> None:
    """Header first, then one tensor at a time, so that no second copy of the model is held."""
    import numpy as np
    from gguf import quants
    from gguf.quants import quant_shape_to_byte_shape

    for name, shape, kind, _ in tensors:
        size = int(np.prod(quant_shape_to_byte_shape(shape, kind)))
        writer.add_tensor_info(name, shape, np.dtype(np.float32), size, raw_dtype=kind)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for _, _, kind, array in tensors:
            writer.write_tensor_data(quants.quantize(np.ascontiguousarray(array()), kind))
    finally:
        writer.close()
