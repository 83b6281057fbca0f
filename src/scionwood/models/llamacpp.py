"""A GGUF file, run in this process by llama.cpp (the package xllamacpp): label probabilities and generated text.

Prompts are token ids, rendered by ``models/prompts.py`` with the tokenizer of ``models/light.py``; neither torch nor
transformers is imported. llama.cpp keeps what each of its slots has read, so a prompt costs only what follows the part that it
shares with an earlier one.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

from scionwood.errors import UserError
from scionwood.models.sampling import GREEDY, Drawing
from scionwood.models.slots import Slots

GUIDANCE = "%llguidance {}"  # the first line of a grammar that llguidance, not llama.cpp itself, is to follow
SMALL_FILE = 200_000_000  # bytes; up to here the attention is exact, see _start
TOP = 64  # tokens of which plain log-probabilities are asked at once
LIFT = 100.0  # added to the logits of wanted tokens, so that only they are left: more than logits differ by
DRAW = 160.0  # added once more to the logit of the token that is to be drawn
HEAT = 8.0  # logits are divided by it, so that the others' probabilities stay far above float32's smallest


@dataclass(frozen=True)
class Completion:
    """What was generated. ``finish_reason`` is "stop" (the model ended it) or "length" (cut at ``max_tokens``); a cut answer is none.

    ``tokens`` are all of them, the end token included, and ``written`` is their number. Under a deadline they are streamed, and
    llama.cpp then leaves out tokens that end within a character; ``pieces`` is what each of the others added to the text, None where
    nothing was left out. ``text`` is whole in either case, without control tokens.
    """

    text: str
    tokens: list[int]
    finish_reason: str
    prompt_tokens: int
    cached_tokens: int
    prompt_ms: float
    generated_ms: float
    written: int
    pieces: list[str] | None


class LlamaCpp:
    """One GGUF file, optionally with a LoRA GGUF on it. Calls may come from several threads; each holds one slot.

    ``context`` is the longest prompt with its answer in tokens, for each of ``slots``. ``threads``: None takes OMP_NUM_THREADS,
    else the cores that this process may run on. Deadlines are points of ``time.monotonic()``; past one, TimeoutError is raised
    as soon as llama.cpp reports next (after every 512 prompt tokens and every generated one), and the work stops.
    """

    def __init__(self, path: Path, *, adapter: Path | None = None, context: int = 4096, slots: int = 1, threads: int | None = None):
        self.path, self.context, self.slots = Path(path), context, Slots(slots)
        self._server: Any = _start(self.path, adapter, context, slots, threads or default_threads())
        # A token that is a whole character. llama.cpp tells no probabilities of a drawn token that is a part of one.
        self._plain: int = _first_token(self._ask([0], None, max_tokens=1, temperature=0, n_probs=1, grammar='root ::= "a"'))["id"]

    def __enter__(self) -> LlamaCpp:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Wait for what is being answered, then free the model."""
        self.slots.close()
        self._server = None

    # -- what is asked ----------------------------------------------------------------------------------------------------

    def warm(self, prompt: list[int]) -> None:
        """Read a prompt prefix and keep a slot for prompts that begin with it."""
        self.slots.keep(prompt)
        self._ask(prompt, None, max_tokens=1, temperature=0)

    def branch(self, prompt: list[int], options: Sequence[int], *, deadline: float | None = None) -> dict[int, float]:
        """Log-probability of each of ``options`` as the next token, scaled to sum 1 over them. One request.

        The options' logits are lifted alike, so that they are the only candidates left, and llama.cpp gives their softmax. A plain
        token is lifted higher and drawn. What was added is taken off again.
        """
        if len(options) == 1:
            return {options[0]: 0.0}
        lifts = {t: LIFT for t in options} | {self._plain: LIFT + DRAW}
        reply = self._ask(prompt, deadline, max_tokens=1, temperature=HEAT, samplers=["top_k", "temperature"], top_k=len(lifts),
                          n_probs=len(lifts), post_sampling_probs=True, logit_bias=list(lifts.items()))
        found = {c["id"]: HEAT * math.log(c["prob"]) - lifts.get(c["id"], 0) for c in _first_token(reply)["top_probs"] if c["prob"] > 0}
        if set(found) != set(lifts):
            raise RuntimeError(f"{self.path.name}: llama.cpp did not give the probabilities of the {len(lifts)} tokens asked for")
        best = max(found[t] for t in options)
        total = best + math.log(sum(math.exp(found[t] - best) for t in options))
        return {t: found[t] - total for t in options}

    def next_log_probs(self, prompt: list[int], tokens: Sequence[int], *, deadline: float | None = None) -> dict[int, float]:
        """Log-probability of each of ``tokens`` as the next token, over the whole vocabulary. One request, or two for rare tokens."""
        reply = self._ask(prompt, deadline, max_tokens=1, temperature=0, n_probs=TOP, logit_bias=[[self._plain, 10 * DRAW]])
        top = {c["id"]: c["logprob"] for c in _first_token(reply)["top_logprobs"]}  # of the logits without the bias
        rare = [t for t in tokens if t not in top]
        if rare:  # from their odds against a token whose probability is known
            known = max(top, key=top.__getitem__)
            odds = self.branch(prompt, [known, *rare], deadline=deadline)
            top |= {t: top[known] + odds[t] - odds[known] for t in rare}
        return {t: top[t] for t in tokens}

    def score(self, prompt: list[int], continuations: list[list[int]], *, deadline: float | None = None) -> list[float]:
        """Summed log-probability of each continuation, over the whole vocabulary, every token counted.

        The continuations are walked as a tree of tokens: what they share is read and asked once. To decide between answers,
        ``branch`` at the branching points is cheaper, and is what a model restricted to the answers would do.
        """
        options: dict[tuple[int, ...], dict[int, None]] = {}
        for ids in continuations:
            for k, token in enumerate(ids):
                options.setdefault(tuple(ids[:k]), {})[token] = None
        logs = {prefix: self.next_log_probs([*prompt, *prefix], list(tokens), deadline=deadline) for prefix, tokens in options.items()}
        return [sum(logs[tuple(ids[:k])][t] for k, t in enumerate(ids)) for ids in continuations]

    def generate(self, prompt: list[int], *, max_tokens: int, schema: dict | None = None, lark: str | None = None,
                 drawing: Drawing = GREEDY, anew: bool = False, deadline: float | None = None) -> Completion:
        """Generate, greedily or as ``drawing`` says: free, as compact JSON under ``schema``, or a text of a grammar in llguidance's
        dialect of Lark. ``anew`` reads the whole prompt, so that what was asked before has no part in the answer's last bits.

        Check ``finish_reason``: strings and numbers without a bound may fill ``max_tokens``. Raises UserError for a schema or
        grammar that cannot be followed; llama.cpp would drop it without a word.
        """
        fields = {} if schema is None and lark is None else {"grammar": json_grammar(schema) if lark is None else lark_grammar(lark)}
        fields |= drawing.fields() | {"cache_prompt": not anew}
        reply = self._ask(prompt, deadline, max_tokens=max_tokens, return_tokens=True, verbose=True, **fields)
        choice, timings = reply["choices"][0], reply["timings"]
        told = reply["__verbose"]
        return Completion(choice["text"], told["tokens"], choice["finish_reason"], len(prompt), timings["cache_n"],
                          timings["prompt_ms"], timings["predicted_ms"], timings["predicted_n"], told.get("pieces"))

    # -- how it is asked --------------------------------------------------------------------------------------------------

    def _ask(self, prompt: list[int], deadline: float | None, **fields) -> dict[str, Any]:
        """One completion request. With a deadline it is streamed, so that it can be stopped between two reports."""
        with self.slots.taken(prompt, deadline) as slot:
            request = {"prompt": prompt, "id_slot": slot, "cache_prompt": True, "seed": 0, **fields}
            reply = self._server.handle_completions(request) if deadline is None else self._stream(request, deadline)
        if "error" in reply:
            self._refuse(reply["error"])
        return reply

    def _stream(self, request: dict[str, Any], deadline: float) -> dict[str, Any]:
        if time.monotonic() >= deadline:
            raise TimeoutError("the deadline had passed before the request was begun")
        chunks: list[dict] = []
        late = False

        def more(chunk: dict) -> bool:
            nonlocal late
            chunks.append(chunk)
            late = time.monotonic() >= deadline and "timings" not in chunk  # a whole answer is not thrown away
            return late

        self._server.handle_completions(request | {"stream": True, "return_progress": True}, more)
        if late:
            raise TimeoutError("the deadline passed before the answer was there")
        return joined(chunks)

    def _refuse(self, error: dict[str, Any]) -> None:
        if error.get("type") == "exceed_context_size_error":
            raise UserError(f"{self.path.name}: a prompt of {error['n_prompt_tokens']} tokens, more than its context of {error['n_ctx']}; "
                            "shorten the input or give the engine more context")
        raise RuntimeError(f"{self.path.name}: llama.cpp refused a request: {error.get('message', error)}")


