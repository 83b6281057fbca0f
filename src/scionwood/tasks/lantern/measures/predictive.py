"""Measures that need a model: predictive entropy per token, surprisal and branching factor, over the whole vocabulary at T = 1."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Callable, Sequence

import numpy as np

from scionwood.errors import UserError
from scionwood.files import read_jsonl
from scionwood.tasks.lantern.measures import kinds
from scionwood.tasks.lantern.measures.kinds import Measure, Ordinary
from scionwood.tasks.lantern.measures.windows import Curve, mean_interval
from scionwood.tasks.lantern.measures.words import language_of

CONTEXT = 2048  # tokens that the model reads at a time, fewer where it knows fewer positions
CHUNK = 128  # positions whose probabilities exist at the same time
PROSE = Path(__file__).parent.parent / "data" / "prose.jsonl"
ASK_FOR_PROSE = "Write a passage of ordinary prose."


def token_figures(model, ids: Sequence[int], begin: int = 1, autocast: Callable = contextlib.nullcontext,
                  context: int = CONTEXT) -> tuple[np.ndarray, np.ndarray]:
    """Entropy of the prediction of each token from ``begin`` >= 1 on, and the token's surprisal: two arrays (tokens,) in nats.

    Raw logits in float32, no top-p or top-k. Longer texts are read in windows of ``context`` tokens, each token with at least
    half a window before it.
    """
    import torch

    from scionwood.models import decoder

    stack, head = decoder.parts(model)
    device = next(model.parameters()).device
    context = min(context, getattr(model.config, "max_position_embeddings", context))
    entropies, surprisals = [np.empty(0)], [np.empty(0)]
    at = begin
    while at < len(ids):
        first = 0 if at < context else at - context // 2
        row = torch.tensor(list(ids[first : first + context]), device=device)
        with torch.no_grad(), autocast():
            hidden = stack(inputs_embeds=decoder.embed(model, row[None]), use_cache=False).last_hidden_state[0]
            for lo in range(at - 1 - first, len(row) - 1, CHUNK):
                hi = min(lo + CHUNK, len(row) - 1)
                log_p = head(hidden[lo:hi]).float().log_softmax(-1)
                entropies.append(torch.special.entr(log_p.exp()).sum(-1).double().cpu().numpy())
                surprisals.append(-log_p.gather(-1, row[lo + 1 : hi + 1, None])[:, 0].double().cpu().numpy())
        at = first + len(row)
    return np.concatenate(entropies), np.concatenate(surprisals)


@dataclass(frozen=True)
class ModelFigures:
    """The measures of one text under a model, and the series behind them: entropies and surprisals (tokens,) in nats."""

    measures: dict[str, Measure]
    entropies: np.ndarray
    surprisals: np.ndarray


@dataclass
class Reader:
    """A model that texts are read with. ``name`` says which, and in which number format."""

    model: Any
    tokenizer: Any
    name: str
    autocast: Callable = contextlib.nullcontext
    prose: dict = field(default_factory=dict)  # (language, prompted) -> series of the passages of ordinary prose

    @cached_property
    def renderer(self):
        from scionwood.models.prompts import Renderer

        return Renderer(self.tokenizer)

    def ids(self, text: str, prompt: str = "") -> tuple[list[int], int]:
        """Token ids, and the first of them that is measured.

        Without a prompt the text stands alone; its very first token has nothing before it (unless the tokenizer puts a begin
        token there) and is not measured. With a prompt the text is the answer under the chat template: only its own tokens are
        measured, the turn end not among them.
        """
        if not prompt:
            return self.tokenizer.encode(text), 1
        asked, answered = self.renderer.text([{"role": "user", "content": prompt}], text)
        before, own = self.renderer.encode(asked), self.renderer.encode(answered)
        end = self.renderer.text([{"role": "user", "content": prompt}], "x")[1].removeprefix("x")  # what the template writes after an answer
        if len(before) + len(own) > (most := min(CONTEXT, getattr(self.model.config, "max_position_embeddings", CONTEXT))):
            raise UserError(f"prompt and answer have {len(before) + len(own)} tokens, more than the {most} that {self.name} reads at a time")
        return before + own[: len(own) - len(self.renderer.encode(end))], len(before)

    def read(self, text: str, prompt: str = "") -> tuple[np.ndarray, np.ndarray]:
        """Entropies and surprisals (tokens,) in nats along a text."""
        ids, begin = self.ids(text, prompt)
        return token_figures(self.model, ids, begin, self.autocast)

    def measure(self, text: str, prompt: str = "") -> ModelFigures:
        """The three figures of a text, beside those of ordinary prose of as many tokens under the same model."""
        h, s = self.read(text, prompt)
        basis = f"{self.name}, {'answer under the chat template' if prompt else 'text alone'}"
        prose = self.ordinary_series(language_of(text[:10_000]), bool(prompt))
        entropy = mean_figure(kinds.PredictiveEntropy, h, basis, [p for p, _ in prose])
        surprisal = mean_figure(kinds.Surprisal, s, basis, [p for _, p in prose])
        return ModelFigures({m.NAME: m for m in (entropy, surprisal, branching(entropy))}, h, s)

    def ordinary_series(self, lang: str, prompted: bool) -> list[tuple[np.ndarray, np.ndarray]]:
        """Entropies and surprisals along each passage of ordinary prose that ships; read once."""
        if (lang, prompted) not in self.prose:
            texts = [r["text"] for r in read_jsonl(PROSE) if r["lang"] == lang]
            self.prose[lang, prompted] = [self.read(t, ASK_FOR_PROSE if prompted else "") for t in texts]
        return self.prose[lang, prompted]


def mean_figure(kind: type[Measure], values: np.ndarray, basis: str, prose: list[np.ndarray]) -> Measure:
    """The mean of a series with its interval, beside the mean of the first as many tokens of each passage of ordinary prose."""
    curve = Curve()
    curve.add(values)
    low, high = mean_interval(curve, 1)
    ordinary = None
    if len(values) and prose:
        means = [float(p[: len(values)].mean()) for p in prose]
        length = float(np.mean([min(len(p), len(values)) for p in prose]))
        ordinary = Ordinary(float(np.mean(means)), *map(float, np.percentile(means, [5, 95])), length,
                            f"{len(prose)} passages of ordinary prose, read by the same model")
    return kind(value=curve.mean, n=len(values), low=None if low is None else max(0.0, low), high=high, basis=basis, ordinary=ordinary,
                why="" if len(values) else "needs two tokens")


def branching(entropy: kinds.PredictiveEntropy) -> kinds.BranchingFactor:
    """exp of a predictive entropy, its interval and its ordinary prose (Yang and Holtzman 2025)."""
    if type(entropy) is not kinds.PredictiveEntropy:
        raise TypeError(f"a branching factor is made of a predictive entropy, not of {getattr(entropy, 'NAME', type(entropy).__name__)}")
    value, low, high = (None if x is None else math.exp(x) for x in (entropy.value, entropy.low, entropy.high))
    o = entropy.ordinary
    ordinary = o and Ordinary(math.exp(o.mean), math.exp(o.low), math.exp(o.high), o.length, o.source)
    return kinds.BranchingFactor(value=value, n=entropy.n, low=low, high=high, ordinary=ordinary, basis=entropy.basis, why=entropy.why)


def open_reader(base: str, adapter: Path | None = None, device: str = "auto", dtype: str = "auto", echo: Callable = lambda line: None) -> Reader:
    """Load a base ("embedded", a folder or a hub name), with an adapter where one is named. Raises UserError where it cannot be."""
    from scionwood.models import machine
    from scionwood.models.loading import load_adapter, load_model, load_tokenizer
    from scionwood.training.loop import autocast_for

    where, why = machine.choose_device(device)
    echo(why)
    kind, why = machine.choose_dtype(dtype, where)
    echo(why)
    model = load_model(base, where, kind)
    model = load_adapter(model, adapter) if adapter else model
    name = f"{base} with {adapter}" if adapter else base
    return Reader(model, load_tokenizer(base), f"{name} in {str(kind).removeprefix('torch.')}", autocast_for(where, kind))
