"""Text files to documents; what is held out."""

import lzma
import unicodedata

import pytest
from hypothesis import given, strategies as st

from scionwood.errors import UserError
from scionwood.pretraining import corpus
from scionwood.pretraining.tokenizer import INJECTION, SPECIAL, THINK

FILE = "\ufefffirst\nline two\r\n<|doc|>\n\n  \n<|doc|>\r\ncafe\u0301 <|doc|> inside\n<|doc|>\n最后"


@pytest.mark.parametrize("pack", [False, True])
def test_documents_of_text_and_xz(tmp_path, pack):
    path = tmp_path / ("a.txt.xz" if pack else "a.txt")
    path.write_bytes(lzma.compress(FILE.encode()) if pack else FILE.encode())
    assert list(corpus.documents(path)) == ["first\nline two", "café <|doc|> inside", "最后"]


def test_sources_are_named_after_their_files(tmp_path):
    for name in ("b.txt", "a.v1.txt.xz", "notes.md", "x.txt.bak"):
        (tmp_path / name).touch()
    assert list(corpus.sources(tmp_path)) == ["a.v1", "b"]


def test_mistakes_are_named(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path}: no .*--corpus"):
        corpus.sources(tmp_path)
    with pytest.raises(UserError, match="nowhere: no "):
        corpus.sources(tmp_path / "nowhere")
    (tmp_path / "a.txt").write_bytes(b"good\n\nb\xe9d\n")
    with pytest.raises(UserError, match=r"a\.txt, line 3: not UTF-8 text \(byte 0xe9\)"):
        list(corpus.documents(tmp_path / "a.txt"))
    packed = lzma.compress(b"text " * 1000)
    for name, data in (("cut", packed[:-20]), ("none", b"plain text")):
        path = tmp_path / f"{name}.txt.xz"
        path.write_bytes(data)
        with pytest.raises(UserError, match=f"{name}.txt.xz: not a whole xz file"):
            list(corpus.documents(path))
    (tmp_path / "a.txt.xz").touch()
    with pytest.raises(UserError, match="source 'a' is there twice"):
        corpus.sources(tmp_path)


fragments = st.sampled_from([*SPECIAL, *THINK, INJECTION, "<", "|", "im_end|>", "<|", "\u0301", "e"])


@given(st.lists(st.one_of(fragments, st.text(max_size=3)), max_size=10).map("".join))
def test_clean_text_spells_no_control_token_and_is_nfc(text):
    clean = corpus.clean(text)
    assert not any(c in clean for c in (*SPECIAL, *THINK, INJECTION))
    assert clean == unicodedata.normalize("NFC", clean) == corpus.clean(clean)


def test_about_one_document_in_200_is_held_out_by_its_content_alone():
    texts = [f"document {i}" for i in range(20_000)]
    held = {t for t in texts if corpus.is_held_out(t)}
    assert 60 <= len(held) <= 140  # 100 expected, four standard deviations either way
    assert held == {t for t in reversed(texts) if corpus.is_held_out(t)}
    # written down, so that a change of the rule cannot go unseen: bases of before were trained on the rest
    assert sorted(held)[:3] == FIRST_HELD_OUT


FIRST_HELD_OUT = ["document 10036", "document 10180", "document 10424"]
