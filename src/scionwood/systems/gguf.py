"""A GGUF file as a system, answered by llama.cpp: the same decisions as the adapter it was exported from, up to its rounding."""

from __future__ import annotations

import math
import time
from typing import Sequence

from scionwood.models.llamacpp import Completion, LlamaCpp
from scionwood.models.prompts import Renderer, check_length
from scionwood.systems.base import INVALID, Prediction, System, from_text
from scionwood.systems.label_scoring import Branches
from scionwood.task import Case, Choices, Grammar, JsonSchema, Task

MAX_NEW_TOKENS = 256


def decide(engine: LlamaCpp, prompt: list[int], branches: Branches, *, deadline: float | None = None) -> tuple[str, float]:
    """Return the answer that greedy decoding restricted to ``branches`` would write, and its probability.

    One request for each branch on the way; tokens that leave no choice are read along with the next one's. The probability is the
    product along the way, each branch scaled to sum 1: what ``LabelScorer`` gives for the same weights.
    """
    at: tuple[int, ...] = ()
    log_p = 0.0
    while at not in branches.leaf:
        options = branches.next[at]
        logs = engine.branch([*prompt, *at], options, deadline=deadline) if len(options) > 1 else {options[0]: 0.0}
        token = max(options, key=logs.__getitem__)
        log_p += logs[token]
        at = (*at, token)
    return branches.leaf[at], math.exp(log_p)


def branches_of(renderer: Renderer, messages: Sequence[dict], texts: Sequence[str]) -> Branches:
    """The answers as a tree of tokens. Their tokens do not depend on the messages, so any of the task's will do."""
    return Branches([(t, renderer.render(messages, t).answer) for t in texts])


class GgufSystem(System):
    """Answers any case: choices by their probabilities, else JSON under the task's schema, a text of its grammar, or free text.

    A confidence comes from choices alone. An answer that is not finished after ``max_new_tokens`` is invalid, never cut and
    counted. Latency is one request's, with what earlier prompts left in the cache.
    """

    def __init__(self, name: str, kind: str, engine: LlamaCpp, renderer: Renderer, task: Task, max_length: int = 1 << 30,
                 max_new_tokens: int = MAX_NEW_TOKENS):
        self.name, self.kind, self.engine, self.renderer, self.task = name, kind, engine, renderer, task
        self.max_length, self.max_new_tokens = max_length, max_new_tokens
        self.branches: dict[tuple[str, ...], Branches] = {}
        self.controls = {i for i, t in renderer.tokenizer.added_tokens_decoder.items() if t.special}

    def predict(self, cases: Sequence[Case]) -> list[Prediction]:
        prompts = [self.prepare(c) for c in cases]
        out: list = [None] * len(cases)
        for i in sorted(range(len(cases)), key=prompts.__getitem__):  # neighbours then share the longest beginnings
            out[i] = self.answer(cases[i], prompts[i])
        return out

    def prepare(self, case: Case) -> list[int]:
        """The prompt's token ids, so that a case that cannot be asked is found before any is."""
        messages, constraint = self.task.messages(case), self.task.constraint(case)
        if isinstance(constraint, Choices) and constraint.texts not in self.branches:
            self.branches[constraint.texts] = branches_of(self.renderer, messages, constraint.texts)
        rendered = self.renderer.render(messages)
        check_length(case.id, rendered, self.max_length)
        return rendered.prompt

    def answer(self, case: Case, prompt: list[int]) -> Prediction:
        """Ask the engine about one case."""
        constraint = self.task.constraint(case)
        start = time.perf_counter()
        if isinstance(constraint, Choices):
            text, confidence = decide(self.engine, prompt, self.branches[constraint.texts])
            return from_text(self.task, case, text, latency_ms=_since(start), confidence=round(confidence, 6))
        done = self.engine.generate(prompt, max_tokens=self.max_new_tokens,
                                    schema=constraint.schema if isinstance(constraint, JsonSchema) else None,
                                    lark=constraint.lark if isinstance(constraint, Grammar) else None)
        text, ended = self.free_text(done) if constraint is None else (done.text, False)
        if done.finish_reason != "stop" and not ended:
            return Prediction(case.id, text, status=INVALID, latency_ms=_since(start), reason=f"cut at {self.max_new_tokens} tokens")
        return from_text(self.task, case, text, latency_ms=_since(start))

    def free_text(self, done: Completion) -> tuple[str, bool]:
        """The text before the first control token, and whether there was one: a model that writes one has ended its turn or gone astray."""
        end = next((k for k, t in enumerate(done.tokens) if t in self.controls), None)
        if end is None:
            return done.text, False
        return (self.renderer.tokenizer.decode(done.tokens[:end]) if done.pieces is None else "".join(done.pieces[:end])), True


def _since(start: float) -> float:
    return round((time.perf_counter() - start) * 1000, 3)
