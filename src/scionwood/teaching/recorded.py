"""A teacher that is a file: answers written down earlier, by a model, a person or another program."""

from pathlib import Path
from typing import Iterable

from scionwood.errors import UserError
from scionwood.teaching.journal import OK, REFUSED, Row, check_row, parse_lines

MISSING = "no recorded answer"


def read_recorded(path: Path) -> dict[str, Row]:
    """Read {"case", "text"} lines or a teacher journal: the last ok row of each case, else its last row.

    The file is never changed. The torn last line of a journal is passed over, as a journal that is opened does; in any
    other file it is an error, because nothing says that its writer was killed.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as e:
        raise UserError(f"{path}: the recorded teacher cannot be read ({e.strerror}); check [teacher] path") from None
    lines, torn = parse_lines(path, data)
    if torn.strip() and not (lines and "key" in lines[0][1]):
        raise UserError(f"{path}: the last line is cut off; mend or remove it")
    rows: dict[str, Row] = {}
    for n, line in lines:
        row = check_row(path, n, {"status": OK, "reason": "", **line}, ("case", "text", "status"))
        if row["status"] == OK or rows.get(row["case"], row)["status"] != OK:
            rows[row["case"]] = row
    return rows


def missing_row(case: str) -> Row:
    """The row of a case that the file does not answer."""
    return {"case": case, "text": "", "status": REFUSED, "reason": MISSING}


def recall_all(path: Path, cases: Iterable[str]) -> dict[str, Row]:
    """What ``ask_all`` returns, from a file: a row per case id; a case without one is refused with 'no recorded answer'."""
    rows = read_recorded(path)
    return {case: rows.get(case) or missing_row(case) for case in cases}
