"""Text files to documents, and documents to splits."""

import hashlib
import lzma
import unicodedata
from pathlib import Path
from typing import Iterator

from scionwood.errors import UserError

SEPARATOR = "<|doc|>"  # alone on a line, between two documents of one file


def sources(folder: Path) -> dict[str, Path]:
    """Return ``{source name: file}`` for every ``*.txt`` and ``*.txt.xz`` in a folder."""
    folder = Path(folder)
    found = {p.name.split(".txt")[0]: p for p in sorted(folder.glob("*.txt*")) if p.name.endswith((".txt", ".txt.xz"))}
    if not found:
        raise UserError(f"{folder}: no *.txt or *.txt.xz file there; name a folder of text files with --corpus")
    return found


def documents(path: Path) -> Iterator[str]:
    """Yield the documents of one file, stripped and NFC-normalised (llama.cpp does not normalise, so we do it at the door)."""
    opener = lzma.open if path.name.endswith(".xz") else open
    lines: list[str] = []
    try:
        with opener(path, "rt", encoding="utf-8") as f:
            for line in f:
                if line.rstrip("\n") == SEPARATOR:
                    text = unicodedata.normalize("NFC", "".join(lines)).strip()
                    if text:
                        yield text
                    lines = []
                else:
                    lines.append(line)
    except (UnicodeDecodeError, lzma.LZMAError) as e:
        raise UserError(f"{path}: not UTF-8 text ({e})") from None
    text = unicodedata.normalize("NFC", "".join(lines)).strip()
    if text:
        yield text


def is_held_out(text: str, one_in: int = 200) -> bool:
    """Whether a document belongs to the held-out part: decided by its content alone, so it never moves between runs."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % one_in == 0
