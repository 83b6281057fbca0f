"""The exported file as the model of a sidecar: the same system that the benchmark measured, one case at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Sequence

from scionwood.errors import UserError
from scionwood.models.sampling import Drawing
from scionwood.serving.artifact import Artifact
from scionwood.serving.settings import Serving
from scionwood.systems.base import INVALID, Prediction
from scionwood.task import Case, JsonSchema, Task


@dataclass(frozen=True)
class Chatted:
    """A finished chat completion. ``tokens``: how many were written."""

    text: str
    finish_reason: str
    prompt_tokens: int
    tokens: int


class GgufModel:
    """llama.cpp with one file. ``prompts``: how many prompt prefixes keep a cache of their own; one more is for all else."""

    def __init__(self, artifact: Artifact, task: Task, settings: Serving, prompts: int):
        from scionwood.models.light import LightTokenizer
        from scionwood.models.llamacpp import LlamaCpp
        from scionwood.models.prompts import Renderer
        from scionwood.systems.gguf import GgufSystem

        self.name, self.rev, self.created = artifact.name, artifact.rev, int(artifact.model.stat().st_mtime)
        self.task, self.renderer = task, Renderer(LightTokenizer(artifact.folder))
        context = settings.context or artifact.max_length
        self.engine = LlamaCpp(artifact.model, context=context, slots=prompts + 1, threads=settings.threads)
        self.system = GgufSystem(artifact.name, "export", self.engine, self.renderer, task, max_length=context)

    def check(self, case: Case) -> None:
        """Raises UserError where a case's prompt does not fit the context. May be called from any thread."""
        text, _ = self.renderer.text(self.task.messages(case))
        if len(text.encode()) < self.engine.context:  # a token is a byte at least
            return
        tokens, part = len(self.renderer.encode(text)), case.id.partition("#")[2]
        if tokens + 1 > self.engine.context:
            raise UserError(f"{part + ': ' if part else ''}{tokens} tokens with the instructions, more than the context of "
                            f"{self.engine.context}; shorten or split the text")

    def answer(self, case: Case) -> Prediction:
        """One prediction. JSON of an object that does not begin with a brace (thinking that leaked, say) is invalid."""
        (p,) = self.system.predict([case])
        constraint = self.task.constraint(case)
        if isinstance(constraint, JsonSchema) and is_object(constraint.schema) and not p.text.startswith("{"):
            return Prediction(case.id, status=INVALID, latency_ms=p.latency_ms, reason="the text does not begin with '{'")
        return p

    def warm(self, cases: Sequence[Case]) -> None:
        """Read what all prompts like those of ``cases`` begin with, and keep it in the cache."""
        for case in cases:
            self.engine.warm(self.prefix(self.task.messages(case)))

    def prefix(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """The tokens of a prompt before the last message's own text: the same for every case with these instructions."""
        from scionwood.models.slots import common_length

        *before, last = messages
        prompts = [self.renderer.render([*before, last | {"content": text}]).prompt for text in ("a", "0")]
        return prompts[0][: common_length(*prompts)]

    def chat(self, messages: list[dict[str, str]], max_tokens: int, schema: dict | None, deadline: float | None,
             drawing: Drawing, endless: bool, anew: bool) -> Chatted:
        """Go on with a conversation. ``endless``: no control token is written, so only ``max_tokens`` ends it; ``anew``: nothing of
        it is taken from the cache. Raises UserError (schema, length), TimeoutError."""
        prompt = self.renderer.render(messages).prompt
        if len(prompt) + 1 > self.engine.context:
            raise UserError(f"'messages': {len(prompt)} tokens, more than the context of {self.engine.context}")
        if endless:
            drawing = replace(drawing, barred=tuple(sorted(self.system.controls)))
        done = self.engine.generate(prompt, max_tokens=min(max_tokens, self.engine.context - len(prompt)), schema=schema,
                                    drawing=drawing, anew=anew, deadline=deadline)
        text, ended = (done.text, False) if schema is not None else self.system.free_text(done)
        if schema is not None and is_object(schema) and text and not text.startswith("{"):
            raise RuntimeError("constrained output does not begin with '{'")
        return Chatted(text, "stop" if ended else done.finish_reason, done.prompt_tokens, done.written)

    def close(self) -> None:
        self.engine.close()


def is_object(schema: dict) -> bool:
    """Whether a JSON schema asks for an object and nothing else."""
    return schema.get("type") == "object"
