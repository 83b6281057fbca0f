"""The two prompts: the verbalizer's, with the marker that a vector takes the place of, and the reconstructor's."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from scionwood.errors import UserError
from scionwood.models.prompts import Renderer

FIRST, LAST = 0x3200, 0x33FF  # enclosed and squared characters: rare, and many vocabularies hold some as one token
INJECT = "{injection_char}"
PLACEHOLDERS = (INJECT, "<INJECT>")  # the second is what columns of training files spell
# What comes before the marker is the same for all vectors and computed once for a batch, so the marker stands last.
AV = f"Say in words what a language model was thinking of. Its activation: <concept>{INJECT}</concept>"
HINT = f"Name in a few words what a language model was thinking of. Its activation: <concept>{INJECT}</concept>"
AR = "A summary of this text: <text>{explanation}</text> <summary>"
SUFFIX = "</text> <summary>"
OPEN, CLOSE = "<explanation>", "</explanation>"


@dataclass(frozen=True)
class Marker:
    """The character in whose place a vector is injected, its token, and the tokens left and right of it in the prompt."""

    char: str
    id: int
    left: int
    right: int


def one_token(tokenizer, char: str) -> int | None:
    """The id of a character that encodes to exactly one token, None for others. Looking it up by name would find pieces too."""
    ids = tokenizer.encode(char, add_special_tokens=False)
    return ids[0] if len(ids) == 1 else None


def neighbours(tokenizer, char: str, number: int) -> tuple[int, int] | None:
    """The tokens beside the character in ``<concept>X</concept>``; None where it merges with what is beside it."""
    ids = tokenizer.encode(f"<concept>{char}</concept>", add_special_tokens=False)
    if ids.count(number) != 1:
        return None
    at = ids.index(number)
    if at in (0, len(ids) - 1) or not tokenizer.decode([ids[at - 1]]).endswith(">") or not tokenizer.decode([ids[at + 1]]).startswith("<"):
        return None
    return ids[at - 1], ids[at + 1]


def find_marker(tokenizer) -> Marker:
    """The marker of a tokenizer: the first character of U+3200 to U+33FF that is exactly one token between ``>`` and ``<``.

    A vocabulary without one gives the last of its tokens (the rarest, as vocabularies are sorted) that is a single character
    beyond ASCII and stays one between the two. UserError where there is none.
    """
    for code in range(FIRST, LAST + 1):
        number = one_token(tokenizer, chr(code))
        if number is not None and number != tokenizer.unk_token_id and (beside := neighbours(tokenizer, chr(code), number)):
            return Marker(chr(code), number, *beside)
    for number in range(len(tokenizer) - 1, -1, -1):
        char = tokenizer.decode([number]).strip()
        if len(char) == 1 and ord(char) > 127 and char != "\ufffd" and one_token(tokenizer, char) == number:
            if beside := neighbours(tokenizer, char, number):
                return Marker(char, number, *beside)
    raise UserError(f"tokenizer {tokenizer.name_or_path}: no character beyond ASCII is one token between '>' and '<'; use another base")


def av_messages(marker: Marker, template: str = AV) -> list[dict]:
    """The one user turn that asks for an explanation."""
    for placeholder in PLACEHOLDERS:
        template = template.replace(placeholder, marker.char)
    return [{"role": "user", "content": template}]


def av_prompt(renderer: Renderer, marker: Marker, template: str = AV) -> list[int]:
    """The token ids of the verbalizer's prompt, rendered once with all special tokens of the chat template (never a second BOS).

    UserError where the marker does not stand in it exactly once between its neighbours.
    """
    ids = renderer.render(av_messages(marker, template)).prompt
    marker_place(ids, marker)
    return ids


def av_answer(renderer: Renderer, marker: Marker, text: str, template: str = AV) -> list[int]:
    """The token ids of what the verbalizer should reply, turn end included."""
    ids = renderer.render(av_messages(marker, template), f"{OPEN}{text}{CLOSE}").answer
    if marker.id in ids:
        raise UserError(f"the text {text[:40]!r} holds '{marker.char}', which stands for an injected vector; take it out")
    return ids


def marker_place(ids: list[int], marker: Marker) -> int:
    """Where the marker stands in one prompt; UserError unless it stands there exactly once, between its neighbours."""
    places = [i for i, t in enumerate(ids) if t == marker.id]
    if len(places) != 1 or not 0 < places[0] < len(ids) - 1:
        raise UserError(f"the prompt holds the marker '{marker.char}' {len(places)} times; write {INJECT} into it exactly once")
    at = places[0]
    if (ids[at - 1], ids[at + 1]) != (marker.left, marker.right):
        raise UserError(f"the marker '{marker.char}' stands between tokens {ids[at - 1]} and {ids[at + 1]}, not {marker.left} and "
                        f"{marker.right}; write <concept>{INJECT}</concept> into the prompt")
    return at


def explanation(reply: str) -> tuple[str, bool]:
    """``(text, complete)`` of a reply: what stands between the tags. Without a closing tag it is all that follows the opening one."""
    _, opened, rest = reply.partition(OPEN)
    text, closed, _ = (rest if opened else reply).partition(CLOSE)
    return text.strip(), bool(opened and closed)


def plain(tokenizer, text: str) -> str:
    """Text in NFC whose control tokens are broken up by a blank, as the prompt renderer does with messages."""
    text = unicodedata.normalize("NFC", text)
    for control in sorted((t.content for t in tokenizer.added_tokens_decoder.values() if len(t.content) > 1), key=len, reverse=True):
        text = text.replace(control, control[0] + " " + control[1:])
    return text


def ar_ids(tokenizer, text: str, template: str = AR) -> list[int]:
    """The reconstructor's input: the text in its wrapper, no chat template, with special tokens (Gemma's BOS matters much).

    UserError where the input does not end in ``suffix_ids``, so that its last token would be another one than in training.
    """
    ids = list(tokenizer.encode(template.replace("{explanation}", plain(tokenizer, text)), add_special_tokens=True))
    if template.endswith(SUFFIX):
        suffix = suffix_ids(tokenizer)
        while ids and ids[-1] == tokenizer.eos_token_id and ids[-len(suffix):] != suffix:  # some tokenizers append their end
            ids.pop()
        if ids[-len(suffix):] != suffix:
            raise UserError(f"tokenizer {tokenizer.name_or_path}: the reconstructor's input ends in {ids[-len(suffix):]}, not {suffix}; "
                            "write the template so that nothing merges with its end")
    return ids


def suffix_ids(tokenizer) -> list[int]:
    """The last tokens of every reconstructor input. The first one is left out: it may merge with the text before it."""
    return list(tokenizer.encode(SUFFIX, add_special_tokens=False))[1:]
