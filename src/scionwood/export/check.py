"""Checks of an exported file against transformers: the same token ids, close log-probabilities, the same greedy continuations."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

from scionwood.export.formats import Loaded
from scionwood.models.prompts import Renderer

TOKENS = 24  # of a continuation, and of an answer that is scored
TIE = 0.05  # log-probability: where transformers itself is less sure than this, rounding may decide
EXACT = ("f32", "f16", "lora", "merged")
# By how much the log-probability of an answer token may differ in the mean. Rounding stays far below; a converter's mistake is
# several times as much. What a quantisation costs is for the benchmark to say.
LIMITS = {"f32": 0.02, "f16": 0.02, "lora": 0.02, "merged": 0.001, "q8_0": 0.3, "q6_k": 0.5}
OTHERS = 2.0

Score = Callable[[list[int], list[int]], list[float]]


@dataclass
class Compared:
    """What one file did on the prompts. ``splits`` are the continuations that leave transformers' own; ``failed`` is empty or says why."""

    prompts: int = 0
    answer_tokens: int = 0
    mean_difference: float = 0.0  # of the log-probability of an answer token
    largest_difference: float = 0.0
    equal: int = 0  # continuations, token for token
    splits: list[dict[str, Any]] = field(default_factory=list)
    failed: str = ""


def check(name: str, loaded: Loaded, path: Path) -> dict[str, Any]:
    """Check one export. Returns what was found, with ``failed`` empty or saying in one line what is wrong."""
    if name == "ollama":
        return {"prompts": len(loaded.source.prompts()), "failed": ""}  # its template was compared prompt by prompt when it was written
    if name == "mlx":
        from scionwood.export.check_mlx import check_mlx

        return check_mlx(loaded, path)
    if name == "merged":
        return asdict(_check_merged(loaded, path))
    return asdict(_check_gguf("lora" if name == "lora-gguf" else name.removeprefix("gguf:"), loaded, path))


def _check_gguf(kind: str, loaded: Loaded, path: Path) -> Compared:
    """A GGUF file, or an adapter's on a base that is written for the purpose, in llama.cpp."""
    from scionwood.models.llamacpp import LlamaCpp

    model, tokenizer = loaded.merged
    renderer = Renderer(tokenizer)
    conversations = list(zip(loaded.source.prompts(), loaded.source.targets()))
    with _base_file(kind, loaded, path) as whole:
        wrong = other_ids(renderer, loaded.source.out, whole, [m for m, _ in conversations])
        if wrong:
            return Compared(len(conversations), failed=wrong)
        rendered = _rendered(renderer, conversations)
        longest = max(len(p) + len(a) for p, a in rendered)
        with LlamaCpp(whole, adapter=path if kind == "lora" else None, context=longest + TOKENS + 8) as engine:
            return compare(kind, rendered, log_probs_of(model),
                           lambda p: engine.generate(p, max_tokens=TOKENS).tokens,
                           lambda p, a: [engine.score([*p, *a[:k]], [[t]])[0] for k, t in enumerate(a)])


def _check_merged(loaded: Loaded, path: Path) -> Compared:
    """A merged folder, loaded anew, against the base with the adapter on it."""
    import torch

    from scionwood.models.loading import load_adapter, load_model, load_tokenizer

    source, cpu = loaded.source, torch.device("cpu")
    renderer, theirs = Renderer(load_tokenizer(source.base)), Renderer(load_tokenizer(str(path)))
    conversations = list(zip(source.prompts(), source.targets()))
    for n, (messages, _) in enumerate(conversations):
        if renderer.render(messages).prompt != theirs.render(messages).prompt:
            return Compared(len(conversations), failed=f"prompt {n} becomes other token ids with the exported tokenizer")
    model = load_model(str(path), cpu, torch.float32)
    reference = log_probs_of(load_adapter(load_model(source.base, cpu, torch.float32), source.adapter_folder))
    written = log_probs_of(model)

    def generate(prompt: list[int]) -> list[int]:
        given = torch.tensor([prompt])
        ids = model.generate(given, attention_mask=torch.ones_like(given), max_new_tokens=TOKENS, do_sample=False, pad_token_id=0,
                             eos_token_id=renderer.tokenizer.eos_token_id)
        return ids[0, len(prompt):].tolist()

    return compare("merged", _rendered(renderer, conversations), reference, generate, lambda p, a: _picked(written(p, a), a))


def _rendered(renderer: Renderer, conversations) -> list[tuple[list[int], list[int]]]:
    both = [renderer.render(messages, target) for messages, target in conversations]
    return [(r.prompt, r.answer[:TOKENS]) for r in both]


