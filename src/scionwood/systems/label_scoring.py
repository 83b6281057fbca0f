"""Decide among given answers by their probabilities: one pass over prompt and answers, no token is generated.

The legal answers of a case form a tree of tokens below its prompt. One forward pass over prompts and answer trees of many
cases (shared prefixes once) gives the next-token probabilities at every branch. The decision walks down from the root and
takes the likeliest branch: exactly what greedy decoding restricted to the legal answers would write.
"""

from __future__ import annotations

import math
import time
from typing import Sequence

import numpy as np

from scionwood.errors import UserError
from scionwood.models import decoder
from scionwood.models.prompts import Renderer, check_length
from scionwood.models.trees import TokenTree, lay_out, to_tensors
from scionwood.systems.base import Prediction, System, from_text
from scionwood.task import Case, Choices, Task

ROW_TOKENS = 1536  # distinct tokens of one forward pass


class Branches:
    """The legal answers of a case as a tree of token choices. Leaves are the answers; turn ends decide between prefixes."""

    def __init__(self, answers: Sequence[tuple[str, list[int]]]):
        self.next: dict[tuple[int, ...], list[int]] = {}
        self.leaf: dict[tuple[int, ...], str] = {}
        for text, ids in answers:
            if (same := self.leaf.get(tuple(ids), text)) != text:
                raise UserError(f"the answers {same!r} and {text!r} are the same tokens; the task's constraint must tell them apart")
            self.leaf[tuple(ids)] = text
            for k, token in enumerate(ids):
                options = self.next.setdefault(tuple(ids[:k]), [])
                if token not in options:
                    options.append(token)
        for ids, text in self.leaf.items():
            if ids in self.next:
                raise UserError(f"the answer {text!r} is the beginning of another one, and this base's chat template writes nothing "
                                "after an answer that could tell them apart; use a base whose template ends its turns")

    def prefixes(self) -> list[tuple[int, ...]]:
        """The token prefixes after which there is more than one way to go on."""
        return [p for p, options in self.next.items() if len(options) > 1]

    def walk(self, log_probs: dict[tuple[int, ...], dict[int, float]]) -> tuple[str, float, dict[str, float]]:
        """Return the greedy answer, its probability, and the probabilities of all answers (each branch scaled to sum 1)."""
        at: tuple[int, ...] = ()
        while at not in self.leaf:
            options = self.next[at]
            token = max(options, key=lambda t: log_probs[at][t]) if len(options) > 1 else options[0]
            at = (*at, token)
        probabilities = {}
        for ids, text in self.leaf.items():
            total = sum(log_probs[ids[:k]][t] for k, t in enumerate(ids) if len(self.next[ids[:k]]) > 1)
            probabilities[text] = math.exp(total)
        return self.leaf[at], probabilities[self.leaf[at]], probabilities


class LabelScorer(System):
    """Answers cases whose constraint is a set of choices."""

    def __init__(self, name: str, kind: str, model, renderer: Renderer, task: Task, autocast, row_tokens: int = ROW_TOKENS,
                 max_length: int = 1 << 30):
        self.name, self.kind, self.model, self.renderer, self.task = name, kind, model, renderer, task
        self.autocast, self.row_tokens, self.max_length = autocast, row_tokens, max_length
        self.device = next(model.parameters()).device
        self.branches: dict[tuple[str, ...], Branches] = {}

    def prepare(self, case: Case) -> tuple[list[int], Branches]:
        """Prompt ids and answer branches. Answers are rendered once per set of choices: their tokens do not depend on the case."""
        constraint = self.task.constraint(case)
        if not isinstance(constraint, Choices):
            raise TypeError(f"case {case.id}: label scoring needs choices, the task gives {type(constraint).__name__}")
        messages = self.task.messages(case)
        if constraint.texts not in self.branches:
            answers = [(t, self.renderer.render(messages, t).answer) for t in constraint.texts]
            self.branches[constraint.texts] = Branches(answers)
        rendered = self.renderer.render(messages)
        check_length(case.id, rendered, self.max_length)
        return rendered.prompt, self.branches[constraint.texts]

    def predict(self, cases: Sequence[Case]) -> list[Prediction]:
        scored = self.scores(cases)
        return [from_text(self.task, c, text, latency_ms=round(ms, 3), confidence=round(p, 6))
                for c, (text, p, _, ms) in zip(cases, scored)]

    def scores(self, cases: Sequence[Case]) -> list[tuple[str, float, dict[str, float], float]]:
        """For each case: the answer, its probability, all probabilities, and its share of the milliseconds."""
        tree, prepared = TokenTree(), []
        for case in cases:
            prompt, branches = self.prepare(case)
            # a branch is decided at the node of its last token; the tokens before it are the prompt and the prefix
            paths = {prefix: tree.add([*prompt, *prefix]) for prefix in branches.prefixes()}
            prepared.append((branches, paths))
        out: list = [None] * len(cases)
        for group in self._rows(prepared):
            start = time.perf_counter()
            logs = self._branch_log_probs(tree, [prepared[i] for i in group])
            ms = (time.perf_counter() - start) * 1000 / len(group)
            for i, log_probs in zip(group, logs):
                out[i] = (*prepared[i][0].walk(log_probs), ms)
        return out

    def _rows(self, prepared) -> list[list[int]]:
        """Group cases so that each row holds at most ``row_tokens`` distinct tokens; similar prompts together."""
        order = sorted(range(len(prepared)), key=lambda i: next(iter(prepared[i][1].values())).tolist() if prepared[i][1] else [])
        rows: list[list[int]] = []
        nodes: set[int] = set()
        for i in order:
            own = set(np.concatenate([*prepared[i][1].values(), np.empty(0, np.int64)]).tolist())
            more = nodes | own
            if rows and len(more) <= self.row_tokens:
                rows[-1].append(i)
                nodes = more
            else:
                rows.append([i])
                nodes = own
        return rows

    def _branch_log_probs(self, tree: TokenTree, group) -> list[dict[tuple[int, ...], dict[int, float]]]:
        """Log-probabilities of the options at every branch of every case, each branch scaled to sum 1."""
        import torch

        paths = [p for _, by_prefix in group for p in by_prefix.values()]
        if not paths:
            return [{} for _ in group]
        row = lay_out(tree, paths)
        ids, positions, mask = to_tensors(row, self.device)
        last = torch.tensor([int(p[-1]) for p in row.paths], device=self.device)
        with torch.no_grad(), self.autocast():
            hidden = decoder.run_layers(self.model, decoder.embed(self.model, ids), positions, mask)
        # Only the options' logits, in float32: in bf16 two likely answers often have the same logit, and the first would win.
        states = decoder.states_at(self.model, hidden, last)
        head = decoder.parts(self.model)[1].weight
        result, k = [], 0
        for branches, by_prefix in group:
            log_probs = {}
            for prefix in by_prefix:
                options = branches.next[prefix]
                values = (head[options].float() @ states[k]).log_softmax(-1).tolist()
                log_probs[prefix] = dict(zip(options, values))
                k += 1
            result.append(log_probs)
        return result
