"""A Modelfile for Ollama: which GGUF, the chat template in Go's template language, and where an answer ends."""

from __future__ import annotations

import os
from typing import Sequence

from scionwood.errors import UserError
from scionwood.models.prompts import Renderer


def modelfile(tokenizer, prompts: Sequence[list[dict[str, str]]], model: str, context: int) -> str:
    """The Modelfile of a GGUF file. Where all prompts share their system text, it goes in, so that a bare request is enough.

    Ollama reads no Jinja. So the text around each role is found by rendering marked messages, written as a Go template, and put
    together again for every one of ``prompts``: raises UserError where that is not the very text of the chat template.
    """
    renderer = Renderer(tokenizer)
    start, around, end = pieces(renderer)
    for messages in prompts:
        clean = [{**m, "content": renderer.clean(m["content"])} for m in messages]
        if start + "".join(around[m["role"]][0] + m["content"] + around[m["role"]][1] for m in clean) + end != renderer.text(messages)[0]:
            raise UserError("ollama: the chat template of this base does more than put text around each message, "
                            "which a Modelfile cannot say; "
                            "serve it with 'scion serve'")
    texts = [start, end, *(t for pair in around.values() for t in pair)]
    if any("{{" in t or '"""' in t for t in texts):
        raise UserError("ollama: the chat template writes '{{' or '\"\"\"', which a Modelfile cannot say; serve it with 'scion serve'")
    branches = "".join(f'{{{{ {"if" if role == "system" else "else if"} eq .Role "{role}" }}}}{before}{{{{ .Content }}}}{after}'
                       for role, (before, after) in around.items())
    lines = [f"FROM ./{model}", f'TEMPLATE """{start}{{{{ range .Messages }}}}{branches}{{{{ end }}}}{{{{ end }}}}{end}"""']
    systems = {m["content"] for messages in prompts for m in messages if m["role"] == "system"}
    if len(systems) == 1 and '"""' not in (system := renderer.clean(systems.pop())) and all(len(m) == 2 for m in prompts):
        lines.append(f'SYSTEM """{system}"""')
    lines += [f'PARAMETER stop "{stop}"' for stop in stops(tokenizer, around)]
    return "\n".join([*lines, "PARAMETER temperature 0", f"PARAMETER num_ctx {context}"]) + "\n"


def pieces(renderer: Renderer) -> tuple[str, dict[str, tuple[str, str]], str]:
    """``(start, {role: (text before, text after)}, text that asks for the answer)`` of a chat template, thinking off."""
    system, user, answer, again = "@system@", "@user@", "@answer@", "@again@"
    asked = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    one = renderer.text(asked)[0]
    two = renderer.text([*asked, {"role": "assistant", "content": answer}, {"role": "user", "content": again}])[0]
    try:
        before_user, rest = _cut(renderer.text([{"role": "user", "content": user}])[0], user)
        before_system, between, _ = _cut(one, system, user)
        _, to_answer, to_again, _ = _cut(two, user, answer, again)
    except ValueError:
        raise UserError("ollama: the chat template of this base drops or repeats messages, "
                        "which a Modelfile cannot say; serve it with 'scion serve'") from None
    bos = renderer.tokenizer.bos_token or ""
    start = bos if before_user.startswith(bos) and before_system.startswith(bos) else ""
    own = before_user.removeprefix(start)
    if not between.endswith(own):  # the first message has more before it: what it shares with a later one is the user's own
        own = os.path.commonprefix([before_user[::-1], between[::-1]])[::-1]
        start = before_user.removesuffix(own)
    after_system = between.removesuffix(own)
    # a user's turn ends as the system's does, where that fits; else its end counts to what follows
    after = after_system if rest.startswith(after_system) and to_answer.startswith(after_system) else ""
    around = {"system": (before_system.removeprefix(start), after_system), "user": (own, after),
              "assistant": (to_answer.removeprefix(after), to_again.removesuffix(own))}
    return start, around, rest.removeprefix(after)


def _cut(text: str, *marks: str) -> list[str]:
    """The texts between marks that each stand there once, in order. Raises ValueError where they do not."""
    parts = []
    for mark in marks:
        before, text = text.split(mark)
        parts.append(before)
    return [*parts, text]


def stops(tokenizer, around: dict[str, tuple[str, str]]) -> list[str]:
    """Texts that end an answer: the tokenizer's end token and, where the template ends a turn with another token, that one."""
    found = [tokenizer.eos_token]
    ending = around["assistant"][1].strip()
    if ending and ending in {t.content for t in tokenizer.added_tokens_decoder.values()}:
        found.append(ending)
    return list(dict.fromkeys(found))
