"""How fast and how much an endpoint is asked: waits between tries, requests per minute, the token budget."""

import asyncio
import random
import time
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

from scionwood.errors import UserError

LONGEST_BACKOFF_S = 60.0


def backoff(attempt: int, first_s: float) -> float:
    """Seconds to wait after try number ``attempt`` (from 0): uniform between 0 and ``first_s`` * 2^attempt.

    Full jitter: clients that failed together come back apart (M. Brooker, "Exponential Backoff And Jitter", AWS
    Architecture Blog, 2015).
    """
    return random.uniform(0, min(LONGEST_BACKOFF_S, first_s * 2**attempt))


def retry_after(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for (a number or an HTTP date, RFC 9110); None where it cannot be read."""
    if not value:
        return None
    value = value.strip()
    if value.isascii() and value.replace(".", "", 1).isdigit():  # a few servers send fractions
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=timezone.utc)
    return max(0.0, (at - datetime.now(timezone.utc)).total_seconds())


class Pace:
    """Spreads requests evenly over the minute; ``hold`` keeps all of them back for a while."""

    def __init__(self, per_minute: float | None):
        self.gap_s = 60 / per_minute if per_minute else 0.0
        self.free_at = 0.0

    def hold(self, seconds: float) -> None:
        self.free_at = max(self.free_at, time.monotonic() + seconds)

    async def turn(self) -> None:
        """Wait until the next request may be sent."""
        now = time.monotonic()
        at = max(now, self.free_at)
        self.free_at = at + self.gap_s
        await asyncio.sleep(at - now)


class Budget:
    """Tokens that may be used in all. Each call reserves the most that it could use and gives back the rest.

    So the budget holds however many calls are under way. A call that does not fit waits for those before it to give back;
    only when none is under way is the budget spent, and no answer that was paid for is lost. What a timed-out call used
    is not known and not counted.
    """

    def __init__(self, limit: int | None, used: int, stop: str):
        """``stop`` ends the error's sentence: how to go on."""
        self.limit, self.used, self.stop = limit, used, stop
        self.reserved = 0
        self.changed = asyncio.Condition()

    def fits(self, most: int) -> bool:
        return self.limit is None or self.used + self.reserved + most <= self.limit

    async def reserve(self, most: int) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: self.fits(most) or not self.reserved)
            if not self.fits(most):
                spent = f"{self.used} tokens are spent and the next call may take up to {most}"
                raise UserError(f"endpoint.budget_tokens = {self.limit}: {spent}; {self.stop}")
            self.reserved += most

    async def settle(self, most: int, used: int) -> None:
        async with self.changed:
            self.reserved -= most
            self.used += used
            self.changed.notify_all()


def most_tokens(messages: list[dict[str, str]], max_tokens: int) -> int:
    """The most tokens that a call is expected to use: two bytes per token is dense even for Chinese or code, plus the
    template's tokens around each message, plus the longest answer that is allowed."""
    return sum(len(m["content"].encode()) // 2 + 8 for m in messages) + max_tokens
