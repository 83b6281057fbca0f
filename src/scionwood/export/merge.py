"""Merged weights: the adapter's update added to the unquantised base, in float32."""

from __future__ import annotations

from pathlib import Path

from scionwood.errors import UserError
from scionwood.files import read_json
from scionwood.models.loading import folder_of, load_adapter, load_model, load_tokenizer

PROBE = 48  # tokens
TOLERANCE = 1e-2  # of a log-probability; float32 sums in another order differ by far less


def merged(base: str, adapter: Path):
    """Return ``(model, tokenizer)``: the base with the adapter's update in its weights, float32 on the CPU, and the base's tokenizer.

    A LoRA update is ``scale * B @ A`` (Hu et al. 2021); it is added in float32 whatever the base's own format, so that no
    bit of it is lost to rounding; then the merged model must say what base and adapter said. Raises UserError where the base
    is quantised, or where base and adapter do not fit.
    """
    import torch

    if "quantization_config" in read_json(folder_of(base) / "config.json"):
        raise UserError(f"base '{base}': its weights are quantised; an update can only be added to the unquantised base, so name that one")
    model = load_adapter(load_model(base, torch.device("cpu"), torch.float32), adapter)
    before = _probe(model)
    try:
        model = model.merge_and_unload(safe_merge=True)
    except ValueError as e:  # PEFT found an infinity
        raise UserError(f"{adapter}: cannot be merged ({str(e).splitlines()[0]}); train it anew") from None
    model.requires_grad_(False)
    apart = (_probe(model) - before).abs().max().item()
    if not apart <= TOLERANCE:
        raise UserError(f"{adapter}: merged into its base it says something else (log-probabilities differ by {apart:.3g}); train it anew")
    return model.eval(), load_tokenizer(base)


def _probe(model):
    """Next-token log-probabilities after each of a few fixed tokens, ``[tokens, vocabulary]``."""
    import torch

    count = model.config.vocab_size
    ids = torch.arange(PROBE) * 7919 % count  # 7919 is prime, so the tokens come from everywhere
    with torch.no_grad():
        return model(ids[None]).logits[0].log_softmax(-1)


def write_merged(model, tokenizer, folder: Path) -> Path:
    """Write weights (float32 safetensors), config, tokenizer and chat template as a folder that transformers, vLLM or a converter reads."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
