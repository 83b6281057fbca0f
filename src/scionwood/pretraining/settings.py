"""The settings of a pretraining run."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from scionwood.settings import Settings

Share = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Shape(Settings):
    """The shape of the model. Row widths in multiples of 256 keep every GGUF type open."""

    vocab_size: int = Field(8192, ge=512, le=65535)
    hidden: int = Field(256, ge=16)
    intermediate: int = Field(768, ge=16)
    layers: int = Field(6, ge=1)
    heads: int = Field(4, ge=1)
    kv_heads: int = Field(2, ge=1, validate_default=True)
    head_dim: int = Field(64, ge=8, multiple_of=2)
    positions: int = Field(4096, ge=128)

    @field_validator("kv_heads")
    @classmethod
    def divides_heads(cls, value: int, info) -> int:
        heads = info.data.get("heads", value)
        if heads % value:
            raise ValueError(f"it must divide heads = {heads}")
        return value


class Schedule(Settings):
    """Warm-up, stable, decay: tokens and rows of each part, and the learning rates."""

    tokens: int = Field(16_000_000, gt=0, description="tokens in all")
    decay: float = Field(0.2, gt=0, le=1, description="share of the tokens in the linear decay to zero")
    warmup_steps: int = Field(60, ge=0)
    step_tokens: int = Field(8192, gt=0, description="tokens of one optimiser step")
    micro_tokens: int = Field(2048, gt=0, description="tokens of one forward pass")
    row: int = Field(256, ge=32, validate_default=True, description="tokens of a row in the stable part")
    decay_row: int = Field(512, ge=32, validate_default=True, description="tokens of a row in the decay part")
    muon_lr: float = Field(0.01, gt=0, description="for the 2-D weights of the body")
    adam_lr: float = Field(4e-3, gt=0, description="for embeddings and norms")
    weight_decay: float = Field(0.05, ge=0)
    answer_weight: float = Field(1.0, ge=1, description="weight in the loss of an answer's tokens in conversations; all others have 1")
    seed: int = Field(0, ge=0)

    @field_validator("row", "decay_row")
    @classmethod
    def divides_a_step(cls, value: int, info) -> int:
        step = info.data.get("step_tokens", value)
        if step % value:
            raise ValueError(f"it must divide step_tokens = {step}, so that a step is whole rows")
        return value


class Pretraining(Settings):
    """A pretraining recipe. ``mix`` and ``decay_mix`` give each source its share; ``name+chat`` is the source as conversations."""

    name: str = "base"
    licence: str = "apache-2.0"
    shape: Shape = Shape()
    schedule: Schedule = Schedule()
    tokenizer_bytes: int = Field(40_000_000, gt=0)
    mix: dict[str, Share] = Field(min_length=1)
    decay_mix: dict[str, Share] = Field(min_length=1)
    held_out_bytes: int = Field(60_000, gt=0, description="held-out text per source to measure on")
    checkpoint_minutes: float = Field(5, gt=0)
    dtype: Literal["auto", "bf16", "fp32"] = Field("auto", description="number format of matrix products; auto asks the machine")
