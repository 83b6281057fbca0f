"""How an adapter is trained: the ``[train]`` table of a recipe."""

from typing import Literal

from pydantic import Field, field_validator

from scionwood.settings import Settings


class Watch(Settings):
    """How diversity is watched while it trains, for tasks that write free text. Off unless ``every`` is set."""

    every: int | None = Field(None, gt=0, description="steps between two looks at answers to held-out prompts; not set: none")
    rule: Literal["relative", "published", "none"] = Field("relative", description="when to stop: relative: predictive entropy fell and repetition rose; published: E1 of 100 words below 4.0 nats; none: never")
    fall: float = Field(0.2, gt=0, lt=1, description="relative rule: by which share of its value at step 0 predictive entropy must fall")
    rise: float = Field(0.02, gt=0, lt=1, description="relative rule: by how much the share of repeated word triples must rise meanwhile")
    prompts: int = Field(8, ge=1, description="held-out prompts of a look: the first of the dev split")
    samples: int = Field(1, ge=1, description="answers drawn to each prompt, at temperature 1")
    tokens: int = Field(160, ge=8, description="longest answer")


class Train(Settings):
    """How the adapter is trained. ``epochs`` or ``steps`` says how long; ``steps`` wins where both are given."""

    epochs: float = Field(8, gt=0, description="passes over the training cases")
    steps: int | None = Field(None, gt=0, description="optimiser steps, in place of epochs")
    batch: int = Field(32, ge=1, description="cases of one optimiser step")
    micro_tokens: int = Field(2048, ge=16, description="tokens (shared ones once) of one forward pass; one case may exceed it")
    balance: float = Field(0.0, ge=0, le=1, description="rare answers weigh more: a case counts its answer's frequency to this power less")
    lr: float = Field(1e-3, gt=0, description="highest learning rate")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="how the learning rate goes on after the warm-up")
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps in which the learning rate rises from zero")
    weight_decay: float = Field(0.0, ge=0, description="of AdamW")
    entropy_weight: float = Field(0.0, ge=0, le=1, description="reward for predictive entropy at the supervised tokens, in the loss; 0 is none")
    clip: float | None = Field(1.0, gt=0, description="longest gradient; a longer one is scaled down to it")
    more: bool = Field(True, description="train on the further cases that the task derives from each, too")
    max_length: int = Field(2048, ge=8, description="tokens; a longer case is an error, nothing is truncated")
    dtype: Literal["auto", "bf16", "fp32"] = Field("auto", description="number format of the frozen weights; auto asks the machine")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where it is trained; auto takes a GPU where there is one")
    cache_trunk: bool = Field(True, description="keep the activations of frozen lower layers on disk across epochs")
    recompute: bool = Field(False, description="compute activations again in the backward pass: slower, much less memory")
    seeds: tuple[int, ...] = Field((0,), description="one adapter is trained for each")
    dev_every: float = Field(1.0, gt=0, description="epochs between two looks at the dev split")
    patience: int | None = Field(None, ge=1, description="stop after so many looks without a better dev metric")
    checkpoint_seconds: float = Field(60, ge=0, description="seconds between two checkpoints; a killed run goes on from the last")

    watch: Watch = Watch()

    @field_validator("seeds")
    @classmethod
    def _usable(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds or not all(0 <= s < 1 << 32 for s in seeds):
            raise ValueError("at least one seed is needed, each from 0 to 4294967295")
        if len(set(seeds)) < len(seeds):
            raise ValueError("the same seed twice would count one adapter twice")
        return seeds