def _start(path: Path, adapter: Path | None, context: int, slots: int, threads: int):
    """The server object. Its HTTP port is not for use: it is on loopback, behind a random key, with nothing to be looked up."""
    for file in (path, *([adapter] if adapter else [])):
        check_gguf(Path(file))
    try:
        import xllamacpp
    except ImportError as e:
        raise UserError(f"GGUF files are run by the package xllamacpp, which cannot be imported ({e}); "
                        "install it with: pip install 'scionwood[export]'") from None
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    if adapter:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), 1.0)]
    params.n_ctx, params.n_parallel = context * slots, slots
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    if Path(path).stat().st_size <= SMALL_FILE:  # rounding in the attention would decide near ties, and its cache is small in float32
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_ram_mib = 0  # slots are chosen here, so llama.cpp's own second cache would only copy
    params.fit_params = False  # the context is what was asked for, or an error
    params.verbosity = -1  # prompts are nobody else's business
    params.api_keys, params.cors_origins, params.ui, params.endpoint_slots = [secrets.token_urlsafe(32)], "", False, False
    try:
        return xllamacpp.Server(params)
    except RuntimeError:
        what = f"{path} with adapter {adapter}" if adapter else str(path)
        raise UserError(f"{what}: llama.cpp cannot load it (torn, of a family that it does not know, or too large for the memory); "
                        "export it anew") from None


