"""scion entropy as a user meets it: files, streams, JSON lines, folders, JSON, plots, and one line for every mistake."""

import io
import json
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scionwood.cli import main
from scionwood.errors import UserError
from scionwood.models.loading import embedded_folder
from scionwood.tasks.lantern import documents as reading
from scionwood.tasks.lantern.documents import Fields, decoded, documents, get
from scionwood.tasks.lantern.measures.text import measure_text
from scionwood.tasks.lantern.measures.told import curve, number

PROSE = ("The miller kept no clock. He rose with the water, which came early in spring and late in autumn, and went to bed when the wheel "
         "stood still. People from the upper village said that his flour tasted of the season. ") * 3


@pytest.fixture
def entropy(tmp_path, monkeypatch, capsys):
    """Run ``scion entropy`` in this process, in a folder of its own: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["scion", "entropy", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(stdin), isatty=lambda: False))
        try:
            main()
            code = 0
        except SystemExit as e:
            code = e.code or 0
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


def test_one_text(entropy, tmp_path):
    (tmp_path / "notes.txt").write_text(PROSE)
    code, out, _ = entropy("notes.txt")
    figures = measure_text(PROSE)
    assert code == 0 and f"notes.txt: en, {figures.words} words, {len(PROSE)} characters" in out
    for m in figures.measures.values():
        row = next(line for line in out.splitlines() if line.startswith(m.NAME + " "))
        assert number(m.value, m.UNIT) in row and m.SOURCE in row and f"{m.n:,} {m.OVER}" in row
    assert "zone (published, of E1 alone): TRANSITION" in out and "along the text" in out
    assert entropy("-", stdin=PROSE.encode())[1] == out.replace("notes.txt", "-")


def test_json_is_what_the_api_says(entropy, tmp_path):
    (tmp_path / "notes.txt").write_text(PROSE)
    code, out, _ = entropy("notes.txt", "--json", "--vocabulary", "5000")
    document = json.loads(out)["documents"][0]
    figures = measure_text(PROSE, vocabulary=5000)
    assert document["measures"] == json.loads(json.dumps({k: m.row() for k, m in figures.measures.items()}))
    assert {"value", "unit", "n", "of", "low", "high", "ordinary", "source"} <= set(document["measures"]["H50"])
    assert document["measures"]["E1"]["ordinary"]["low"] < document["measures"]["E1"]["ordinary"]["high"]
    assert document["warning"] == figures.warning and document["zone"] == "TRANSITION"


def test_json_lines(entropy, tmp_path):
    rows = [{"id": i, "message": {"text": " ".join(PROSE.split()[i : 40 + 20 * i])}} for i in range(7)]
    (tmp_path / "rows.jsonl").write_text("\ufeff" + "\n\n".join(map(json.dumps, rows)))
    code, out, _ = entropy("rows.jsonl", "--field", "message.text", "--each")
    assert code == 0 and "7 texts" in out and out.count("rows.jsonl:") == 7 and "7 TRANSITION; in 2 of 7" in out
    value = json.loads(entropy("-", "-f", "message.text", "--json", stdin=(tmp_path / "rows.jsonl").read_bytes())[1])
    assert [d["name"] for d in value["documents"]] == [f"-:{n}" for n in range(1, 14, 2)]
    e1 = value["summary"]["texts"]["measures"]["E1"]
    values = [measure_text(r["message"]["text"]).measures["E1"].value for r in rows]
    assert e1["value"] == pytest.approx(sum(values) / 7) and e1["min"] == min(values) and e1["n"] == 7
    assert e1["low"] < e1["value"] < e1["high"]


def test_sets_of_answers(entropy, tmp_path):
    rows = [{"prompt": "A drink?", "answers": ["Tea", "tea!", "coffee", "water"], "quality": [9, 9, 5, 1]},
            {"prompt": "A walk?", "answers": ["uphill", "downhill"], "quality": [3, 3]}]
    (tmp_path / "sets.jsonl").write_text("\n".join(map(json.dumps, rows)))
    code, out, _ = entropy("sets.jsonl", "-f", "answers", "--scores", "quality", "--json")
    value = json.loads(out)
    first = value["documents"][0]
    assert first["measures"]["distinct_k"]["value"] == 3 and len(first["answers"]) == 4
    assert first["measures"]["utility_k"]["value"] == pytest.approx(0.2 / (1 - 0.8**4) * (9 + 0.64 * 5 + 0.512 * 1))
    assert value["summary"]["sets"]["measures"]["distinct_k"]["value"] == 2.5 and value["summary"]["texts"]["documents"] == 6
    assert "2 sets of answers; the same answer: same words" in entropy("sets.jsonl", "-f", "answers")[1]


def test_a_folder(entropy, tmp_path):
    for name in ("a.txt", "b.md", "sub/c.txt"):
        path = tmp_path / "texts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PROSE)
    (tmp_path / "texts/picture.png").write_bytes(b"\x89PNG")
    code, out, _ = entropy("texts", "--each")
    assert code == 0 and "3 texts" in out and out.index("a.txt") < out.index("b.md") < out.index("c.txt")


@pytest.mark.parametrize("suffix, begin", [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_a_plot(entropy, tmp_path, suffix, begin):
    (tmp_path / "notes.txt").write_text(PROSE)
    plots = [tmp_path / f"{n}{suffix}" for n in "ab"]
    for plot in plots:
        assert entropy("notes.txt", "--plot", plot)[0] == 0
    data = [p.read_bytes() for p in plots]
    assert data[0].startswith(begin) and data[0] == data[1], "the same figures give the same bytes"


@pytest.mark.skipif(not (embedded_folder() / "model.safetensors").exists(), reason="the embedded base has no weights in this checkout")
def test_with_the_embedded_base(entropy, tmp_path):
    rows = [{"q": "What is a mill?", "a": "A mill grinds grain between two stones."},
            {"q": "And a wheel?", "a": "A wheel turns in the water."}]
    (tmp_path / "qa.jsonl").write_text("\n".join(map(json.dumps, rows)))
    value = json.loads(entropy("qa.jsonl", "-f", "a", "--prompt", "q", "--model", "embedded", "--json", "--plot", "x.svg")[1])
    for d in value["documents"]:
        m = d["measures"]["predictive entropy"]
        assert 0 < m["value"] < 9.02 and "chat template" in m["basis"] and m["ordinary"]["mean"] > 0
    assert (tmp_path / "x.svg").exists()


MISTAKES = {
    "no such file": (["none.txt"], "none.txt: no such file or folder"),
    "rows without a field": (["rows.jsonl"], "name the key of the text with --field"),
    "no such key": (["rows.jsonl", "-f", "txet"], "rows.jsonl:1: no key 'txet'; did you mean 'text'?"),
    "not a text": (["rows.jsonl", "-f", "id"], "rows.jsonl:1: 'id' is neither a text nor a list of texts"),
    "a bad line": (["bad.jsonl", "-f", "text"], "bad.jsonl:2: not valid JSON"),
    "no object": (["array.jsonl", "-f", "text"], "array.jsonl:1: a JSON object is expected"),
    "wrong scores": (["sets.jsonl", "-f", "answers", "--scores", "quality"], "'quality' must hold one number for each of the 2 answers"),
    "not UTF-8": (["latin.txt"], "latin.txt: not UTF-8 text (unexpected end of data at byte 3)"),
    "an empty folder": (["empty"], "empty: no file that ends in .txt"),
    "an empty input": (["nothing.jsonl", "-f", "text"], "nothing to measure"),
    "a language": (["a.txt", "--lang", "english"], "--lang english: not a language"),
    "a plot's name": (["a.txt", "--plot", "x.gif"], "must end in .svg, .png, .pdf"),
    "a prompt without a field": (["a.txt", "--prompt", "q"], "name that of the text with --field"),
    "an adapter without a base": (["a.txt", "--adapter", "x"], "name it with --model"),
    "a threshold without a judge": (["a.txt", "--threshold", ".5"], "belongs to --judge"),
    "no such base": (["a.txt", "--model", "./none"], "base './none': no such folder"),
    "no such judge": (["a.txt", "--judge", "./none"], "--judge ./none: no such folder"),
    "too many curves": (["many.jsonl", "-f", "text", "--plot", "x.svg"], "more than 8 texts"),
}


@pytest.mark.parametrize("arguments, message", MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_line(arguments, message, entropy, tmp_path):
    (tmp_path / "a.txt").write_text("a b c")
    (tmp_path / "latin.txt").write_bytes("caf\u00e9".encode("latin-1"))
    (tmp_path / "rows.jsonl").write_text('{"text": "a b", "id": 1}\n')
    (tmp_path / "bad.jsonl").write_text('{"text": "a b"}\n{"text": \n')
    (tmp_path / "array.jsonl").write_text("[1]\n")
    (tmp_path / "many.jsonl").write_text('{"text": "a b"}\n' * 9)
    (tmp_path / "sets.jsonl").write_text('{"answers": ["a", "b"], "quality": [1]}\n')
    (tmp_path / "nothing.jsonl").write_text("\n")
    (tmp_path / "empty").mkdir()
    code, _, err = entropy(*arguments)
    assert code == 2 and message in err and "Traceback" not in err
    assert err.strip().splitlines()[-1].startswith("scion: ")


@settings(max_examples=60, deadline=None)
@given(st.text(), st.integers(1, 9))
def test_texts_are_decoded_whatever_the_size_of_a_read(text, size):
    class Slow(io.BytesIO):
        def read(self, n=-1):
            return super().read(size)

    assert "".join(decoded(Slow(text.encode("utf-8", "ignore")), "x")) == text.encode("utf-8", "ignore").decode().removeprefix("\ufeff")


def test_the_place_of_a_bad_byte_is_told_in_any_block(monkeypatch):
    monkeypatch.setattr(reading, "BYTES", 4)
    with pytest.raises(UserError, match="at byte 6"):
        "".join(decoded(io.BytesIO("aé漢".encode() + b"\xff"), "x"))


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_rows_or_a_plain_error(data):
    try:
        for d in documents(["-"], Fields("text"), io.BytesIO(data)):
            assert d.parts or d.answers
    except UserError as e:
        assert str(e).startswith("-:")


def test_a_key_with_dots_of_its_own_comes_first():
    assert get({"a.b": 1, "a": {"b": 2}}, "a.b", "x") == 1 and get({"a": {"b": 2}}, "a.b", "x") == 2


def test_a_curve_in_block_characters():
    import numpy as np

    assert curve(np.array([1.0])) == "" and curve(np.array([2.0, 2.0])) == "2.00 ▁▁ 2.00"
    line = curve(np.linspace(0, 1, 1000))
    assert line.startswith("0.01 ▁") and line.endswith("█ 0.99") and len(line) == 60 + 10
