"""Write answers token by token: the likeliest or drawn, under the task's constraint, with a key-value cache.

Tokens that the constraint forces are never asked of the model: they are read in one forward pass together with the token
that was chosen before them. Neighbouring cases share the beginning of their prompts, which stays in the cache.
"""

from __future__ import annotations

import json
import math
import random
import time
from functools import cached_property
from typing import Sequence

import numpy as np

from scionwood.errors import UserError
from scionwood.models import decoder
from scionwood.models.prompts import Renderer, check_length
from scionwood.models.slots import common_length
from scionwood.systems.base import ERROR, INVALID, Prediction, System, from_text
from scionwood.systems.label_scoring import Branches
from scionwood.task import Case, Choices, Grammar, JsonSchema, Task

MAX_NEW_TOKENS = 256


class FreeWalk:
    """No constraint. Any control token ends the text: a model that writes one has finished its turn or gone astray."""

    error = ""

    def __init__(self, tokenizer, ends: set[int]):
        self.tokenizer, self.ends, self.ids, self.ended = tokenizer, ends, [], False

    def forced(self) -> list[int]:
        """Take the tokens that leave no choice, and return them."""
        return []

    def allowed(self) -> Sequence[int] | None:
        """The tokens that may come next; None for all."""
        return None

    def take(self, token: int) -> None:
        self.ended = token in self.ends
        if not self.ended:
            self.ids.append(token)

    def text(self) -> str:
        return self.tokenizer.decode(self.ids)


class ChoiceWalk:
    """One of the given answers in its one spelling in tokens, down to the turn end.

    A grammar over characters would also allow spellings that no training example ever showed the model, and would then
    decide otherwise than label scoring does.
    """

    error = ""

    def __init__(self, branches: Branches):
        self.branches, self.ids = branches, []

    @property
    def ended(self) -> bool:
        return tuple(self.ids) in self.branches.leaf

    def forced(self) -> list[int]:
        known = len(self.ids)
        while not self.ended and len(options := self.allowed()) == 1:
            self.take(options[0])
        return self.ids[known:]

    def allowed(self) -> list[int]:
        return self.branches.next[tuple(self.ids)]

    def take(self, token: int) -> None:
        self.ids.append(token)

    def text(self) -> str:
        return self.branches.leaf[tuple(self.ids)]


class GrammarWalk:
    """Compact JSON under a schema, or a text of a grammar.

    ``matcher`` is a fresh llguidance matcher; the turn end is its end-of-text token.
    """

    def __init__(self, tokenizer, matcher, vocabulary: int, turn_end: int):
        from llguidance.numpy import allocate_token_bitmask  # llguidance.torch would compile for 22 s at its first call

        self.tokenizer, self.matcher, self.vocabulary, self.turn_end = tokenizer, matcher, vocabulary, turn_end
        self.ids: list[int] = []
        self.mask = allocate_token_bitmask(1, vocabulary)

    @property
    def error(self) -> str:
        return self.matcher.get_error()

    @property
    def ended(self) -> bool:
        return self.matcher.is_stopped()  # also after an error

    def forced(self) -> list[int]:
        tokens = self.matcher.compute_ff_tokens()
        self.matcher.consume_tokens(tokens)
        self.ids += tokens
        return tokens

    def allowed(self) -> np.ndarray:
        from llguidance.numpy import fill_next_token_bitmask

        fill_next_token_bitmask(self.matcher, self.mask)
        bits = np.unpackbits(self.mask[0].view(np.uint8), bitorder="little")
        return np.flatnonzero(bits[: self.vocabulary])

    def take(self, token: int) -> None:
        self.matcher.consume_token(token)
        if token != self.turn_end:
            self.ids.append(token)

    def text(self) -> str:
        return self.tokenizer.decode(self.ids)