def check_gguf(path: Path) -> None:
    """Refuse what is not a GGUF file before llama.cpp, which says no reason, sees it."""
    try:
        with open(path, "rb") as f:
            magic = f.read(4)
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({e.strerror}); 'scion export' writes one") from None
    if magic != b"GGUF":
        raise UserError(f"{path}: not a GGUF file; 'scion export' writes one")


def default_threads() -> int:
    """OMP_NUM_THREADS where it is set, else the cores that this process may run on."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def json_grammar(schema: dict) -> str:
    """A JSON schema as llguidance's grammar for compact JSON. Raises UserError where llguidance cannot follow it."""
    from llguidance import LLMatcher

    compact = {**schema, "x-guidance": {"whitespace_flexible": False}}
    wrong = LLMatcher.validate_grammar(LLMatcher.grammar_from_json_schema(compact))
    if wrong:
        raise UserError(f"JSON schema: it cannot be decoded ({' '.join(wrong.split())}); change it")
    return f"{GUIDANCE}\nstart: %json {json.dumps(compact, ensure_ascii=False)}"


def lark_grammar(lark: str) -> str:
    """A Lark grammar under the head by which llama.cpp hands it to llguidance. Raises UserError where that cannot follow it."""
    from llguidance import LLMatcher

    wrong = LLMatcher.validate_grammar(LLMatcher.grammar_from_lark(lark))
    if wrong:
        raise UserError(f"grammar: it cannot be decoded ({' '.join(wrong.split())}); change it")
    return f"{GUIDANCE}\n{lark}"


def joined(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """A streamed reply as the one that comes without streaming."""
    if "choices" not in chunks[-1]:
        return chunks[-1]  # an error
    parts = [c["choices"][0] for c in chunks if c.get("choices")]
    content = [t for p in parts if p.get("logprobs") for t in p["logprobs"]["content"]]
    choice = parts[-1] | {"text": "".join(p["text"] for p in parts), "logprobs": {"content": content} if content else None}
    # a report of progress carries a token 0 that was never written
    each = [c for c in chunks if "prompt_progress" not in c and c.get("__verbose", {}).get("tokens")]
    tokens, pieces = [t for c in each for t in c["__verbose"]["tokens"]], [c["choices"][0]["text"] for c in each]
    return chunks[-1] | {"choices": [choice], "__verbose": {"tokens": tokens, "pieces": pieces}}


def _first_token(reply: dict[str, Any]) -> dict[str, Any]:
    """What a reply says about the first token that was drawn."""
    return reply["choices"][0]["logprobs"]["content"][0]
