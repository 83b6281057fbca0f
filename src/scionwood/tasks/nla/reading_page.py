"""The page of a reading: one HTML file with everything in it, where a click on a token shows its explanation."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from pathlib import Path

from scionwood.tasks.nla.reading import Reading, shown

FOLDER = Path(__file__).resolve().parent / "page"


def page(reading: Reading) -> str:
    """The whole page as text. It loads nothing, and its policy forbids that it ever does."""
    style, script = ((FOLDER / f"reading.{kind}").read_text("utf-8") for kind in ("css", "js"))
    title = f"Reading of \u201c{' '.join(reading.text.split())[:60]}\u201d"
    parts = {
        "POLICY": f"default-src 'none'; script-src {_hash(script)}; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
        "TITLE": html.escape(title), "STYLE": style, "SCRIPT": script, "TABLE": _table(reading), "DATA": _data(reading),
    }
    whole = (FOLDER / "reading.html").read_text("utf-8")
    pieces = whole.split("@")  # NAME stands between two of them, and what is put in is never looked at again
    return "".join(parts[p] if n % 2 else p for n, p in enumerate(pieces))


def _data(reading: Reading) -> str:
    """JSON that can stand in a script element: no text in it can end that element."""
    return json.dumps(reading.row(), ensure_ascii=False).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _table(reading: Reading) -> str:
    """All tokens as a table, for readers without scripts and for copying."""
    head = "".join(f'<th scope="col"{c}>{name}</th>' for name, c in (
        ("", ' class="number"'), ("token", ""), ("norm", ' class="number"'), ("FVE", ' class="number"'), ("cosine", ' class="number"'),
        ("centred", ' class="number"'), ("explanation", ""), ("take care", "")))
    rows = []
    for t in reading.tokens:
        figures = "".join(f'<td class="number">{"" if v is None else format(v, f".{digits}f")}</td>'
                          for v, digits in ((t.norm, 1), (t.fve, 3), (t.cos, 3), (t.centred, 3)))
        rows.append(f'<tr><td class="number">{t.index}</td><td><code>{html.escape(shown(t.text))}</code></td>{figures}'
                    f"<td>{html.escape(t.said)}</td><td>{html.escape(', '.join(t.marks))}</td></tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
