"""Reading and writing files so that a killed process never leaves half a file behind."""

import contextlib
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Iterator

from scionwood.errors import UserError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary neighbour to write to, which takes the place of ``path`` in the end, or is removed where writing failed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)  # on a full disk above all
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Write atomically: to a temporary neighbour, flushed to the disk, then renamed over ``path``."""
    with replacing(path) as part, open(part, "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value) -> None:
    """Write one JSON value atomically."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def write_jsonl(path: Path, rows) -> None:
    """Write rows as JSON lines atomically."""
    write_text(path, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))


def write_tensors(path: Path, tensors: dict, metadata: dict | None = None) -> None:
    """Write a safetensors file atomically. Metadata values are strings."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with replacing(path) as part:
        try:
            save_file(tensors, part, metadata=metadata or {})
        except SafetensorError as e:  # a full disk, in safetensors' words
            raise UserError(f"{path}: cannot be written ({e}); make room and run it again") from None
        with open(part, "r+b") as f:  # Windows flushes only what is open for writing
            os.fsync(f.fileno())


def sweep(folder: Path) -> None:
    """Remove the temporary files that killed processes left below ``folder``. Nobody else may be writing there."""
    for part in Path(folder).rglob("*.part"):
        if part.is_file() and re.search(r"\.\d+\.part$", part.name):
            part.unlink(missing_ok=True)


def read_json(path: Path):
    """Read one JSON value. Raises UserError where the file is missing or broken."""
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except ValueError as e:
        raise UserError(f"{path}: not valid JSON ({e}); mend or remove it") from None


def read_jsonl(path: Path) -> list[dict]:
    """Read JSON lines. A bad line is an error that names file and line; blank lines are passed over."""
    rows = []
    try:
        text = Path(path).read_text("utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnicodeDecodeError as e:
        raise UserError(f"{path}: not UTF-8 text ({e})") from None
    for n, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as e:
            raise UserError(f"{path}:{n}: not valid JSON ({e}); mend or remove the line") from None
        if not isinstance(row, dict):
            raise UserError(f"{path}:{n}: a JSON object is expected on every line")
        if "\\ud" in line.lower() and not _is_text(row):
            raise UserError(f"{path}:{n}: half of a surrogate pair (\\ud800 to \\udfff) is no character; write the character itself")
        rows.append(row)
    return rows


def _is_text(value) -> bool:
    """Whether all strings of a JSON value can be written as UTF-8."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def file_hash(path: Path) -> str:
    """SHA-256 of one file, or of every file below a folder (names and contents), as hex."""
    path = Path(path)
    if path.is_dir():
        whole = hashlib.sha256()
        for p in sorted(q for q in path.rglob("*") if q.is_file() and not q.name.endswith(".part")):
            whole.update(f"{p.relative_to(path).as_posix()}\0{file_hash(p)}\n".encode())
        return whole.hexdigest()
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def text_hash(value) -> str:
    """SHA-256 of a JSON value in canonical form (sorted keys), as hex."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
