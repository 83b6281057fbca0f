"""What a legal expression looks like, strictly, in both published notations, as llguidance grammars and as readers of the same.

- ``rows``, the notation of the published data set: one to three different tokens, or one token twice; a question is an expression that
  ends with a token of inquiry. Three lines tell the tokens, the device's words for them, and the pattern: all three must agree.
- ``card``, the notation of the model card, on one line: a question is one token with ``?`` behind it, and a repetition says its token
  three times.

A grammar admits exactly the texts that the strict reader accepts; ``all_texts`` lists them.
"""

from __future__ import annotations

import json
from functools import cache
from itertools import permutations
from typing import Literal, NamedTuple

from scionwood.tasks.lumen.rows import written
from scionwood.tasks.lumen.vocabulary import INQUIRY, PATTERNS, QUESTION, REPETITION, TOKENS, WORDS, pattern_of, plain, spelled, words_of

Notation = Literal["rows", "card"]
THREE = 3


class Expression(NamedTuple):
    """The tokens of an expression and its declared pattern. ``strict`` says whether it also keeps the grammar of its notation."""

    tokens: tuple[str, ...]
    pattern: str
    strict: bool = True


@cache
def sequences() -> tuple[tuple[str, ...], ...]:
    """Every sequence of tokens that the rules can draw: one to three different ones, or one twice."""
    distinct = [p for n in (1, 2, 3) for p in permutations(TOKENS, n)]
    return tuple(sorted(distinct + [(t, t) for t in TOKENS]))


def in_notation(tokens: tuple[str, ...], notation: Notation) -> Expression:
    """A drawn sequence as an expression of a notation.

    The card's question has a single token: what is asked about. So a question's first token stays there, and the inquiry becomes ``?``.
    """
    pattern = pattern_of(tokens)
    if notation == "card" and pattern == REPETITION:
        return Expression(tokens[:1] * THREE, pattern)
    if notation == "card" and pattern == QUESTION:
        return Expression(tokens[:1], pattern)
    return Expression(tuple(tokens), pattern)


def text_of(expression: Expression, notation: Notation) -> str:
    """The one legal text of an expression."""
    if notation == "rows":
        return written(expression.tokens)
    mark = "?" if expression.pattern == QUESTION else ""
    return " ".join(map(spelled, expression.tokens)) + mark


@cache
def expressions(notation: Notation) -> dict[str, Expression]:
    """Every legal text of a notation with its expression."""
    legal = {in_notation(s, notation) for s in sequences()}
    return {text_of(e, notation): e for e in sorted(legal)}


def all_texts(notation: Notation) -> tuple[str, ...]:
    """Every legal text of a notation, sorted."""
    return tuple(expressions(notation))


@cache
def lark(notation: Notation) -> str:
    """The grammar of a notation in llguidance's Lark format."""
    return _card() if notation == "card" else _rows()


def _card() -> str:
    """Single, repetition, question, pair and triple; a pair or triple repeats nothing and ends with no inquiry."""
    lines = ["start: " + " | ".join(f"t{k}" for k in range(len(TOKENS)))]
    for k, token in enumerate(TOKENS):
        said, rest = spelled(token), [t for t in TOKENS if t != token]
        repeated = f" {said}" * (THREE - 1)
        lines.append(f't{k}: "{said}" after{k}?')
        options = ['"?"', f'"{repeated}"']
        for second in rest:
            ends = [f'" {spelled(t)}"' for t in rest if t != second and t not in INQUIRY]
            triple = f"({' | '.join(ends)})"
            options.append(f'" {spelled(second)}" {triple}' + ("" if second in INQUIRY else "?"))
        lines.append(f"after{k}: " + " | ".join(options))
    return "\n".join(lines) + "\n"


def _rows() -> str:
    """A tree over the tokens; each of its ends goes on with the two lines that follow from the tokens."""

    def tail(tokens: tuple[str, ...]) -> str:
        return json.dumps(written(tokens)[len(_head(tokens)):])

    lines = ['start: "EISV_TOKENS: " (' + " | ".join(f"t{k}" for k in range(len(TOKENS))) + ")"]
    for k, a in enumerate(TOKENS):
        options = [tail((a,)), f'" {spelled(a)}" {tail((a, a))}']
        for b in TOKENS:
            if b == a:
                continue
            thirds = [f'" {spelled(c)}" {tail((a, b, c))}' for c in TOKENS if c not in (a, b)]
            options.append(f'" {spelled(b)}" ({" | ".join([tail((a, b)), *thirds])})')
        lines.append(f't{k}: "{spelled(a)}" (' + " | ".join(options) + ")")
    return "\n".join(lines) + "\n"


def _head(tokens: tuple[str, ...]) -> str:
    return f"EISV_TOKENS: {' '.join(map(spelled, tokens))}"


def read(text: str, notation: Notation) -> Expression | str:
    """Read an answer as the published evaluation does: laxly. What cannot be read is a reason.

    ``rows``: three fields, every word known, the pattern one of five; blanks around lines are free, other lines are passed over. The
    expression's ``strict`` says whether it is one of the legal texts to the letter (outer blanks aside). ``card``: known tokens and
    at most one final ``?``.
    """
    text = text.strip()
    exact = expressions(notation).get(text)
    if exact is not None:
        return exact
    return _read_rows(text) if notation == "rows" else _read_card(text)


def _read_rows(text: str) -> Expression | str:
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    for name in ("EISV_TOKENS", "LUMEN_TOKENS", "PATTERN"):
        if name not in fields:
            return f"no line {name}"
    tokens = _tokens(fields["EISV_TOKENS"])
    if isinstance(tokens, str):
        return tokens
    unknown = next((w for w in fields["LUMEN_TOKENS"].split() if w not in WORDS), None)
    if unknown is not None:
        return f"'{unknown}' is no word of the device"
    if fields["PATTERN"] not in PATTERNS:
        return f"'{fields['PATTERN']}' is no pattern"
    return Expression(tokens, fields["PATTERN"], strict=False)


def _read_card(text: str) -> Expression | str:
    asked = text.endswith("?")
    tokens = _tokens(text.removesuffix("?"))
    if isinstance(tokens, str):
        return tokens
    if not tokens:
        return "no token"
    return Expression(tokens, QUESTION if asked else pattern_of(tokens), strict=False)


def _tokens(text: str) -> tuple[str, ...] | str:
    """Written tokens as names, or what is wrong with them."""
    for word in text.split():
        if plain(word) not in TOKENS or word == plain(word):
            return f"'{word}' is no token"
    return tuple(map(plain, text.split()))
