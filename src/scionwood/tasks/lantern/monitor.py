"""The diversity of a model while it trains: predictive entropy, H50 and repetition of samples on held-out prompts, and when to stop."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Callable, Sequence

import numpy as np

from scionwood.tasks.lantern.measures.counts import entropy
from scionwood.tasks.lantern.measures.kinds import H50
from scionwood.tasks.lantern.measures.windows import window_entropies
from scionwood.tasks.lantern.measures.words import language_of, splitter, words_between_blanks
from scionwood.tasks.lantern.sampling import Draw, sample
from scionwood.training.settings import Watch

PUBLISHED_FLOOR = 4.0  # nats of E1: "check every 100 steps, stop below 4.0 nats"
PUBLISHED_WORDS = 100  # E1 means nothing without a length: it is taken over the first so many words of each sample
BATCH = 32  # answers drawn together


@dataclass
class DiversityWatch:
    """Looks at a model in training; the loop calls it with the model, the step and the look at step 0.

    ``prompts`` are held-out prompts as token ids, ``decode`` turns token ids into text, ``ends`` are the tokens that end an
    answer; with ``full`` none ends before it has its length, so that no look is about the length. The same draws are made at every
    look, so that two looks differ by the model alone.
    """

    prompts: Sequence[Sequence[int]]
    decode: Callable[[Sequence[int]], str]
    ends: frozenset[int]
    settings: Watch
    autocast: Callable = contextlib.nullcontext
    full: bool = False

    def __call__(self, model, step: int, first: dict[str, Any] | None) -> dict[str, Any]:
        """The figures of one look; with ``stop``, the reason, where the rule says so. ``first`` is None at step 0."""
        figures = self.look(model)
        reason = why_stop(figures, first, self.settings) if first is not None else ""
        return figures | ({"stop": reason} if reason else {})

    def look(self, model) -> dict[str, Any]:
        """Draw the answers and measure them. Figures that are not defined (answers too short) are None.

        ``predictive_entropy``: nats, mean over all drawn tokens at T = 1, raw logits. ``h50``: mean over the answers that have 50
        words. ``e1``: mean over those that have 100, of their first 100. ``repetition``: mean share of word triples that stood in
        the same answer before.
        """
        s = self.settings
        asked = [(p, f"{i}/{k}") for i, p in enumerate(self.prompts) for k in range(s.samples)]
        drawn = []
        for at in range(0, len(asked), BATCH):
            part = asked[at : at + BATCH]
            draw = Draw(tokens=s.tokens, min_tokens=s.tokens if self.full else 0)
            drawn += sample(model, [p for p, _ in part], self.ends, draw, [seed for _, seed in part], self.autocast)
        tokens = np.concatenate([d.entropies for d in drawn])
        texts = [self.decode(d.ids) for d in drawn]
        return {"predictive_entropy": mean([float(tokens.mean())] if len(tokens) else []), "h50": mean(map(h50, texts)),
                "e1": mean(map(e1, texts)), "repetition": mean(map(repetition, texts)), "samples": len(drawn), "tokens": len(tokens),
                "ended": sum(d.ended for d in drawn)}


def mean(values) -> float | None:
    """The mean of those that are defined, to six digits; None without any."""
    defined = [v for v in values if v is not None]
    return float(f"{sum(defined) / len(defined):.6g}") if defined else None


def numbers_of(text: str) -> np.ndarray:
    """The words of a text as numbers (n,)."""
    words = splitter(language_of(text))(text)
    return np.unique(words, return_inverse=True)[1] if words else np.empty(0, dtype=int)


def h50(text: str) -> float | None:
    """Mean entropy of windows of 50 words; None below 50."""
    found = window_entropies(numbers_of(text), H50.WINDOW)
    return float(found.mean()) if len(found) else None


def e1(text: str) -> float | None:
    """The published word entropy of the first ``PUBLISHED_WORDS`` words; None where there are fewer."""
    words = words_between_blanks(text)[:PUBLISHED_WORDS]
    return entropy(np.unique(words, return_counts=True)[1]) if len(words) == PUBLISHED_WORDS else None


def repetition(text: str) -> float | None:
    """1 - distinct-3: the share of word triples that stood in the text before; None below three words."""
    ids = numbers_of(text).tolist()
    triples = list(zip(ids, ids[1:], ids[2:]))
    return 1 - len(set(triples)) / len(triples) if triples else None


def why_stop(now: dict[str, Any], first: dict[str, Any], s: Watch) -> str:
    """The reason to stop under the rule, or nothing.

    "relative": predictive entropy has fallen by ``s.fall`` or more of what it was at step 0, *and* repetition has risen by
    ``s.rise`` or more. A model that learns a task becomes surer of itself; only with repetition is that a collapse. "published":
    E1 of the first 100 words is below 4.0 nats.
    """
    if s.rule == "published":
        if now["e1"] is not None and now["e1"] < PUBLISHED_FLOOR:
            return f"E1 of {PUBLISHED_WORDS} words is {now['e1']:.3f} nats, below {PUBLISHED_FLOOR:.1f}"
        return ""
    was, has = first["predictive_entropy"], now["predictive_entropy"]
    before, after = first["repetition"], now["repetition"]
    if s.rule == "relative" and None not in (was, has, before, after) and was > 0:
        fallen, risen = 1 - has / was, after - before
        if fallen >= s.fall and risen >= s.rise:
            return (f"predictive entropy fell by {fallen:.0%} from step 0 ({was:.3f} to {has:.3f} nats) while repetition rose "
                    f"from {before:.3f} to {after:.3f}")
    return ""


def watch(renderer, messages: Sequence[Sequence[dict]], settings: Watch, autocast: Callable = contextlib.nullcontext,
          full: bool = False) -> DiversityWatch:
    """A watch over the first ``settings.prompts`` of some held-out prompts, given as chat messages."""
    from scionwood.systems.json_decoding import turn_end

    controls = {i for i, t in renderer.tokenizer.added_tokens_decoder.items() if t.special}
    prompts = [renderer.render(m).prompt for m in messages[: settings.prompts]]
    return DiversityWatch(prompts, renderer.tokenizer.decode, frozenset(controls | {turn_end(renderer)}), settings, autocast, full)
