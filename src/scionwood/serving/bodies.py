"""Bodies of requests: bounded in size, time and depth, and decoded as strict JSON."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.requests import ClientDisconnect, Request

from scionwood.serving.refusals import Refused

DEEPEST = 64  # brackets within brackets


async def read_json(request: Request, most: int, seconds: float) -> Any:
    """The decoded body. Raises Refused: 415, 413, 408 or 400. Nothing of the body is in the message."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        # also keeps web pages out: a browser does not send this type to another origin unasked
        raise Refused(415, "send the body as application/json")
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > most:
        raise Refused(413, f"the body is larger than {most} bytes", {"Connection": "close"})
    try:
        async with asyncio.timeout(seconds):
            return decode(await _body(request, most))
    except TimeoutError:
        raise Refused(408, f"the body did not come within {seconds:g} s", {"Connection": "close"}) from None
    except ClientDisconnect:
        raise Refused(400, "the body broke off") from None


async def _body(request: Request, most: int) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise Refused(413, f"the body is larger than {most} bytes", {"Connection": "close"})
        parts.append(part)
    return b"".join(parts)


def _refuse(name: str) -> None:
    raise ValueError(name)


def decode(raw: bytes) -> Any:
    """Strict JSON: no NaN, no endless nesting, nothing but UTF-8."""
    try:
        value = json.loads(raw.decode("utf-8"), parse_constant=_refuse)
    except UnicodeDecodeError:
        raise Refused(400, "the body is not UTF-8") from None
    except (ValueError, RecursionError):
        raise Refused(400, "the body is not JSON") from None
    level = [value]
    for _ in range(DEEPEST):
        level = [inner for v in level if isinstance(v, (list, dict)) for inner in (v.values() if isinstance(v, dict) else v)]
        if not level:
            return value
    raise Refused(400, f"the body is nested deeper than {DEEPEST} levels")
