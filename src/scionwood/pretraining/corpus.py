"""Text files to documents, and documents to splits."""

import hashlib
import lzma
import unicodedata
from pathlib import Path
from typing import Iterator

from scionwood.errors import UserError
from scionwood.pretraining.tokenizer import INJECTION, SPECIAL, THINK

SEPARATOR = "<|doc|>"  # alone on a line, between two documents of one file
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def sources(folder: Path) -> dict[str, Path]:
    """Return ``{source name: file}`` for every ``*.txt`` and ``*.txt.xz`` in a folder."""
    folder = Path(folder)
    found: dict[str, Path] = {}
    for p in sorted(folder.glob("*.txt*")):
        if not p.name.endswith((".txt", ".txt.xz")):
            continue
        name = p.name.removesuffix(".xz").removesuffix(".txt")
        if name in found:
            raise UserError(f"{folder}: source '{name}' is there twice, as {found[name].name} and {p.name}; remove one")
        found[name] = p
    if not found:
        raise UserError(f"{folder}: no *.txt or *.txt.xz file there; name a folder of text files with --corpus")
    return found


def clean(text: str) -> str:
    """A document as it is trained and measured: NFC, stripped, and with nothing in it that is read as a control token.

    llama.cpp does not normalise, so we do it at the door. The names of control tokens are broken up by a blank, as the prompt
    renderer does; the injection character, which training must never show, becomes the "(가)" that it depicts.
    """
    text = unicodedata.normalize("NFC", text.replace(INJECTION, unicodedata.normalize("NFKC", INJECTION))).strip()
    for control in SPECIAL + THINK:
        if control in text:
            text = text.replace(control, control[0] + " " + control[1:])
    return text


def documents(path: Path) -> Iterator[str]:
    """Yield the documents of one file, cleaned; empty ones are passed over. Raises UserError naming file and line of bad text."""
    opener = lzma.open if path.name.endswith(".xz") else open
    lines: list[str] = []
    number = 0
    try:
        with opener(path, "rb") as f:
            for number, raw in enumerate(f, 1):
                line = raw.removeprefix(BYTE_ORDER_MARK if number == 1 else b"").decode("utf-8")
                if line.rstrip("\r\n") == SEPARATOR:
                    if text := clean(_joined(lines)):
                        yield text
                    lines = []
                else:
                    lines.append(line)
    except UnicodeDecodeError as e:
        raise UserError(f"{path}, line {number}: not UTF-8 text (byte {e.object[e.start]:#04x}); convert the file to UTF-8") from None
    except (lzma.LZMAError, EOFError) as e:
        raise UserError(f"{path}: not a whole xz file ({e}); fetch or pack it again") from None
    if text := clean(_joined(lines)):
        yield text


def _joined(lines: list[str]) -> str:
    return "".join(lines).replace("\r\n", "\n").replace("\r", "\n")


def is_held_out(text: str, one_in: int = 200) -> bool:
    """Whether a document belongs to the held-out part: decided by its content alone, so it never moves between runs."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % one_in == 0
