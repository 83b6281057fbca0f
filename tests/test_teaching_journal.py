"""The journal loses nothing that was written and keeps nothing that was torn."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scionwood.errors import UserError
from scionwood.teaching.journal import ERROR, OK, Journal, make_row

MESSAGES = [{"role": "user", "content": "hello"}]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)  # newlines, U+2028 and the like included
ROWS = st.lists(
    st.builds(lambda case, key, text: make_row(case, key, MESSAGES, OK, text), TEXT, TEXT, TEXT), min_size=1, max_size=5
)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, cut=st.floats(0, 1))
def test_a_journal_cut_at_any_byte_keeps_every_whole_row_and_goes_on(rows, cut):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        with Journal(path) as journal:
            ends = [journal.append(r) or path.stat().st_size for r in rows]
        size = round(cut * ends[-1])
        path.write_bytes(path.read_bytes()[:size])
        whole = sum(end - 1 <= size for end in ends)  # a row is whole without its newline too

        more = make_row("more", "more", MESSAGES, OK, "näher\u2028")
        with Journal(path) as journal:
            assert journal.rows == rows[:whole]
            assert journal.torn == max(0, size - ([0] + ends)[whole])
            journal.append(more)
        assert [json.loads(line) for line in path.read_bytes().decode().split("\n")[:-1]] == rows[:whole] + [more]
        with Journal(path) as journal:
            assert journal.rows == rows[:whole] + [more] and journal.torn == 0


def test_answers_are_the_last_ok_rows_and_tokens_count_every_call():
    journal = Journal(None)
    for text, status, used in [("a", OK, (3, 1)), ("b", OK, (3, 2)), ("", ERROR, (3, 0)), ("", ERROR, (None, None))]:
        journal.append(make_row("c1", "k", MESSAGES, status, text, "", *used))
    assert journal.answers()["k"]["text"] == "b"
    assert journal.tokens() == 12


@pytest.mark.parametrize(
    "line, says",
    [
        (b'{"case": "x', "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[1]", "object is expected"),
        (b'{"case": "x", "text": "", "status": "ok"}', "'key' is missing"),
        (b'{"case": "x", "key": "k", "text": "", "status": "fine"}', "status = 'fine'"),
    ],
)
def test_a_bad_line_that_is_not_the_last_is_an_error_with_its_number_and_the_file_stays(tmp_path, line, says):
    path = tmp_path / "journal.jsonl"
    row = json.dumps(make_row("c", "k", MESSAGES, OK)).encode()
    path.write_bytes(row + b"\n" + line + b"\n" + row + b"\n")
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"journal\.jsonl:2: ") as e:
        Journal(path)
    assert says in str(e.value) and path.read_bytes() == before


def test_a_write_that_fails_half_way_leaves_no_half_line(tmp_path):
    class Full:
        """A disk with room for ten more bytes."""

        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data):
            return self.file.write(data[:10])

    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append(make_row("a", "a", MESSAGES, OK))
        before, file = path.read_bytes(), journal._file
        journal._file = Full(file)
        with pytest.raises(UserError, match="cannot be written"):
            journal.append(make_row("b", "b", MESSAGES, OK))
        journal._file = file
        assert path.read_bytes() == before and len(journal.rows) == 1


def test_a_second_writer_is_turned_away(tmp_path):
    pytest.importorskip("fcntl")
    with Journal(tmp_path / "journal.jsonl"):
        with pytest.raises(UserError, match="another process"):
            Journal(tmp_path / "journal.jsonl")
    Journal(tmp_path / "journal.jsonl").close()
