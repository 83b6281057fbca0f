"""Token streams and the order of their rows."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from scionwood import files
from scionwood.errors import UserError
from scionwood.pretraining import corpus, streams
from scionwood.pretraining.streams import Rows
from pretraining_tiny import make_corpus

SHARES = {"a": 0.6, "b": 0.3, "b+chat": 0.1}


@pytest.fixture
def folder(tmp_path):
    """Streams whose every token names its place, of 500, 103 and 64 tokens."""
    for i, (name, size) in enumerate({"a": 500, "b": 103, "b+chat": 64}.items()):
        (tmp_path / f"{name}.u16").write_bytes((np.arange(size) + 1000 * i).astype(np.uint16).tobytes())
    return tmp_path


def take(rows, count):
    return [rows.row(i).tolist() for i in range(count)]


def test_the_order_depends_on_the_seed_alone_and_grows_at_its_end(folder):
    first = take(Rows(folder, SHARES, 16, 100, 0), 100)
    assert take(Rows(folder, dict(reversed(SHARES.items())), 16, 100, 0), 100) == first
    assert take(Rows(folder, SHARES, 16, 400, 0), 100) == first
    assert take(Rows(folder, SHARES, 16, 100, 1), 100) != first
    rows = Rows(folder, SHARES, 16, 100, 0)  # a row does not depend on those that were taken before it
    assert [rows.row(i).tolist() for i in reversed(range(100))] == first[::-1]


def test_shares_are_held(folder):
    rows = Rows(folder, SHARES, 16, 4000, 0)
    for k, name in enumerate(rows.names):
        share = float((rows.source == k).mean())
        assert abs(share - SHARES[name]) < 4 * np.sqrt(SHARES[name] * (1 - SHARES[name]) / 4000)


def test_every_row_of_a_stream_comes_once_in_each_pass(folder):
    rows = Rows(folder, SHARES, 16, 400, 0)
    for k, (name, size) in enumerate((("a", 500), ("b", 103), ("b+chat", 64))):
        per_pass = size // 16
        starts = [rows.row(i)[0] - 1000 * k for i in range(400) if rows.source[i] == k]
        assert len(starts) >= per_pass
        passes = [starts[at : at + per_pass] for at in range(0, len(starts) - per_pass + 1, per_pass)]
        assert all(sorted(p) == list(range(0, per_pass * 16, 16)) for p in passes), name
        assert len(passes) < 2 or passes[0] != passes[1] or per_pass < 5
    seen = rows.epochs()
    assert seen["b"] == round(int((rows.source == 1).sum()) * 16 / 103, 2)


@pytest.mark.parametrize("size", [0, 63])
def test_a_stream_shorter_than_a_row_is_named(folder, size):
    (folder / "b+chat.u16").write_bytes(b"\0\0" * size)
    with pytest.raises(UserError, match=rf"'b\+chat' gives only {size} tokens, less than one row of 64"):
        Rows(folder, SHARES, 64, 10, 0)


def test_mixes_are_checked_and_scaled(tmp_path):
    known = {"wikipedia": tmp_path, "clinc_oos": tmp_path}
    assert streams.parse_mix({"wikipedia": 3, "clinc_oos+chat": 1, "wikipedia+again": 4}, known) == {
        "wikipedia": 0.375, "clinc_oos+chat": 0.125, "wikipedia+again": 0.5}
    for key, message in (("wikipdia", "no source 'wikipdia'; did you mean 'wikipedia'"), ("wikipedia+agian", r"no form '\+agian'; did you"),
                         ("wikipedia+chat", "nothing is known about reading source 'wikipedia' as conversations"),
                         ("wikipedia+", "no form")):
        with pytest.raises(UserError, match=message):
            streams.parse_mix({key: 1}, known)


def test_again_repeats_the_lines_of_every_block():
    lines = [f"line {i}" for i in range(10)]
    out = streams.again("\n".join(lines)).split("\n")
    assert out == streams.again("\n".join(lines)).split("\n") and len(out) == 20
    for at in (0, 4, 8):
        block = lines[at : at + 4]
        twice = out[2 * at : 2 * at + 2 * len(block)]
        assert twice[: len(block)] == block and sorted(twice[len(block) :]) == sorted(block)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["word", " ", "\n", "\n\n", "\r", "!", "!\n", "  \n ", "1", "好", "'s", "\t", "\u0301", "..."]), max_size=60).map("".join),
       st.integers(1, 9))
def test_pieces_give_the_tokens_of_the_whole(tokenizer, text, size):
    text = corpus.clean(text)
    parts = list(streams.pieces(text, size))
    assert "".join(parts) == text
    encode = tokenizer.backend_tokenizer.encode
    assert [i for p in parts for i in encode(p, add_special_tokens=False).ids] == encode(text, add_special_tokens=False).ids


def test_long_documents_are_cut_into_pieces():
    assert [len(p) for p in streams.pieces("abc\n" * 100, 40)] == [44] * 9 + [4]
    assert list(streams.pieces("x" * 100, 40)) == ["x" * 100]


@pytest.fixture
def prepared(tokenizer, tmp_path):
    known = corpus.sources(make_corpus(tmp_path / "corpus"))
    mix = streams.scaled({"plain": 1, "clinc_oos+chat": 1})
    return known, tmp_path / "streams", lambda tokens, log, **kw: streams.prepare(tmp_path / "streams", known, tokenizer, [(mix, tokens)], log, **kw)


def test_streams_hold_the_training_documents_and_no_other(prepared, tokenizer):
    known, folder, prepare = prepared
    got = prepare(10**7, lambda text: None)
    ids = np.fromfile(folder / "plain.u16", dtype=np.uint16)
    assert got["plain"] == len(ids)
    documents = tokenizer.decode(ids.astype(int)).split("<|endoftext|>")
    every = list(corpus.documents(known["plain"]))
    held = [d for d in every if corpus.is_held_out(d)]
    assert held and documents == [d for d in every if d not in held] + [""]
    assert streams.held_out_texts("plain", known["plain"], 10**6) == held
    assert streams.held_out_texts("plain", known["plain"], 1) == held[:1]
    chats = tokenizer.decode(np.fromfile(folder / "clinc_oos+chat.u16", dtype=np.uint16).astype(int)).split("<|endoftext|>")
    requests = {line.rsplit(" -> ", 1)[0] for d in corpus.documents(known["clinc_oos"]) if not corpus.is_held_out(d) for line in d.split("\n")}
    assert {c.split("<|im_start|>user\n")[1].split("<|im_end|>")[0] for c in chats[:-1]} <= requests


def test_conversations_spell_no_control_token_of_their_own(tokenizer, tmp_path):
    (tmp_path / "clinc_oos.txt").write_text(r'{"text":"hi \u003c|im_end|> \u320e","intent":"a\u003cthink>"}')
    streams.write_stream("clinc_oos+chat", tmp_path / "clinc_oos.txt", tokenizer, tmp_path / "s.u16", limit_tokens=999)
    text = tokenizer.decode(np.fromfile(tmp_path / "s.u16", dtype=np.uint16).astype(int))
    assert text.count("<|im_end|>") == 3 and text.count("<think>") == 1 and "\u320e" not in text and "hi < |im_end|> (가)" in text


def test_no_more_is_encoded_than_is_trained(prepared, monkeypatch):
    monkeypatch.setattr(streams, "BATCH", 200)
    _, _, prepare = prepared
    got = prepare(200, lambda text: None)
    assert all(4000 < n < 5000 for n in got.values()), got  # 4,096 are always kept in reserve


def test_prepare_keeps_what_is_there_and_mends_what_is_not_whole(prepared, monkeypatch):
    monkeypatch.setattr(streams, "BATCH", 200)
    _, folder, prepare = prepared
    prepare(1000, lambda text: None)
    before = files.file_hash(folder)
    said: list[str] = []
    prepare(1000, said.append)
    prepare(500, said.append)
    assert said == [] and files.file_hash(folder) == before
    with open(folder / "plain.u16", "r+b") as f:  # half a stream, gone streams
        f.truncate(100)
    prepare(1000, said.append)
    assert len(said) == 1 and files.file_hash(folder) == before
    (folder / "plain.u16").unlink()
    prepare(1000, said.append)
    assert len(said) == 2 and files.file_hash(folder) == before
    prepare(5000, said.append, begun=True)  # rows were trained: their order stays
    assert len(said) == 2 and files.file_hash(folder) == before
    prepare(5000, said.append)
    assert len(said) == 3 and "clinc_oos+chat" in said[2]  # "plain" had no more to give: it is not encoded in vain
