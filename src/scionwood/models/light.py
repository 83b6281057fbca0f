"""A tokenizer with its chat template, without transformers: what the one prompt renderer needs, read from a folder's JSON files."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any, Sequence

from scionwood.errors import UserError
from scionwood.files import read_json

SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class LightTokenizer:
    """tokenizer.json and the chat template of a folder. ``Renderer(LightTokenizer(folder))`` gives the same token ids as with transformers.

    The template is chat_template.jinja, or the one in tokenizer_config.json; the special tokens that a template may name are
    read from tokenizer_config.json where that is there. Templates run in jinja2's sandbox.
    """

    def __init__(self, folder: Path):
        from tokenizers import Tokenizer

        self.folder = Path(folder)
        self.name_or_path = str(folder)
        file = self.folder / "tokenizer.json"
        if not file.is_file():
            raise UserError(f"{file}: no such file; 'scion export' writes it beside the model")
        try:
            self.backend = Tokenizer.from_file(str(file))
        except Exception as e:  # the tokenizers library raises bare Exceptions
            raise UserError(f"{file}: cannot be read ({str(e).splitlines()[0]}); export the run anew") from None
        self.backend.no_truncation()  # a tokenizer.json may carry both
        self.backend.no_padding()
        self.added_tokens_decoder = self.backend.get_added_tokens_decoder()

    @cached_property
    def config(self) -> dict[str, Any]:
        file = self.folder / "tokenizer_config.json"
        return read_json(file) if file.exists() else {}

    @cached_property
    def chat_template(self) -> str | None:
        file = self.folder / "chat_template.jinja"
        if file.exists():
            return file.read_text("utf-8")
        template = self.config.get("chat_template")
        if isinstance(template, list):  # several named ones
            template = {t["name"]: t["template"] for t in template}.get("default")
        return template

    @cached_property
    def special_tokens(self) -> dict[str, str]:
        named = {k: self.config.get(k) for k in SPECIAL}
        return {k: v["content"] if isinstance(v, dict) else v for k, v in named.items() if v is not None}

    @cached_property
    def _template(self):
        return compile_template(self.chat_template)

    def apply_chat_template(self, messages: Sequence[dict], *, tokenize: bool = False, add_generation_prompt: bool = False,
                            **kwargs) -> str:
        """The conversation as text. ``tokenize`` is there for the renderer's call; only False is known."""
        if tokenize:
            raise ValueError("a LightTokenizer renders text; encode it with encode()")
        return self._template.render(messages=list(messages), tools=None, documents=None, add_generation_prompt=add_generation_prompt,
                                     **self.special_tokens, **kwargs)

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return self.backend.encode(text, add_special_tokens=add_special_tokens).ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some tokens, control tokens included."""
        return self.backend.decode(list(ids), skip_special_tokens=False)


def compile_template(template: str):
    """A chat template in the dialect that the hub's models are written for: jinja2 with trimmed blocks and a few names more."""
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """``{% generation %}`` marks what an assistant wrote, for training masks; here it only passes its body on."""

        tags = {"generation"}

        def parse(self, parser):
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(message: str):
        raise jinja2.exceptions.TemplateError(message)

    def to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def now(form: str) -> str:
        from datetime import datetime

        return datetime.now().strftime(form)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    env.filters["tojson"] = to_json  # jinja2's own escapes HTML
    env.globals |= {"raise_exception": refuse, "strftime_now": now}
    return env.from_string(template)