@contextlib.contextmanager
def _base_file(kind: str, loaded: Loaded, path: Path) -> Iterator[Path]:
    """The file to run: the export itself or, for an adapter, its base as float16, written for this check alone."""
    if kind != "lora":
        yield path
        return
    import torch

    from scionwood.export.gguf import temporary, write_gguf
    from scionwood.models.loading import load_model, load_tokenizer

    base, source = temporary(path), loaded.source
    try:
        yield write_gguf(load_model(source.base, torch.device("cpu"), torch.float32), load_tokenizer(source.base), base, "f16",
                         {"name": source.base_name})
    finally:
        base.unlink(missing_ok=True)


def other_ids(renderer: Renderer, folder: Path, model: Path, prompts: list[list[dict[str, str]]]) -> str:
    """Where the sidecar's renderer or llama.cpp's own tokenizer makes other token ids of a prompt than transformers; empty: nowhere."""
    from scionwood.export.llama_tokens import llama_tokens
    from scionwood.models.light import LightTokenizer

    light = Renderer(LightTokenizer(folder))
    texts = [renderer.text(m)[0] for m in prompts]
    for n, (messages, text, theirs) in enumerate(zip(prompts, texts, llama_tokens(model, texts))):
        ours = renderer.encode(text)
        if light.render(messages).prompt != ours:
            return f"prompt {n} becomes other token ids with the exported tokenizer and template"
        if theirs != ours:
            at = next(i for i, (a, b) in enumerate(zip([*theirs, None], [*ours, None])) if a != b)
            around = renderer.tokenizer.decode(ours[max(0, at - 2) : at + 3])
            return f"prompt {n} becomes other token ids in llama.cpp, from token {at} on ({around!r})"
    return ""


def log_probs_of(model):
    """A function of (prompt, continuation) to the log-probabilities at each continuation token, ``[tokens, vocabulary]``, float32."""
    import torch

    def log_probs(prompt: list[int], continuation: list[int]):
        ids = torch.tensor([[*prompt, *continuation]], device=model.device)
        with torch.no_grad():
            logits = model(ids[:, :-1], logits_to_keep=len(continuation)).logits[0]
        return logits.float().log_softmax(-1).cpu()

    return log_probs


def _picked(log_probs, tokens: Sequence[int]) -> list[float]:
    return [log_probs[k, t].item() for k, t in enumerate(tokens)]


def compare(kind: str, rendered: Sequence[tuple[list[int], list[int]]], reference, generate: Callable[[list[int]], list[int]],
            score: Score) -> Compared:
    """Answers scored token by token, and greedy continuations, against transformers.

    A continuation is compared by giving transformers its tokens: it is transformers' own as long as each token is the likeliest.
    The first that is not is a split; its margin is how much likelier transformers held its own token.
    """
    found, apart = Compared(prompts=len(rendered)), []
    for n, (prompt, answer) in enumerate(rendered):
        apart += [abs(a - b) for a, b in zip(score(prompt, answer), _picked(reference(prompt, answer), answer))]
        tokens = generate(prompt)
        logs = reference(prompt, tokens) if tokens else None
        own = logs.argmax(-1).tolist() if tokens else []
        at = next((k for k, (a, b) in enumerate(zip(tokens, own)) if a != b), None)
        if at is None and tokens:
            found.equal += 1
        else:
            margin = (logs[at, own[at]] - logs[at, tokens[at]]).item() if tokens else None
            found.splits.append({"prompt": n, "token": at, "margin": round(margin, 5) if tokens else None})
    found.answer_tokens = len(apart)
    found.mean_difference, found.largest_difference = _rounded(sum(apart) / len(apart)), _rounded(max(apart))
    found.failed = _verdict(kind, found)
    return found


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def _verdict(kind: str, found: Compared) -> str:
    limit = LIMITS.get(kind, OTHERS)
    if not found.mean_difference <= limit:
        return f"the log-probability of an answer token differs by {found.mean_difference} in the mean, more than {limit}"
    sure = [s for s in found.splits if s["margin"] is None or s["margin"] > TIE]
    if kind in EXACT and sure:
        s = sure[0]
        return (f"{len(sure)} of {found.prompts} continuations leave transformers' where it was sure, "
                f"the first at prompt {s['prompt']}, token {s['token']} (margin {s['margin']})")
    return ""


def sentence(check: dict[str, Any]) -> str:
    """What a check found, as one line."""
    if check["failed"]:
        return f"FAILED: {check['failed']}"
    if "answer_tokens" not in check:
        return check.get("said") or f"{check['prompts']} prompts rendered alike"
    text = (f"{check['prompts']} prompts: token ids equal; log-probabilities of {check['answer_tokens']} answer tokens differ by "
            f"{check['mean_difference']} in the mean, {check['largest_difference']} at most; {check['equal']} continuations equal")
    if splits := check["splits"]:
        first = splits[0]
        ties = sum(s["margin"] is not None and s["margin"] <= TIE for s in splits)
        text += (f", {len(splits)} not ({ties} at a near tie; the first at prompt {first['prompt']}, token {first['token']}, "
                 f"margin {first['margin']})")
    return text
