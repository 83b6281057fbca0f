"""A model as a system that writes k answers of one length to each prompt."""

from __future__ import annotations

import contextlib
import time
from typing import Callable, Sequence

from scionwood.errors import UserError
from scionwood.files import read_jsonl
from scionwood.systems.base import OK, Prediction, System
from scionwood.task import Case
from scionwood.tasks.lantern.answering import Answer, Length, barred, draw_answers, in_rows, mean, surprisals
from scionwood.tasks.lantern.judging import Marker
from scionwood.tasks.lantern.lengths import cut
from scionwood.tasks.lantern.measures.predictive import ASK_FOR_PROSE, PROSE
from scionwood.tasks.lantern.sampling import Draw

STRUCTURE = """\
Answer as flowing prose of 200 to 300 words, without headings or lists, in three parts. First put the thing on the table in a few \
sentences: a place, an object, a voice, an hour; give no answer yet. Then look at it, for the longest stretch, and let at least two \
readings of it stand side by side, each with what speaks for it; let a later observation trouble an earlier one. Last, say what now \
holds: what can be told, what cannot, and what to do next. Do not declare a winner that was not earned."""

Messages = Sequence[dict[str, str]]


def asked(renderer, messages: Messages, system: str = "") -> list[int]:
    """A prompt as token ids; ``system`` stands before it, inside of the user's message where the chat template takes no system message."""
    if not system:
        return renderer.render(messages).prompt
    try:
        return renderer.render([{"role": "system", "content": system}, *messages]).prompt
    except UserError:
        first, *rest = messages
        return renderer.render([{**first, "content": f"{system}\n\n{first['content']}"}, *rest]).prompt


def untouched(model):
    """A context in which a model is its base: an adapter on it is turned off."""
    return model.disable_adapter() if hasattr(model, "disable_adapter") else contextlib.nullcontext()


def prose_surprisal(model, renderer, lang: str, words: int, autocast: Callable) -> float:
    """Mean surprisal in nats per token of ordinary prose of this length under a base: the s0 of ``scores.coherence``."""
    texts = [t for r in read_jsonl(PROSE) if r["lang"] == lang and (t := cut(r["text"], words, lang) or r["text"])]
    prompt = asked(renderer, [{"role": "user", "content": ASK_FOR_PROSE}])
    found = surprisals(model, [prompt] * len(texts), [renderer.encode(renderer.clean(t)) for t in texts], barred(renderer), autocast)
    return float(f"{sum(found) / len(found):.6g}")


class Writer(System):
    """Draws ``answers`` answers to each prompt, with the same chances for every model, and reads them again under the untouched base.

    ``system`` is a system message; ``marker`` and ``judge`` give quality and say which answers mean the same, where a recipe names them.
    """

    def __init__(self, name: str, kind: str, model, renderer, messages_of: Callable[[Case], Messages], length: Length, draw: Draw,
                 answers: int, autocast: Callable = contextlib.nullcontext, system: str = "", marker: Marker | None = None, judge=None,
                 progress: Callable[[int, int], None] | None = None):
        self.name, self.kind, self.model, self.renderer, self.messages_of = name, kind, model, renderer, messages_of
        self.length, self.draw, self.answers, self.autocast = length, draw, answers, autocast
        self.system, self.marker, self.judge, self.progress = system, marker, judge, progress
        self.never = barred(renderer)

    def prompts(self, cases: Sequence[Case]) -> list[list[int]]:
        """Each case's prompt as token ids. Raises UserError where prompt and answer would be more than the model reads."""
        most = getattr(self.model.config, "max_position_embeddings", 1 << 30)
        out = []
        for case in cases:
            ids = asked(self.renderer, self.messages_of(case), self.system)
            if len(ids) + self.length.tokens > most:
                raise UserError(f"case {case.id}: a prompt of {len(ids)} tokens and an answer of up to {self.length.tokens} are more than "
                                f"the {most} that the base reads; lower task_options.words, or shorten the prompt")
            out.append(ids)
        return out

    def write(self, cases: Sequence[Case], answers: int) -> list[list[Answer]]:
        """So many answers to each case."""
        jobs = [(prompt, case.lang, f"{case.id}/{k}") for case, prompt in zip(cases, self.prompts(cases)) for k in range(answers)]
        prompts, langs, seeds = zip(*jobs)
        told = (lambda n: self.progress(n, len(jobs))) if self.progress else None
        drawn = draw_answers(self.model, prompts, langs, seeds, self.renderer.tokenizer.decode, self.never, self.length, self.draw,
                             self.autocast, told)
        return [drawn[i : i + answers] for i in range(0, len(drawn), answers)]

    def drawn_entropy(self, cases: Sequence[Case], answers: int) -> float:
        """Mean entropy of what tokens are drawn from, over so many answers to each case: what temperatures are matched by."""
        import numpy as np

        return mean(np.array([a.drawn for of_case in self.write(cases, answers) for a in of_case]))

    def predict(self, cases: Sequence[Case]) -> list[Prediction]:
        if not cases:
            return []
        begin = time.perf_counter()
        written = self.write(cases, self.answers)
        ms = round((time.perf_counter() - begin) * 1000 / len(cases), 1)  # each prompt's share: prompts are drawn together
        plain = [asked(self.renderer, self.messages_of(c)) for c in cases]
        with untouched(self.model):
            prose = {lang: prose_surprisal(self.model, self.renderer, lang, self.length.words, self.autocast)
                     for lang in {c.lang for c in cases}}
            read = surprisals(self.model, [p for p in plain for _ in range(self.answers)], [a.ids for of_case in written for a in of_case],
                              self.never, self.autocast)
        rows = [in_rows(w, read[i * self.answers : (i + 1) * self.answers], prose[c.lang]) for i, (c, w) in enumerate(zip(cases, written))]
        if self.marker:
            for row, marks in zip(rows, self.marker.marks([c.input["prompt"] for c in cases], [r["texts"] for r in rows])):
                row["quality"] = marks
        if self.judge:
            for case, row in zip(cases, rows):
                row["classes"] = self.judge.classes(row["texts"], case.input["prompt"])
        return [Prediction(c.id, row["texts"][0], row, OK, latency_ms=ms) for c, row in zip(cases, rows)]
