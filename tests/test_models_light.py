"""The light tokenizer gives the renderer the same text and token ids as transformers, whatever stands in the messages."""

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scionwood.errors import UserError
from scionwood.models.light import LightTokenizer, compile_template
from scionwood.models.loading import embedded_folder
from scionwood.models.prompts import Renderer

fragments = st.sampled_from(["<|", "im_end", "im_start", "|>", "<|im_end|>", "<|im_start|>", "<|endoftext|>",
                             "<think>", "</think>", "<", ">", "\u0338", "e\u0301", "\u1112\u1161\u11ab", "ﬁ", "{{", "{%", "\n", " ", "\r\n", "\x00", "住在", "🦊"])
texts = st.one_of(st.text(max_size=60), st.lists(st.one_of(fragments, st.text(max_size=3)), max_size=12).map("".join))
conversations = st.tuples(st.one_of(st.none(), texts), st.lists(texts, min_size=1, max_size=3)).map(
    lambda t: ([{"role": "system", "content": t[0]}] if t[0] is not None else [])
    + [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(t[1])])


@pytest.fixture(scope="module")
def light():
    return Renderer(LightTokenizer(embedded_folder()))


@settings(max_examples=300, deadline=None)
@given(messages=conversations, answer=st.one_of(st.none(), texts))
def test_the_same_ids_as_with_transformers(messages, answer, light, renderer):
    if messages[-1]["role"] == "assistant":
        messages = messages[:-1]
    assert light.text(messages, answer) == renderer.text(messages, answer)
    assert light.render(messages, answer) == renderer.render(messages, answer)


@settings(max_examples=100, deadline=None)
@given(ids=st.lists(st.integers(0, 8191), max_size=20))
def test_the_same_text_of_ids(ids, light, tokenizer):
    assert light.tokenizer.decode(ids) == tokenizer.decode(ids)


def test_it_knows_the_same_added_tokens(light, tokenizer):
    assert {i: (t.content, t.special) for i, t in light.tokenizer.added_tokens_decoder.items()} == \
        {i: (t.content, t.special) for i, t in tokenizer.added_tokens_decoder.items()}
    assert light.controls == Renderer(tokenizer).controls


LLAMA_LIKE = """{{ bos_token }}{% for m in messages %}
  {%- if m.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}
  [{{ m.role }}] {% generation %}{{ m.content | trim }}{% endgeneration %}{{ eos_token }}
{% endfor %}{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m | tojson }}{% endfor %}
{%- if add_generation_prompt %}[assistant] {% endif %}"""


def test_templates_in_the_hubs_dialect(tmp_path, tokenizer):
    """Trimmed blocks, loop controls, generation marks, tojson without HTML escapes, and special tokens by name."""
    from transformers import AutoTokenizer

    copy = AutoTokenizer.from_pretrained(embedded_folder())
    copy.chat_template = LLAMA_LIKE
    copy.add_special_tokens({"bos_token": "<|endoftext|>"})
    copy.save_pretrained(tmp_path)
    ours = LightTokenizer(tmp_path)
    messages = [{"role": "user", "content": " a < b & 'c' 住 "}, {"role": "assistant", "content": "d"}]
    for flag in (True, False):
        assert ours.apply_chat_template(messages, add_generation_prompt=flag, enable_thinking=False) == \
            copy.apply_chat_template(messages, tokenize=False, add_generation_prompt=flag, enable_thinking=False)
    with pytest.raises(UserError, match="refuses messages of tool"):
        Renderer(ours).text([{"role": "tool", "content": ""}])


def test_a_template_cannot_reach_out():
    from jinja2.exceptions import SecurityError

    with pytest.raises(SecurityError):
        compile_template("{{ messages.__class__.__mro__ }}").render(messages=[])


def test_a_folder_without_a_tokenizer_is_one_line(tmp_path):
    with pytest.raises(UserError, match="tokenizer.json: no such file"):
        LightTokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"type": "no"}}))
    with pytest.raises(UserError, match="cannot be read") as e:
        LightTokenizer(tmp_path)
    assert "\n" not in str(e.value)


def test_neither_torch_nor_transformers_is_imported():
    code = ("import sys; from scionwood.models.light import LightTokenizer; from scionwood.models.prompts import Renderer; "
            "from scionwood.models.loading import embedded_folder; import scionwood.systems.gguf; "
            "Renderer(LightTokenizer(embedded_folder())).render([{'role': 'user', 'content': 'a'}]); "
            "print({'torch', 'transformers'} & set(sys.modules))")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"
