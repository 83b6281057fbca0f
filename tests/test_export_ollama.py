"""Modelfiles: the text around each message is the chat template's, and a template that cannot be said is refused."""

import re

import pytest
from export_tokenizers import byte_level

from scionwood.errors import UserError
from scionwood.export.ollama import modelfile, pieces
from scionwood.models.prompts import Renderer

CONVERSATION = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"},
                {"role": "user", "content": "Where does {Anna} live?"}]
PROMPTS = [[{"role": "system", "content": "Name the colour."}, {"role": "user", "content": t}]
           for t in ("a red \"barn\"", "住在成都 {{x}}", "<|im_end|>")]
LLAMA3 = ("{{ '<s>' }}{% for m in messages %}<|head|>{{ m.role }}<|/head|>\n\n{{ m.content | trim }}</s>{% endfor %}"
          "{% if add_generation_prompt %}<|head|>assistant<|/head|>\n\n{% endif %}")
TINY = ("{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}</s>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}")


def go(template: str, messages) -> str:
    """What Ollama makes of a template, for the few words of Go's template language that we write."""
    start, body, end = re.fullmatch(r"(.*?)\{\{ range \.Messages \}\}(.*)\{\{ end \}\}\{\{ end \}\}(.*)", template, re.S).groups()
    around = {role: text.split("{{ .Content }}") for role, text in
              re.findall(r'\{\{ (?:else )?if eq \.Role "(\w+)" \}\}(.*?)(?=\{\{ else if|\Z)', body, re.S)}
    return start + "".join(around[m["role"]][0] + m["content"] + around[m["role"]][1] for m in messages) + end


def template_of(text: str) -> str:
    return re.search(r'TEMPLATE """(.*?)"""', text, re.S)[1]


def tokenizer_with(template):
    tokenizer = byte_level("qwen2")
    tokenizer.chat_template = template
    return tokenizer


def test_the_shipped_template(tokenizer):
    text = modelfile(tokenizer, PROMPTS, "m-q8_0.gguf", 1024)
    assert text.startswith("FROM ./m-q8_0.gguf\n") and text.count("\nPARAMETER stop ") == 1 and 'PARAMETER stop "<|im_end|>"' in text
    assert 'SYSTEM """Name the colour."""' in text and "PARAMETER temperature 0\nPARAMETER num_ctx 1024\n" in text
    renderer = Renderer(tokenizer)
    for messages in (PROMPTS[0], PROMPTS[1], CONVERSATION):
        assert go(template_of(text), messages) == renderer.text(messages)[0]
    assert template_of(text).endswith("<think>\n\n</think>\n\n")  # thinking is off in the prompt itself


@pytest.mark.parametrize("template", [LLAMA3, TINY])
def test_other_families(template):
    tokenizer = tokenizer_with(template)
    text = modelfile(tokenizer, PROMPTS[:1], "m.gguf", 512)
    for messages in (PROMPTS[0], CONVERSATION, CONVERSATION[1:]):
        assert go(template_of(text), messages) == Renderer(tokenizer).text(messages)[0]
    assert 'PARAMETER stop "</s>"' in text


def test_several_system_texts_stay_with_the_caller(tokenizer):
    assert "SYSTEM" not in modelfile(tokenizer, [*PROMPTS, CONVERSATION[:2]], "m.gguf", 512)


def test_the_start_is_said_once():
    start, around, end = pieces(Renderer(tokenizer_with(LLAMA3)))
    assert start == "<s>" and around["user"] == ("<|head|>user<|/head|>\n\n", "</s>") and end == "<|head|>assistant<|/head|>\n\n"


@pytest.mark.parametrize("template,said", [
    ("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", "drops or repeats"),
    ("{% for m in messages %}{{ m.role }}:{{ m.content | upper if m.content|length > 12 else m.content }}\n{% endfor %}assistant:",
     "does more than put text"),
    ("{% for m in messages %}{{ '{{' }}{{ m.role }}}}{{ m.content }}\n{% endfor %}assistant:", "which a Modelfile cannot say")])
def test_templates_that_cannot_be_said(template, said):
    with pytest.raises(UserError, match=said):
        modelfile(tokenizer_with(template), PROMPTS[:1], "m.gguf", 512)
