"""The options of the task: the ``[task_options]`` table of a lantern recipe."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from scionwood.settings import Settings
from scionwood.teaching.endpoint import Endpoint

LEAST_WORDS = 50  # a window of H50


class Quality(Settings):
    """Who says how good an answer is, from 0 to 1. Without a judge or reward model it is how near the answer's likelihood under the
    untouched base is to that of ordinary prose (``scores.coherence``)."""

    kind: Literal["coherence", "judge", "reward"] = Field(
        "coherence", description="coherence: likelihood under the untouched base; judge: marks of an endpoint; reward: a local model's")
    model: str | None = Field(None, description="reward: a folder or hub name of a sequence classifier with one output")
    endpoint: Endpoint | None = Field(None, description="judge: where it is and how it is asked")

    @model_validator(mode="after")
    def _whole(self) -> "Quality":
        if self.kind == "judge" and self.endpoint is None:
            raise ValueError("a judge needs [task_options.quality.endpoint] with base_url and model")
        if self.kind == "reward" and not self.model:
            raise ValueError("a reward model needs its folder or hub name in 'model'")
        return self


class Options(Settings):
    """How answers are asked for, and what the adapter is trained on."""

    answers: int = Field(8, ge=2, le=100, description="answers to each prompt")
    words: int = Field(80, ge=LEAST_WORDS, le=1000, description="length of every answer; the turn cannot end before")
    top_p: float = Field(1.0, gt=0, le=1, description="draw from the fewest tokens that hold this much probability")
    min_p: float = Field(0.0, ge=0, lt=1, description="draw from tokens with at least this share of the likeliest one's probability")
    languages: tuple[Literal["en", "zh"], ...] = Field(("en", "zh"), min_length=1, description="languages of examples and test prompts")
    authors: tuple[str, ...] | None = Field(None, description="train on the examples of these authors alone; not set: of all")
    tasks: str | None = Field(None, description="a file of test prompts (JSON lines with id and prompt); not set: the duel's tasks")
    same: str | None = Field(None, description="a model of entailment or embeddings that says which answers mean the same; not set: words")
    quality: Quality = Quality()
