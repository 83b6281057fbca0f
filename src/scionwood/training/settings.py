"""The settings of an adapter and of its training."""

from typing import Literal

from pydantic import Field

from scionwood.settings import Settings

# The modules of Qwen3 and Llama decoders that llama.cpp can carry a LoRA for.
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
Target = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Adapter(Settings):
    """A LoRA adapter. The update is scaled by alpha / rank, or alpha / sqrt(rank) with rsLoRA."""

    rank: int = Field(16, ge=1, le=1024)
    alpha: float = Field(32, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: tuple[Target, ...] = TARGETS
    last_layers: int | None = Field(None, ge=1, description="adapt the last N layers only; the others become a cached trunk")
    rslora: bool = False


class Train(Settings):
    """How the adapter is trained. ``epochs`` or ``steps`` says how long; ``steps`` wins where both are given."""

    epochs: float = Field(8, gt=0)
    steps: int | None = Field(None, gt=0)
    batch: int = Field(32, ge=1, description="cases of one optimiser step")
    micro_tokens: int = Field(2048, ge=16, description="tokens (shared ones once) of one forward pass; one case may exceed it")
    lr: float = Field(1e-3, gt=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps")
    weight_decay: float = Field(0.0, ge=0)
    clip: float | None = Field(1.0, gt=0)
    max_length: int = Field(2048, ge=8, description="tokens; a longer case is an error, nothing is truncated")
    dtype: Literal["auto", "bf16", "fp32"] = "auto"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    cache_trunk: bool = Field(True, description="keep the activations of frozen lower layers on disk across epochs")
    recompute: bool = Field(False, description="compute activations again in the backward pass: slower, much less memory")
    seeds: tuple[int, ...] = (0,)
    dev_every: float = Field(1.0, gt=0, description="epochs between two looks at the dev split")
    patience: int | None = Field(None, ge=1, description="stop after so many looks without a better dev metric")
    checkpoint_seconds: float = Field(60, ge=0)
