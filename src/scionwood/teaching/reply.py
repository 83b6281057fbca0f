"""What an endpoint's HTTP reply means: an answer, a failure worth another try, or the end of the whole run."""

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scionwood.teaching.journal import ERROR, OK, REFUSED
from scionwood.teaching.pacing import retry_after

if TYPE_CHECKING:
    import httpx

    from scionwood.teaching.endpoint import Endpoint

THINKING = re.compile(r"\s*<think>.*?</think>\s*", re.DOTALL)
LONGEST_WAIT_S = 600.0

# With these, no other case would fare better: the address, the key or the model's name is wrong.
STOPS = {301, 302, 307, 308, 401, 403, 404, 405}


@dataclass(frozen=True)
class Reply:
    """``retry``: another try may help, after ``wait_s`` seconds where the server named them. ``fatal``: the one line with
    which the whole run stops once no try is left."""

    status: str
    text: str = ""
    reason: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    retry: bool = False
    wait_s: float | None = None
    fatal: str = ""


def strip_thinking(text: str) -> str:
    """The text without a leading ``<think>...</think>`` block and the blanks around it."""
    found = THINKING.match(text)
    return text[found.end() :] if found else text


def shorten(text: str, secret: str = "") -> str:
    """At most 200 characters on one line. Some servers quote the key that they refuse, so ``secret`` is blotted out."""
    text = text.replace(secret, "***") if secret else text
    text = " ".join(text.split())
    return text if len(text) <= 200 else text[:197] + "..."


def read(response: "httpx.Response", endpoint: "Endpoint", secret: str = "") -> Reply:
    """Read the reply to a chat completion. Nothing that a server sends raises an error."""
    status, url = response.status_code, endpoint.url()
    if status == 200:
        return read_completion(response.content, endpoint.max_tokens, secret)
    said = _server_says(response.content)
    what = shorten(f"HTTP {status}" + (f" ({said})" if said else ""), secret)
    if status in STOPS:
        return Reply(ERROR, reason=what, fatal=f"{url}: {what}; {_mend(status, endpoint)}")
    if status != 429 and status < 500:
        return Reply(ERROR, reason=what)
    wait = retry_after(response.headers.get("retry-after"))
    if wait is not None and wait > LONGEST_WAIT_S:
        stop = f"{url}: {what}, asks to wait {wait:.0f} s; run it again then, the journal keeps every answer so far"
        return Reply(ERROR, reason=what, fatal=stop)
    return Reply(ERROR, reason=what, retry=True, wait_s=wait)


def read_completion(body: bytes, max_tokens: int, secret: str = "") -> Reply:
    """Read the body of a chat completion that arrived with status 200.

    An answer cut off at ``max_tokens`` is an error and not a short answer: what the model would have said is not known.
    """
    try:
        value = json.loads(body)
        choice = value["choices"][0]
        message = choice["message"]
        text, refusal = message.get("content"), message.get("refusal")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return Reply(ERROR, reason=shorten(f"the reply is no chat completion: {body[:120].decode(errors='replace')}", secret))
    usage = value.get("usage") if isinstance(value.get("usage"), dict) else {}
    used = {name: usage[name] for name in ("prompt_tokens", "completion_tokens") if type(usage.get(name)) is int}
    # A lone surrogate (half an emoji, cut by the server) is legal in JSON but cannot be written as UTF-8.
    text = strip_thinking(text).encode(errors="replace").decode() if isinstance(text, str) else ""
    if refusal or choice.get("finish_reason") == "content_filter":
        return Reply(REFUSED, text, shorten(str(refusal or "content filter"), secret), **used)
    if choice.get("finish_reason") == "length":
        return Reply(ERROR, text, f"cut off at max_tokens = {max_tokens}", **used)
    if not text.strip():
        return Reply(ERROR, text, "the answer is empty", **used)
    return Reply(OK, text, **used)


def _server_says(body: bytes) -> str:
    """The server's own message: {"error": {"message": ...}}, {"error": ...}, {"message": ...} or the text itself."""
    text = body[:2000].decode(errors="replace")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    for name in ("error", "message", "detail"):
        if isinstance(value, dict) and value.get(name):
            value = value[name]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _mend(status: int, endpoint: "Endpoint") -> str:
    if status not in (401, 403):
        return f"check endpoint.base_url (most servers want it to end in /v1) and endpoint.model = '{endpoint.model}'"
    if endpoint.api_key_env:
        return f"check the key in ${endpoint.api_key_env} and its rights to the model '{endpoint.model}'"
    return "name the environment variable that holds the key in endpoint.api_key_env"
