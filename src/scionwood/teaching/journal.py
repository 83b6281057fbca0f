"""The teacher journal: every call to a teacher on a line of its own, appended and never changed.

A row holds ``case``, ``key``, ``messages_hash``, ``text``, ``status`` (ok, error, timeout or refused), ``reason``,
``prompt_tokens``, ``completion_tokens`` (None where the server did not say), ``latency_ms`` and ``when`` (UTC). It holds
neither the parameters of the call nor any header, so that an API key has no way into it.
"""

import errno
import json
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from scionwood.errors import UserError
from scionwood.files import text_hash

OK, ERROR, TIMEOUT, REFUSED = "ok", "error", "timeout", "refused"
STATUSES = (OK, ERROR, TIMEOUT, REFUSED)

Row = dict[str, Any]


def make_row(
    case: str,
    key: str,
    messages: list[dict[str, str]],
    status: str,
    text: str = "",
    reason: str = "",
    prompt_tokens: int | None = None,
    completion_tokens: int | None = None,
    latency_ms: float | None = None,
) -> Row:
    """One row of the journal, dated now."""
    return {
        "case": case,
        "key": key,
        "messages_hash": text_hash(messages),
        "text": text,
        "status": status,
        "reason": reason,
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "latency_ms": latency_ms,
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def tokens(row: Row) -> int:
    """Tokens that a call used, as the server counted them; 0 where it did not say."""
    return (row.get("prompt_tokens") or 0) + (row.get("completion_tokens") or 0)


def parse_lines(path: Path, data: bytes) -> tuple[list[tuple[int, Row]], bytes]:
    """Split JSON lines into (line number, row) pairs and a torn tail, empty where the file is whole.

    A newline is the last byte of a row to be written, so only text after the last newline can be torn. Where that text is
    a whole object after all (only its newline is missing, or an editor left it out), it is a row: no prefix of an object
    is itself valid JSON. A bad line anywhere else is damage of another kind, and a UserError that names file and line.
    """
    *lines, tail = data.split(b"\n")
    rows = [(n, _parse(path, n, line)) for n, line in enumerate(lines, 1) if line.strip()]
    try:
        json.loads(tail.decode())
    except ValueError:
        return rows, tail
    return rows + [(len(lines) + 1, _parse(path, len(lines) + 1, tail))], b""


def _parse(path: Path, n: int, line: bytes) -> Row:
    try:
        row = json.loads(line.decode())
    except ValueError as e:
        raise UserError(f"{path}:{n}: not valid JSON ({e}); mend or remove the line") from None
    if not isinstance(row, dict):
        raise UserError(f"{path}:{n}: a JSON object is expected on every line")
    return row


def check_row(path: Path, n: int, row: Row, names: tuple[str, ...] = ("case", "key", "text", "status")) -> Row:
    """The row, or a UserError where one of ``names`` is not a string in it or the status is unknown."""
    for name in names:
        if not isinstance(row.get(name), str):
            raise UserError(f"{path}:{n}: '{name}' is missing or not a string; every row needs {', '.join(names)}")
    if row["status"] not in STATUSES:
        raise UserError(f"{path}:{n}: status = {row['status']!r}: expected one of {', '.join(STATUSES)}")
    return row


class Journal:
    """An append-only file of rows, or with ``path`` None the same thing in memory. Close it, or use it in a ``with``.

    Every row is on the disk before ``append`` returns. A line torn by a killed process is cut off when the journal is next
    opened (``torn`` says how many bytes). One process writes at a time; a second one gets a UserError, because it would
    take the first one's half-written line for a torn one.
    """

    def __init__(self, path: Path | None):
        self.path = Path(path) if path is not None else None
        self.rows: list[Row] = []
        self.torn = 0
        self._file = None
        if self.path is not None:
            self._open()

    def _open(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered, so that a failed write leaves nothing behind in a buffer that would be written later.
            self._file = open(self.path, "a+b", buffering=0)
        except OSError as e:
            raise UserError(f"{self.path}: the journal cannot be opened ({e.strerror})") from None
        try:
            _lock(self._file, self.path)
            self._file.seek(0)
            lines, torn = parse_lines(self.path, self._file.readall())
            self.rows = [check_row(self.path, n, row) for n, row in lines]
            self._heal(len(torn))
        except BaseException:
            self._file.close()
            raise

    def _heal(self, torn: int) -> None:
        """Cut off a torn line, and end a whole last line that has no newline."""
        size = self._file.seek(0, os.SEEK_END) - torn
        if torn:
            self._file.truncate(size)
        self.torn = torn
        if size:
            self._file.seek(size - 1)
            if self._file.read(1) != b"\n":
                self._write(b"\n")

    def _write(self, data: bytes) -> None:
        """Write all of ``data`` to the disk, or none of it."""
        size = self._file.seek(0, os.SEEK_END)
        try:
            if self._file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
        except OSError as e:
            self._file.truncate(size)
            raise UserError(f"{self.path}: the journal cannot be written ({e.strerror}); make room and run it again") from None
        except BaseException:  # an interrupt between write and fsync: the caller never learns of the row, so it must not stay
            self._file.truncate(size)
            raise

    def append(self, row: Row) -> None:
        if self._file is not None:
            self._write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        self.rows.append(row)

    def answers(self) -> dict[str, Row]:
        """The last ok row of each key: what need not be asked again."""
        return {row["key"]: row for row in self.rows if row["status"] == OK}

    def tokens(self) -> int:
        """Tokens that all calls of this journal used, failed ones included where the server counted them."""
        return sum(tokens(row) for row in self.rows)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _lock(file, path: Path) -> None:
    """Hold ``file`` for this process alone; the system lets go of it when the process ends, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows: no such lock; two writers at once are then the user's to avoid
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        if e.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise UserError(f"{path}: another process is writing this journal; wait for it or stop it") from None
        # A file system without locks (some network mounts): go on as on Windows.
