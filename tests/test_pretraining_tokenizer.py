"""The tokenizer of a base: control tokens, round trips, Qwen2's cuts, the chat template."""

import unicodedata

import pytest
import regex
from hypothesis import given, settings, strategies as st

from scionwood.pretraining.tokenizer import INJECTION, QWEN2_PATTERN, SPECIAL, THINK, train_tokenizer

# the pattern as Qwen publishes it in tokenizer.json of Qwen2 and Qwen3
PUBLISHED = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CONTROLS = [*SPECIAL, *THINK, INJECTION]
TEXTS = ["It's 2026: the dog isn't here.\n\n  She'LL see\t12,5 %!\r\n", "她住在成都。\nReally?  yes", "\u3000x\u00a0y  \n z"]
tricky = st.sampled_from(["'s", "'RE", " ", "\n", "\r\n", "\t", "7", "½", "é", "e\u0301", "\u0338", "中", "🦊", "\u200d", "_", "...", "a"])
# characters that Python's Unicode knows: on newer ones the two regex engines may differ in age
known = st.characters(exclude_categories=["Cs", "Cn"])
any_text = st.one_of(st.text(known, max_size=40), st.lists(tricky, max_size=20).map("".join))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(TEXTS * 20 + ["the dog sees the old house and the small tree"] * 50, 512, folder)
    return folder


@pytest.fixture(scope="module")
def tok(trained):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(trained)


def encode(tok, text):
    return tok.encode(text, add_special_tokens=False)


def test_control_tokens_are_single_and_take_the_last_ids(tok):
    ids = [encode(tok, c) for c in CONTROLS]
    assert [len(i) for i in ids] == [1] * len(CONTROLS)
    assert [i[0] for i in ids] == list(range(len(tok) - len(CONTROLS), len(tok)))
    assert (tok.eos_token, tok.pad_token) == ("<|im_end|>", "<|endoftext|>")


def test_the_injection_character_is_one_token_anywhere_and_survives(tok):
    ids = encode(tok, f"a{INJECTION}b {INJECTION}")
    assert ids.count(tok.convert_tokens_to_ids(INJECTION)) == 2
    assert tok.decode(ids, skip_special_tokens=True) == f"a{INJECTION}b {INJECTION}"


@settings(deadline=None)
@given(any_text)
def test_any_text_comes_back_as_its_nfc(tok, text):
    assert tok.decode(encode(tok, text)) == unicodedata.normalize("NFC", text)


@given(st.text("0123456789", min_size=1, max_size=12))
def test_digits_are_split_singly(tok, number):
    assert tok.convert_ids_to_tokens(encode(tok, number)) == list(number)


@settings(deadline=None)
@given(any_text)
def test_text_is_cut_as_qwen2_cuts_it(tok, text):
    text = unicodedata.normalize("NFC", text)
    cuts = [span for _, span in tok.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)]
    assert cuts == [m.span() for m in regex.finditer(PUBLISHED, text)]
    assert QWEN2_PATTERN == PUBLISHED


@settings(deadline=None)
@given(any_text)
def test_ids_are_equal_after_saving_and_loading(tok, resaved, text):
    assert encode(resaved, text) == encode(tok, text)


@pytest.fixture(scope="module")
def resaved(tok, tmp_path_factory):
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("resaved")
    tok.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def test_the_chat_template_puts_the_empty_think_block_into_the_prompt(tok):
    ask = [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}]
    render = lambda messages, **kw: tok.apply_chat_template(messages, tokenize=False, **kw)  # noqa: E731
    head = "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n"
    prompt = render(ask, add_generation_prompt=True, enable_thinking=False)
    assert prompt == head + "<think>\n\n</think>\n\n"
    assert render(ask, add_generation_prompt=True) == head
    assert render([*ask, {"role": "assistant", "content": "A"}]) == prompt + "A<|im_end|>\n"


def test_only_the_last_answer_has_a_think_block(tok):
    turns = [{"role": r, "content": c} for r, c in (("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "4"))]
    text = tok.apply_chat_template(turns, tokenize=False)
    assert text.count("<think>") == 1 and text.index("<think>") > text.index("3")


def test_training_twice_gives_the_same_tokenizer(trained, tmp_path):
    train_tokenizer(TEXTS * 20 + ["the dog sees the old house and the small tree"] * 50, 512, tmp_path)
    assert (tmp_path / "tokenizer.json").read_bytes() == (trained / "tokenizer.json").read_bytes()
