"""An OpenAI-compatible endpoint as a contestant: llama-server, Ollama, vLLM, a hosted service, or a sidecar of our own."""

from __future__ import annotations

import time
from typing import Any, Callable, Sequence
from urllib.parse import urlsplit

from scionwood.errors import UserError
from scionwood.serving.settings import HOTTEST
from scionwood.settings import check
from scionwood.tasks.lantern.duel.asking import STANDING, Asked
from scionwood.tasks.lantern.duel.contestants import Contestant
from scionwood.teaching.endpoint import LOOPBACK, Endpoint, Request, ask_all
from scionwood.teaching.journal import OK, Row

LOADING_S, PATIENCE_S = 60.0, 10.0  # how long a server may be loading, and how long one reply may take
CUT = "cut off at max_tokens"  # how the endpoint client names an answer of the greatest length


class Rows:
    """What the endpoint client takes for its journal: rows are handed on, none is kept."""

    def __init__(self, done: Callable[[Row], None]):
        self.rows, self.done = [], done

    def append(self, row: Row) -> None:
        """Hand a row on."""
        self.done(row)

    def tokens(self) -> int:
        """Tokens used before: there is no budget here."""
        return 0


class OverHttp:
    """Asks an endpoint. The key comes from the environment; its name, the model and all of the sampling are recorded, the key is not.

    Sampling that is left at its neutral value is not sent, since not every server knows ``min_p``. A sidecar of ours is
    recognised by its list of models. It draws as files in this process are drawn from, with the same seeds, and it alone can be
    kept from ending an answer; the hash that it tells of its file is part of its identity.
    """

    def __init__(self, contestant: Contestant, say: Callable[[str], None]):
        self.contestant = contestant
        s, o = contestant.sampling, contestant.options
        self.endpoint = check(
            {
                "base_url": contestant.what,
                "model": o.model,
                "api_key_env": o.key_env,
                "temperature": s.temperature,
                "max_tokens": s.tokens,
                "timeout_s": o.timeout_s,
                "concurrency": o.concurrency,
                "extra": {},
            },
            Endpoint,
            f"contestant '{contestant.name}'",
        )
        self.sidecar = served_by_us(self.endpoint)
        self.identity = {"endpoint": self.endpoint.base_url, "model": o.model}
        if self.sidecar:
            serves, rev = (str(self.sidecar.get(k)) for k in ("id", "model_rev"))
            say(f"{contestant.name}: a sidecar of Scionwood with {serves}, revision {rev}")
            self.identity |= {"serves": serves, "model_rev": rev}
            if s.temperature > HOTTEST:
                raise UserError(
                    f"contestant '{contestant.name}': a sidecar takes temperatures from 0 to {HOTTEST:g}, not {s.temperature:g}; lower "
                    "--temperature, or name the .gguf file itself, which is sampled in this process"
                )
        elif s.keep_going:
            raise UserError(
                f"contestant '{contestant.name}': an endpoint cannot be kept from ending its answer; leave out --keep-going, and ask "
                "for the length with --note"
            )

    def extra(self, a: Asked) -> dict[str, Any]:
        """What a request carries beside the prompt."""
        s = self.contestant.sampling
        seeded = {"seed": a.number} if self.contestant.options.send_seed else {}
        drawn = ({"top_p": s.top_p} if s.top_p < 1 else {}) | ({"min_p": s.min_p} if s.min_p else {})
        if self.sidecar:
            return seeded | drawn | ({"ignore_eos": True} if s.keep_going and not a.brief else {})
        return seeded | drawn | ({"chat_template_kwargs": {"enable_thinking": False}} if self.endpoint.api_key_env is None else {})

    def answer(self, asked: Sequence[Asked], done: Callable[[Asked, Row], None]) -> None:
        """Ask sample by sample. Time-outs and refusals stand, as they do in every measurement."""
        for sample in sorted({a.sample for a in asked}):
            by_case = {a.case: a for a in asked if a.sample == sample}

            def answered(row: Row) -> None:
                row = whole(row)
                self._not_cut_short(row)
                done(by_case[row["case"]], row)

            requests = [Request(a.case, list(a.messages), extra=self.extra(a)) for a in by_case.values()]
            ask_all(self.endpoint, requests, Rows(answered), final=STANDING)

    def _not_cut_short(self, row: Row) -> None:
        """A sidecar has a limit of its own for answers, which is lower than a long answer needs."""
        written, wanted = row["completion_tokens"], self.contestant.sampling.tokens
        if self.sidecar and row["status"] == OK and not row["ended"] and written is not None and written < wanted:
            raise UserError(
                f"contestant '{self.contestant.name}': the sidecar cut an answer at {written} tokens, where up to {wanted} were asked for; "
                f"start it with --max-tokens {wanted} (and, where its context is too short for that, a larger --context), or lower --tokens"
            )

    def close(self) -> None:
        """Connections are closed after every sample."""


def whole(row: Row) -> Row:
    """An answer of the greatest length is an answer here, since all are cut to one length."""
    if row["status"] != OK and row["reason"].startswith(CUT) and row["text"].strip():
        return row | {"status": OK, "reason": "", "ended": False}
    return row | {"ended": True}


def trusted(endpoint: Endpoint) -> bool:
    """Whether a proxy of the environment may stand between: never between this machine and itself."""
    return urlsplit(endpoint.base_url).hostname not in LOOPBACK


def served_by_us(endpoint: Endpoint) -> dict[str, Any] | None:
    """What a sidecar of ours says of its model. One that is still loading is waited for; None for any other server."""
    import httpx

    key, until = endpoint.api_key(), time.monotonic() + LOADING_S
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    while time.monotonic() < until:
        try:
            reply = httpx.get(endpoint.base_url + "/models", timeout=PATIENCE_S, headers=headers, trust_env=trusted(endpoint))
            if reply.status_code != 503:
                return next((m for m in reply.json()["data"] if m.get("owned_by") == "scionwood"), None)
        except httpx.ReadTimeout:
            pass  # a server that loads may answer nobody meanwhile
        except (httpx.HTTPError, ValueError, LookupError, TypeError, AttributeError):
            return None
        time.sleep(0.5)
    return None
