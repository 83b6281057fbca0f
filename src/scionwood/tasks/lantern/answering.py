"""k answers to each prompt, all of one length, with the figures that need a model: entropy while drawing, surprisal under the base."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Callable, Collection, Sequence

import numpy as np

from scionwood.tasks.lantern.lengths import cut
from scionwood.tasks.lantern.sampling import Draw, Sample, sample

BATCH = 64  # answers drawn together
READ = 8  # answers read together: their logits exist at the same time
TOKENS_PER_WORD = 3  # an answer that has not come to its length by then never will


@dataclass(frozen=True)
class Length:
    """Every answer is cut at ``words`` words; drawing stops at ``tokens`` tokens, full length or not."""

    words: int
    tokens: int


@dataclass(frozen=True)
class Answer:
    """One answer, cut at its length where it is ``full``. ``ids`` are the tokens of the cut text.

    ``entropy``: mean predictive entropy of its tokens (T = 1); ``drawn``: the same of what was drawn from, after temperature and filters.
    """

    text: str
    ids: tuple[int, ...]
    full: bool
    entropy: float
    drawn: float


def length_of(words: int) -> Length:
    """The length of answers of so many words."""
    return Length(words, TOKENS_PER_WORD * words)


def barred(renderer) -> frozenset[int]:
    """The tokens that end an answer or belong to no text: they are not drawn before an answer has its length."""
    from scionwood.systems.json_decoding import turn_end

    return frozenset({i for i, t in renderer.tokenizer.added_tokens_decoder.items() if t.special} | {turn_end(renderer)})


def draw_answers(model, prompts: Sequence[Sequence[int]], langs: Sequence[str], seeds: Sequence[str],
                 decode: Callable[[Sequence[int]], str], never: Collection[int], length: Length, draw: Draw,
                 autocast: Callable = contextlib.nullcontext, progress: Callable[[int], None] | None = None) -> list[Answer]:
    """One answer of the given length to each prompt (token ids), ``never`` ended before. ``draw.tokens`` is not used.

    ``langs`` say how words are counted. The same seed at the same prompt draws with the same chances, whatever the model.
    """
    out: list[Answer] = []
    plan = Draw(draw.temperature, draw.top_p, draw.min_p, length.tokens, length.tokens)
    for at in range(0, len(prompts), BATCH):
        part = range(at, min(at + BATCH, len(prompts)))
        # words are counted in the first language of a batch to ask whether there is enough; the cut below counts anew
        def enough(ids: list[int], lang: str = langs[at]) -> bool:
            return cut(decode(ids), length.words, lang) is not None

        drawn = sample(model, [prompts[i] for i in part], never, plan, [seeds[i] for i in part], autocast, enough=enough)
        out += [trimmed(s, decode, length.words, langs[i]) for i, s in zip(part, drawn)]
        if progress:
            progress(len(out))
    return out


def trimmed(s: Sample, decode: Callable[[Sequence[int]], str], words: int, lang: str) -> Answer:
    """A sample cut at its length, with the tokens up to the cut."""
    text = cut(decode(s.ids), words, lang)
    n = len(s.ids)
    if text is not None:  # the fewest tokens that spell the cut text
        low, high = 1, n
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if len(decode(s.ids[:middle])) >= len(text) else (middle + 1, high)
        n = low
    whole = decode(s.ids) if text is None else text
    return Answer(whole.strip(), s.ids[:n], text is not None, mean(s.entropies[:n]), mean(s.drawn[:n]))


def mean(values: np.ndarray) -> float:
    """The mean to six digits."""
    return float(f"{float(values.mean()):.6g}") if len(values) else 0.0


def surprisals(model, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], never: Collection[int],
               autocast: Callable = contextlib.nullcontext) -> list[float]:
    """Mean surprisal in nats per token of each answer (token ids) after its prompt, under a model that never ends an answer.

    Raw logits in float32 at T = 1, without the tokens in ``never``: a base that would rather have stopped long ago is not asked
    about that. 0 for an answer without tokens.
    """
    out: list[float] = []
    for at in range(0, len(prompts), READ):
        out += _read(model, prompts[at : at + READ], answers[at : at + READ], sorted(never), autocast)
    return out


def _read(model, prompts, answers, never: list[int], autocast) -> list[float]:
    import torch

    from scionwood.models import decoder

    device = next(model.parameters()).device
    rows = [[*p, *a] for p, a in zip(prompts, answers)]
    longest = max(map(len, rows))
    ids = torch.tensor([r + [0] * (longest - len(r)) for r in rows], device=device)
    mask = torch.tensor([[1] * len(r) + [0] * (longest - len(r)) for r in rows], device=device)
    stack, head = decoder.parts(model)
    out = []
    with torch.no_grad(), autocast():
        hidden = stack(inputs_embeds=decoder.embed(model, ids), attention_mask=mask, use_cache=False).last_hidden_state
        for i, (p, a) in enumerate(zip(prompts, answers)):
            logits = head(hidden[i, len(p) - 1 : len(p) + len(a) - 1]).float()
            if never:
                logits[:, never] = -torch.inf
            own = torch.tensor(list(a), dtype=torch.long, device=device)[:, None]
            out.append(mean(-logits.log_softmax(-1).gather(-1, own)[:, 0].double().cpu().numpy()))
    return out


def in_rows(answers: Sequence[Answer], base: Sequence[float], ordinary: float) -> dict[str, Any]:
    """The answers to one prompt as the answer of a prediction."""
    return {"texts": [a.text for a in answers], "tokens": [len(a.ids) for a in answers], "entropy": [a.entropy for a in answers],
            "drawn": [a.drawn for a in answers], "surprisal": list(base), "ordinary": ordinary}
