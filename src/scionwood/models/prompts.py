"""The one prompt renderer: messages to token ids for training, evaluation, export and serving."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Sequence

from scionwood.errors import UserError


@dataclass(frozen=True)
class Rendered:
    """A conversation as token ids: ``prompt`` is what the model is given, ``answer`` what it should write, turn end included."""

    prompt: list[int]
    answer: list[int]


class Renderer:
    """Renders with the tokenizer's own chat template, thinking off.

    An empty think block, where the template has one, belongs to the prompt. Text that spells a control token is broken up
    by a blank, since both Hugging Face's tokenizers and llama.cpp would otherwise read it as the control token. Text is
    NFC-normalised, since llama.cpp does not normalise and would tokenise it otherwise.
    """

    def __init__(self, tokenizer):
        if not tokenizer.chat_template:
            raise UserError(f"tokenizer {tokenizer.name_or_path}: has no chat template; use an instruction-tuned base")
        self.tokenizer = tokenizer
        self.controls = sorted((t.content for t in tokenizer.added_tokens_decoder.values() if len(t.content) > 1), key=len, reverse=True)

    def clean(self, text: str) -> str:
        text = unicodedata.normalize("NFC", text)
        for control in self.controls:
            if control in text:
                text = text.replace(control, control[0] + " " + control[1:])
        return text

    def text(self, messages: Sequence[dict], answer: str | None = None) -> tuple[str, str]:
        """Return (prompt text, answer text with its turn end)."""
        clean = [{"role": m["role"], "content": self.clean(m["content"])} for m in messages]
        prompt = self._apply(clean, add_generation_prompt=True)
        if answer is None:
            return prompt, ""
        whole = self._apply([*clean, {"role": "assistant", "content": self.clean(answer)}], add_generation_prompt=False)
        if not whole.startswith(prompt):
            raise UserError(f"tokenizer {self.tokenizer.name_or_path}: its chat template does not begin an answered conversation "
                            "with the prompt (thinking off), so prompt and answer cannot be told apart")
        return prompt, whole[len(prompt):].rstrip("\n")

    def _apply(self, messages, add_generation_prompt: bool) -> str:
        from jinja2 import TemplateError

        try:
            return self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=add_generation_prompt, enable_thinking=False
            )
        except TemplateError as e:  # some templates refuse a system message
            roles = ", ".join(m["role"] for m in messages)
            raise UserError(f"tokenizer {self.tokenizer.name_or_path}: its chat template refuses messages of {roles} ({e}); use another base") from None

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def render(self, messages: Sequence[dict], answer: str | None = None) -> Rendered:
        prompt, rest = self.text(messages, answer)
        return Rendered(self.encode(prompt), self.encode(rest) if rest else [])


def check_length(case_id: str, rendered: Rendered, limit: int) -> None:
    """Nothing is ever truncated: a case that is too long is an error that names it and its length."""
    n = len(rendered.prompt) + len(rendered.answer)
    if n > limit:
        raise UserError(f"case {case_id}: {n} tokens, more than max_length = {limit}; raise train.max_length or shorten the case")
