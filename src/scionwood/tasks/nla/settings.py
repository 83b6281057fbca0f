"""What a recipe says of an NLA: the ``[task_options]`` table, and how it changes ``[train]`` for each of the two models."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from scionwood.errors import UserError, nearest
from scionwood.settings import Settings, check
from scionwood.tasks.nla.scale import PUBLISHED as PUBLISHED_SCALE
from scionwood.teaching.endpoint import Endpoint
from scionwood.training.settings import Train

# What the model card says of its training. Everything that it leaves open stays as the recipe has it.
PUBLISHED = {"av": {"lr": 2e-5, "batch": 2, "epochs": 3}, "ar": {"lr": 2e-5, "batch": 4, "epochs": 3}}
OWN = ("seeds", "device", "dtype", "watch")  # keys of [train] that both models share


class Reinforce(Settings):
    """Whether the verbalizer goes on by reinforcement, with the reconstructor as its judge."""

    on: bool = Field(False, description="go on from the supervised adapters by reinforcement")
    steps: int = Field(30, ge=1, description="optimiser steps")
    batch: int = Field(8, ge=1, description="vectors of one step")
    samples: int = Field(4, ge=2, description="descriptions drawn of each vector; their rewards are normalised among themselves")
    reward: Literal["mse", "log"] = Field("mse", description="mse: minus the error; log: minus its logarithm")
    kl: float = Field(0.01, ge=0, description="how strongly the verbalizer is held to where it started")
    av_lr: float = Field(1e-4, gt=0, description="learning rate of the verbalizer")
    ar_lr: float = Field(1e-4, ge=0, description="learning rate of the reconstructor, which learns along on the same words; 0 freezes it")


class Options(Settings):
    """The options of task nla."""

    preset: Literal["default", "published"] = Field(
        "default", description="published: scale 150, summaries for the reconstructor, and the card's learning rate, batches and epochs; "
        "keys that are given win")
    data: str | None = Field(None, description="a folder of texts in the format of the ones that ship")
    test_author: str | None = Field(None, description="the author whose texts are the test; not set: the one with the fewest")
    layer: int | None = Field(None, ge=0, description="the block whose output is read, from 0; not set: at two thirds of the depth")
    positions: Literal["last", "mean"] = Field(
        "last", description="which vector stands for a text: last: the template's last token, as published; mean: the mean over the text's "
        "own tokens")
    scale: float | Literal["percentile", "sweep", "published"] | None = Field(
        None, description="the length to which injected vectors are brought: a number, percentile (the 75th of the norms), sweep (where a "
        "short training tells true from shuffled vectors best) or published (150); not set: percentile")
    tokens: int = Field(80, ge=8, description="longest description that the verbalizer writes, in tokens")
    ar_reads: Literal["both", "description", "summary"] | None = Field(
        None, description="what the reconstructor is trained to read; not set: description")
    ar_hears: int = Field(
        0, ge=0, le=16, description="also train it on so many descriptions that the trained verbalizer writes of each training vector (1: "
        "the likeliest; more are drawn), so that it knows the verbalizer's words; 0: on none")
    ar_reading: Literal["last", "mean"] = Field(
        "last", description="what its head reads: the state of the input's last token, as published, or the mean over the words")
    ar_loss: Literal["normalised", "raw"] = Field(
        "normalised", description="its loss: of vectors brought to one norm, as published, or of raw ones")
    lead: bool = Field(
        False, description="every description begins with language and category ('Chinese, hostile.'), which the verbalizer has to tell from "
        "the vector and the reconstructor may read")
    hints: bool = Field(
        False, description="train the verbalizer on a second, short prompt too: language and category of the same vector, so that it learns "
        "where to look; it is never asked it afterwards")
    av: dict[str, Any] = Field({}, description="keys of [train] that are different for the verbalizer")
    ar: dict[str, Any] = Field({}, description="keys of [train] that are different for the reconstructor")
    reinforce: Reinforce = Reinforce()
    curve: tuple[float, ...] = Field(
        (0.125, 0.25, 0.5), description="shares of the training texts for the curve over data size; [] for none")
    leave_out: Literal["none", "ridge", "ar"] = Field(
        "ridge", description="leave one category out of training at a time: none, for the ridge alone (seconds), or for the reconstructor "
        "too (one more training for each category)")
    paraphrase: Endpoint | None = Field(
        None, description="an endpoint that says each description in other words, to see how much hangs on the wording")

    @field_validator("curve")
    @classmethod
    def _shares(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < s < 1 for s in shares) or len(set(shares)) < len(shares):
            raise ValueError("expected different shares between 0 and 1; the whole is measured anyway")
        return tuple(sorted(shares))

    @field_validator("av", "ar")
    @classmethod
    def _known(cls, table: dict[str, Any]) -> dict[str, Any]:
        for key in table:
            known = [k for k in Train.model_fields if k not in OWN]
            if key not in known:
                raise ValueError(f"'{key}' is no key of a training that one of the two can have for itself{nearest(key, known)}")
        return table

    @property
    def published(self) -> bool:
        return self.preset == "published"

    def chosen_scale(self) -> float | str:
        """The scale, or the rule that finds it."""
        wanted = self.scale or ("published" if self.published else "percentile")
        return PUBLISHED_SCALE if wanted == "published" else wanted

    def read(self) -> tuple[str, ...]:
        """The fields of a text that the reconstructor is trained on."""
        reads = self.ar_reads or ("summary" if self.published else "description")
        return ("description", "summary") if reads == "both" else (reads,)

    def training(self, train: Train, role: Literal["av", "ar"]) -> Train:
        """``[train]`` as it holds for one of the two: the preset's keys over the recipe's, and the role's own keys over both."""
        preset = PUBLISHED[role] if self.published else {}
        return check(train.model_dump() | preset | getattr(self, role), Train, f"[task_options] {role}")


def options_of(given: dict[str, Any]) -> Options:
    """The options of a recipe, checked."""
    options = check(given, Options, "[task_options]")
    for role in ("av", "ar"):
        options.training(Train(), role)
    if isinstance(options.scale, float) and options.scale <= 0:
        raise UserError(f"[task_options]: scale = {options.scale}: expected a length above 0")
    return options