class Context:
    """What the model has read, as a key-value cache. It must not outlive a change of weights, such as another adapter."""

    def __init__(self, model, autocast):
        self.model, self.autocast = model, autocast
        self.device = next(model.parameters()).device
        self.ids: list[int] = []
        self.cache = None

    def rewind(self, prompt: Sequence[int]) -> list[int]:
        """Keep the longest beginning of ``prompt`` that was read; return the rest: at least one token, for its logits."""
        from transformers import DynamicCache

        kept = min(common_length(self.ids, prompt), len(prompt) - 1)
        if kept == 0:
            self.cache = DynamicCache()
        elif kept < len(self.ids):
            self.cache.crop(kept - len(self.ids))  # negative: how many tokens to remove
        self.ids = self.ids[:kept]
        return list(prompt[kept:])

    def read(self, ids: list[int]):
        """Read ``ids`` in one forward pass; return the logits (vocabulary,) after the last of them, in float32."""
        import torch

        with torch.no_grad(), self.autocast():
            hidden = decoder.embed(self.model, torch.tensor([ids], device=self.device))  # in float32, as in training
            out = self.model(inputs_embeds=hidden, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        self.ids += ids
        return out.logits[0, -1].float()


def choose(logits, allowed: Sequence[int] | None, temperature: float = 0.0, chance: random.Random | None = None) -> tuple[int, float]:
    """One allowed token and its log-probability among the allowed ones (0 where all are: see ``JsonDecoder``).

    At temperature 0 it is the likeliest; else it is drawn with one number of ``chance`` from softmax(logits / temperature). The
    log-probability is always that of temperature 1.
    """
    import torch

    options = logits if allowed is None else logits[torch.as_tensor(allowed, device=logits.device)]
    log_probs = options.log_softmax(-1)
    if temperature > 0:
        sums = (options.double() / temperature).softmax(-1).cumsum(-1)
        # the last sum may fall short of 1 by rounding; a token of no probability is never drawn
        k = min(int(torch.searchsorted(sums, chance.random() * float(sums[-1]), right=True)), len(sums) - 1)
    else:
        k = int(options.argmax())
    return (k, 0.0) if allowed is None else (int(allowed[k]), float(log_probs[k]))


def turn_end(renderer: Renderer) -> int:
    """The first token of what the chat template writes after an answer, such as <|im_end|>."""
    _, text = renderer.text([{"role": "user", "content": "a"}], "b")
    ids = renderer.encode(text.removeprefix("b")) if text.startswith("b") else []
    if not ids:
        raise UserError(f"tokenizer {renderer.tokenizer.name_or_path}: its chat template writes nothing after an answer, so "
                        "decoding could not tell where one ends; use a base whose template ends its turns")
    return ids[0]


class JsonDecoder(System):
    """Answers any case: one of its choices, JSON under its schema, a text of its grammar, or free text.

    At ``temperature`` 0 the likeliest token is always taken; above, tokens are drawn, each case with a stream of chance of its own
    that depends on ``seed`` and the case's id alone.

    The confidence is the product of the probabilities of the tokens that were chosen, each among those that the constraint
    allowed; for choices it is the probability that label scoring gives. Free text has none. An answer that is not finished
    after ``max_new_tokens`` is invalid, never cut and counted.
    """

    def __init__(self, name: str, kind: str, model, renderer: Renderer, task: Task, autocast, max_length: int = 1 << 30,
                 max_new_tokens: int = MAX_NEW_TOKENS, temperature: float = 0.0, seed: int = 0):
        self.name, self.kind, self.model, self.renderer, self.task = name, kind, model, renderer, task
        self.autocast, self.max_length, self.max_new_tokens = autocast, max_length, max_new_tokens
        self.temperature, self.seed = temperature, seed
        self.turn_end = turn_end(renderer)
        controls = {i for i, t in renderer.tokenizer.added_tokens_decoder.items() if t.special}
        self.ends = controls | {self.turn_end}
        self.compiled: dict = {}

    def predict(self, cases: Sequence[Case]) -> list[Prediction]:
        prepared = [(case, *self.prepare(case)) for case in cases]
        context = Context(self.model, self.autocast)
        out: list = [None] * len(cases)
        for i in sorted(range(len(cases)), key=lambda i: prepared[i][1]):  # neighbours then share the longest beginnings
            out[i] = self.answer(*prepared[i], context)
        return out

    def prepare(self, case: Case):
        """Prompt ids and compiled constraint, so that a case that cannot be asked is found before any is."""
        rendered = self.renderer.render(self.task.messages(case))
        check_length(case.id, rendered, self.max_length)
        return rendered.prompt, self.rules(case)

    def rules(self, case: Case):
        """The constraint of a case, compiled once: Branches for choices, a matcher for a schema or grammar, None for free text."""
        constraint = self.task.constraint(case)
        if constraint is None:
            return None
        if isinstance(constraint, Choices):
            key = constraint.texts
            if key not in self.compiled:
                messages = self.task.messages(case)
                self.compiled[key] = Branches([(t, self.renderer.render(messages, t).answer) for t in key])
        elif isinstance(constraint, JsonSchema | Grammar):
            key = constraint.lark if isinstance(constraint, Grammar) else json.dumps(constraint.schema)
            if key not in self.compiled:
                self.compiled[key] = self._matcher(constraint)
        else:
            raise TypeError(f"case {case.id}: unknown constraint {type(constraint).__name__}")
        return self.compiled[key]

    @cached_property
    def _vocabulary(self):
        """The tokenizer as llguidance wants it: up to a second of work. The model may know more ids than the tokenizer."""
        from llguidance.hf import from_tokenizer

        return from_tokenizer(self.renderer.tokenizer, n_vocab=self.model.config.vocab_size, eos_token=self.turn_end)

    def _matcher(self, constraint: JsonSchema | Grammar):
        from llguidance import LLMatcher

        if isinstance(constraint, Grammar):
            what, grammar = "grammar", LLMatcher.grammar_from_lark(constraint.lark)
        else:
            what, grammar = "JSON schema", LLMatcher.grammar_from_json_schema(constraint.schema, overrides={"whitespace_flexible": False})
        wrong, remarks = LLMatcher.validate_grammar_with_warnings(grammar, self._vocabulary)
        if wrong:
            raise UserError(f"task '{self.task.name}': its {what} cannot be decoded ({' '.join(remarks[0].split())}); "
                            f"change the {what.split()[-1]} that its constraint() gives")
        return LLMatcher(self._vocabulary, grammar)

    def walk(self, rules) -> FreeWalk | ChoiceWalk | GrammarWalk:
        """A fresh walk from the beginning of an answer."""
        if rules is None:
            return FreeWalk(self.renderer.tokenizer, self.ends)
        if isinstance(rules, Branches):
            return ChoiceWalk(rules)
        return GrammarWalk(self.renderer.tokenizer, rules.deep_copy(), self.model.config.vocab_size, self.turn_end)

    def answer(self, case: Case, prompt: list[int], rules, context: Context) -> Prediction:
        """Decode one case. ``context`` may have read anything before: what this prompt does not share is forgotten."""
        start = time.perf_counter()
        walk, log_p, chance = self.walk(rules), 0.0, random.Random(f"{self.seed}/{case.id}")
        unread = context.rewind(prompt) + walk.forced()
        while not walk.ended and len(walk.ids) < self.max_new_tokens:
            token, gain = choose(context.read(unread), walk.allowed(), self.temperature, chance)
            log_p += gain
            walk.take(token)
            unread = [token, *walk.forced()]
        ms = round((time.perf_counter() - start) * 1000, 3)
        if walk.error:
            return Prediction(case.id, status=ERROR, latency_ms=ms, reason=" ".join(walk.error.split()))
        if not walk.ended or len(walk.ids) > self.max_new_tokens:
            text = self.renderer.tokenizer.decode(walk.ids[: self.max_new_tokens])
            return Prediction(case.id, text, status=INVALID, latency_ms=ms, reason=f"cut at {self.max_new_tokens} tokens")
        # six digits, not six places: the product over a long answer is small and still tells cases apart
        confidence = None if rules is None else float(f"{math.exp(log_p):.6g}")
        return from_text(self.task, case, walk.text(), latency_ms=ms, confidence=confidence)
