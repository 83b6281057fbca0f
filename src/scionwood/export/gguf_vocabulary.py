"""A run's own tokenizer and chat template as GGUF metadata."""

from __future__ import annotations

import json
from typing import Any

from scionwood.errors import UserError

_TAIL = r"[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|"
# llama.cpp knows a pre-tokenizer by name, a tokenizer.json holds its pattern.
PATTERNS = {_CONTRACTIONS + _TAIL % r"\p{N}": "qwen2", _CONTRACTIONS + _TAIL % r"\p{N}{1,3}": "llama-bpe"}
SPACE = "\u2581"  # what SentencePiece writes for a blank


def add_vocabulary(writer, tokenizer, size: int) -> None:
    """Write tokens, types, merges or scores, special ids and the chat template; the list is padded to ``size`` tokens.

    The start token is named but never added: a prompt is exactly what the template renders, as it was in training.
    Raises UserError for tokenizers that llama.cpp would not follow token by token.
    """
    whole = json.loads(tokenizer.backend_tokenizer.to_str())
    model = whole["model"]
    if model.get("type") != "BPE":
        raise UserError(f"tokenizer {tokenizer.name_or_path}: of type {model.get('type')}; only BPE tokenizers can be exported to GGUF")
    pieces = bool(model.get("byte_fallback"))
    tokens, types = _tokens(tokenizer, whole, size, pieces)
    if pieces:
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_add_space_prefix(_space_prefix(tokenizer, whole))
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(_pre(tokenizer, whole["pre_tokenizer"]))
    writer.add_token_list(tokens)
    if pieces:
        writer.add_token_scores(_scores(tokens, model["merges"]))
    writer.add_token_types(types)
    if not pieces:
        writer.add_token_merges([" ".join(_pair(m)) for m in model["merges"]])
    _special_ids(writer, tokenizer)
    writer.add_chat_template(template_of(tokenizer))


def template_of(tokenizer) -> str:
    """The chat template as one text; of several named ones, the one called default."""
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    if not template:
        raise UserError(f"tokenizer {tokenizer.name_or_path}: has no chat template; use an instruction-tuned base")
    return template


def _tokens(tokenizer, whole: dict[str, Any], size: int, pieces: bool) -> tuple[list[str], list[int]]:
    from gguf import TokenType

    tokens, types = [f"[PAD{i}]" for i in range(size)], [int(TokenType.UNUSED)] * size
    vocabulary = tokenizer.get_vocab()
    if max(vocabulary.values()) >= size:
        raise UserError(f"tokenizer {tokenizer.name_or_path}: has token {max(vocabulary.values())}, the model only {size} embeddings")
    for token, i in vocabulary.items():
        tokens[i], types[i] = token, int(TokenType.NORMAL)
        if pieces and len(token) == 6 and token.startswith("<0x"):
            types[i] = int(TokenType.BYTE)
    for i, token in tokenizer.added_tokens_decoder.items():
        types[i] = int(TokenType.CONTROL if token.special else TokenType.USER_DEFINED)
    if pieces and whole["model"].get("unk_token") in vocabulary:
        types[vocabulary[whole["model"]["unk_token"]]] = int(TokenType.UNKNOWN)
    return tokens, types


def _pair(merge) -> tuple[str, str]:
    """A merge as its two halves; older files hold them as one text."""
    return tuple(merge.split(" ", 1)) if isinstance(merge, str) else tuple(merge)


def _scores(tokens: list[str], merges: list) -> list[float]:
    """SentencePiece scores: llama.cpp joins the neighbours whose joined piece scores highest, so earlier merges score higher."""
    rank: dict[str, int] = {}
    for n, merge in enumerate(merges):
        rank.setdefault("".join(_pair(merge)), n)
    return [-float(rank.get(t, len(merges))) for t in tokens]


def _steps(step: dict | None, inner: str) -> list[dict]:
    """A step of tokenizer.json as the flat list of its parts."""
    if step is None:
        return []
    return [s for part in step[inner] for s in _steps(part, inner)] if step["type"] == "Sequence" else [step]


def _pre(tokenizer, pre: dict | None) -> str:
    """llama.cpp's name for a byte-level pre-tokenizer."""
    steps = _steps(pre, "pretokenizers")
    kinds = [s["type"] for s in steps]
    if steps and kinds[-1] == "ByteLevel" and not steps[-1].get("add_prefix_space"):
        if kinds == ["ByteLevel"] and steps[0].get("use_regex", True):
            return "gpt-2"
        if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits") and steps[1].get("use_regex", True):
            return "smollm"
        if kinds == ["Split", "ByteLevel"] and steps[0].get("behavior") == "Isolated" and not steps[1].get("use_regex", True):
            name = PATTERNS.get(steps[0]["pattern"].get("Regex"))
            if name:
                return name
    known = ", ".join(["gpt-2", "smollm", *PATTERNS.values()])
    raise UserError(f"tokenizer {tokenizer.name_or_path}: llama.cpp has no name for how it splits text ({'+'.join(kinds) or 'nothing'}); "
                    f"use a base that splits like one of {known}")


def _space_prefix(tokenizer, whole: dict[str, Any]) -> bool:
    """Whether every stretch of text gets a blank before it. llama.cpp can do that or leave it, but nothing in between."""
    normal, pre = _steps(whole["normalizer"], "normalizers"), _steps(whole["pre_tokenizer"], "pretokenizers")
    for step in [*normal, *pre]:
        if step["type"] == "Metaspace" and step.get("prepend_scheme", "always") == "first":
            raise UserError(f"tokenizer {tokenizer.name_or_path}: puts a blank before the first word only, which GGUF cannot say; "
                            "use another base")
        if step["type"] == "Metaspace":
            return step.get("prepend_scheme", "always") == "always"
    return any(s["type"] == "Prepend" for s in normal)


def _special_ids(writer, tokenizer) -> None:
    if tokenizer.eos_token_id is None:
        raise UserError(f"tokenizer {tokenizer.name_or_path}: names no end token (eos_token), so nothing would end an answer; "
                        "set it in tokenizer_config.json")
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    # llama.cpp takes an id of its own where no start token is named
    writer.add_bos_token_id(tokenizer.bos_token_id if tokenizer.bos_token_id is not None else pad)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(pad)
    if tokenizer.unk_token_id is not None:
        writer.add_unk_token_id(tokenizer.unk_token_id)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
