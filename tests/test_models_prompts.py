"""The renderer: what it gives is what the chat template gives in one go, and no text can spell a control token."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scionwood.errors import UserError
from scionwood.models.prompts import Rendered, Renderer, check_length

CONVERSATIONS = [
    [{"role": "user", "content": "hello"}],
    [{"role": "system", "content": "You sort notes."}, {"role": "user", "content": "她住在成都。\nReally?  "}],
    [{"role": "user", "content": "1"}, {"role": "assistant", "content": "one"}, {"role": "user", "content": "\n2\n"}],
    [{"role": "system", "content": ""}, {"role": "user", "content": "🦊 été\t{}"}],
]
ANSWERS = ['{"kind":"plan"}', "SAVE", "住在成都", "été", "two\nlines\n", "<b>", ""]
THINK = "<think>\n\n</think>\n\n"

fragments = st.sampled_from(["<|", "im_end", "im_start", "|>", "<|im_end|>", "<|endoftext|>", "<think>", "</", "think>", "<", ">",
                             "\u0338", "e\u0301", "\n", " "])
any_text = st.one_of(st.text(max_size=60), st.lists(st.one_of(fragments, st.text(max_size=3)), max_size=12).map("".join))


def user(text):
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="module")
def controls(tokenizer):
    return set(tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]))


@pytest.mark.parametrize("messages", CONVERSATIONS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_prompt_and_answer_are_the_whole_conversation(messages, answer, renderer, tokenizer):
    rendered = renderer.render(messages, answer)
    whole = tokenizer.apply_chat_template([*messages, {"role": "assistant", "content": answer}], tokenize=True, return_dict=False,
                                          enable_thinking=False)
    n = len(rendered.prompt)
    assert whole[:n] == rendered.prompt == renderer.render(messages).prompt
    assert whole[n:] == [*rendered.answer, *tokenizer.encode("\n")]  # the template's line break after a turn is not supervised


@pytest.mark.parametrize("answer", ANSWERS)
def test_the_answer_decodes_to_its_text_and_ends_the_turn(answer, renderer, tokenizer):
    ids = renderer.render(user("hello"), answer).answer
    assert ids[-1] == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert tokenizer.decode(ids[:-1]) == answer


def test_the_empty_think_block_is_in_the_prompt_alone(renderer, tokenizer):
    prompt, answer = renderer.text(user("hello"), "SAVE")
    assert prompt.endswith(f"assistant\n{THINK}") and answer == "SAVE<|im_end|>"
    think = tokenizer.convert_tokens_to_ids(["<think>", "</think>"])
    rendered = renderer.render(user("hello"), "SAVE")
    assert [rendered.prompt.count(i) for i in think] == [1, 1] and not set(think) & set(rendered.answer)


def test_no_answer_is_no_tokens(renderer):
    assert renderer.render(user("hello")).answer == []


@pytest.mark.parametrize("text", ["été", "Ångström", "한국", "ﬁ ≠ ½"])
def test_decomposed_accents_give_the_ids_of_composed_ones(text, renderer):
    decomposed = unicodedata.normalize("NFD", text)
    assert renderer.clean(decomposed) == unicodedata.normalize("NFC", text)
    assert renderer.render(user(decomposed), decomposed) == renderer.render(user(text), text)


def test_control_tokens_in_a_text_are_broken(renderer):
    assert renderer.clean("a<|im_end|><|im_end|>b<think></think>") == "a< |im_end|>< |im_end|>b< think>< /think>"
    assert renderer.clean("a < b, |im_end| and <think") == "a < b, |im_end| and <think"


@settings(max_examples=150, deadline=None)
@given(text=any_text)
def test_no_text_becomes_a_control_token(text, renderer, controls):
    inert = renderer.render(user("x"), "x")
    for rendered, part in ((renderer.render(user(text), "x"), "prompt"), (renderer.render(user("x"), text), "answer")):
        found, expected = ([i for i in getattr(r, part) if i in controls] for r in (rendered, inert))
        assert found == expected


@settings(max_examples=150, deadline=None)
@given(text=any_text)
def test_any_text_can_be_read_back(text, renderer, tokenizer):
    clean = renderer.clean(text)
    assert renderer.clean(clean) == clean
    prompt = f"<|im_start|>user\n{clean}<|im_end|>\n<|im_start|>assistant\n{THINK}"
    assert tokenizer.decode(renderer.render(user(text)).prompt) == prompt
    assert tokenizer.decode(renderer.render(user("x"), text).answer) == f"{clean}<|im_end|>"


class Templated:
    """A tokenizer of which only the chat template matters."""

    name_or_path, added_tokens_decoder = "some/base", {}

    def __init__(self, template):
        self.chat_template = template

    def apply_chat_template(self, messages, add_generation_prompt, **_):
        return self.chat_template(messages, add_generation_prompt)


def test_a_base_without_a_chat_template_is_refused():
    with pytest.raises(UserError, match="some/base: has no chat template; use an instruction-tuned base"):
        Renderer(Templated(None))


def test_a_template_that_hides_where_the_answer_begins_is_refused():
    renderer = Renderer(Templated(lambda messages, prompt: "think: " if prompt else messages[-1]["content"]))
    with pytest.raises(UserError, match="cannot be told apart"):
        renderer.text(user("x"), "y")


def test_a_case_that_is_too_long_is_named():
    check_length("a", Rendered([1, 2], [3]), 3)
    with pytest.raises(UserError, match="case a: 3 tokens, more than max_length = 2; raise train.max_length or shorten the case"):
        check_length("a", Rendered([1, 2], [3]), 2)


def test_a_template_that_refuses_a_role_is_one_line():
    from transformers import AutoTokenizer

    from scionwood.models.loading import embedded_folder

    tokenizer = AutoTokenizer.from_pretrained(embedded_folder())
    tokenizer.chat_template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system messages') }}{% endif %}x"
    with pytest.raises(UserError, match="refuses messages of system, user .no system messages.; use another base"):
        Renderer(tokenizer).render([{"role": "system", "content": "a"}, {"role": "user", "content": "b"}])
