"""What a sidecar is told: where it listens, how long a caller waits, and what it refuses."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

from pydantic import Field, SecretStr

from scionwood.errors import UserError
from scionwood.settings import Settings

SHORTEST_KEY = 16  # characters
HOTTEST = 2.0  # the highest temperature that a chat completion may ask for, as in OpenAI's API


class Serving(Settings):
    """Times are in milliseconds where the name says so, else in seconds; sizes are in bytes."""

    host: str = "127.0.0.1"
    port: int = Field(8765, ge=0, le=65535)
    api_key: SecretStr | None = None
    state: Path = Path("serving")
    deadline_ms: int = Field(500, ge=1, le=600_000)
    longest_deadline_ms: int = Field(60_000, ge=1, le=600_000)
    max_body: int = Field(256 * 1024, ge=1024)
    body_seconds: float = Field(10.0, gt=0)
    max_open: int = Field(256, ge=1)
    max_waiting: int = Field(32, ge=1)
    max_late: int = Field(1000, ge=0)
    keep_hours: float = Field(24.0, gt=0)
    drain_seconds: float = Field(10.0, ge=0)
    max_tokens: int = Field(256, ge=1)
    threads: int | None = Field(None, ge=1)
    parallel: int = Field(1, ge=1, le=64)
    context: int | None = Field(None, ge=256)


def is_loopback(host: str) -> bool:
    """Whether a host name or address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]").split("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"


def check_exposed(settings: Serving) -> None:
    """Refuse to listen beyond this machine without a key, and keys that could be guessed."""
    key = settings.api_key.get_secret_value() if settings.api_key else ""
    if settings.api_key is not None and (len(key) < SHORTEST_KEY or not key.isascii() or not key.isprintable()):
        raise UserError(f"API key: at least {SHORTEST_KEY} printable ASCII characters are needed; make one with: openssl rand -hex 24")
    if not key and not is_loopback(settings.host):
        raise UserError(f"--host {settings.host}: other machines could ask; give an API key with --api-key-file or SCION_API_KEY, "
                        "or listen on 127.0.0.1")


def api_key(file: Path | None) -> str | None:
    """The key from a file, else from SCION_API_KEY; never from the command line, where every process could read it."""
    if file is None:
        return os.environ.get("SCION_API_KEY") or None
    try:
        key = Path(file).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"--api-key-file {file}: cannot be read ({getattr(e, 'strerror', None) or 'not text'})") from None
    if not key:
        raise UserError(f"--api-key-file {file}: is empty; make a key with: openssl rand -hex 24")
    return key
