"""Reading a text token by token: what the verbalizer says of each activation, and how much of it the words carry back."""

from __future__ import annotations

import unicodedata
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Callable, Sequence

import numpy as np

from scionwood.errors import UserError
from scionwood.tasks.nla import fve
from scionwood.tasks.nla.extract import own_tokens
from scionwood.tasks.nla.states import block_states
from scionwood.tasks.nla.vectors import OUTLIER  # such vectors (often newlines, or the first token) hold bookkeeping rather than content

if TYPE_CHECKING:
    from scionwood.tasks.nla.pair import Pair

EARLY = 10  # tokens; before, a block has seen too little to hold much
TEMPLATE, TEXT, REPLY = "template", "text", "reply"


@dataclass(frozen=True)
class Token:
    """One token and its reading. ``fve`` is 1 - error / D for the D that the reading names, ``centred`` the cosine once the mean of the
    same vectors is taken off both; they and ``cos`` are None without a reconstructor or where nothing was said. ``marks``: early,
    outlier, newline outlier, part of a character, cut off."""

    index: int
    id: int
    text: str
    role: str
    norm: float
    said: str
    complete: bool
    fve: float | None
    cos: float | None
    centred: float | None
    marks: tuple[str, ...]

    @property
    def reliable(self) -> bool:
        """Whether the position is one that can be read at all."""
        return not {"early", "outlier", "newline outlier"} & set(self.marks)


@dataclass(frozen=True)
class Reading:
    """A text that was read. ``denominator`` is D and ``against`` says of which vectors. ``own_fve`` is the FVE over the reliable
    tokens against their own mean: the harder question, what the words say that is not alike in all tokens of this text."""

    text: str
    base: str
    layer: int
    verbalizer: str
    reconstructor: str
    denominator: float | None
    against: str
    own_fve: float | None
    mean_fve: float | None
    mean_cos: float | None
    mean_centred: float | None
    tokens: list[Token]

    def row(self) -> dict[str, Any]:
        """As a JSON value."""
        return asdict(self)


def pieces(tokenizer, ids: Sequence[int]) -> list[tuple[str, bool]]:
    """The text of each token, and whether it is but a part of a character: a character of several tokens stands at the last of them."""
    found: list[tuple[str, bool]] = []
    waiting: list[int] = []
    for token in ids:
        waiting.append(token)
        text = tokenizer.decode(waiting, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if "�" in text and len(waiting) < 4:
            found.append(("", True))
            continue
        found.append((text, False))
        waiting = []
    return found


def roles_of(renderer, text: str) -> tuple[list[int], list[str]]:
    """Token ids of a user's turn with ``text``, and of each whether it belongs to the text or to the template around it."""
    ids, own = own_tokens(renderer, text)
    inside = set(own)
    return ids, [TEXT if i in inside else TEMPLATE for i in range(len(ids))]


def marks_of(index: int, text: str, norm: float, median: float, part: bool, complete: bool) -> tuple[str, ...]:
    """What speaks against trusting a position's reading."""
    marks = ["early"] if index < EARLY else []
    if norm > OUTLIER * median:
        marks.append("newline outlier" if "\n" in text else "outlier")
    return tuple(marks + ["part of a character"] * part + ["cut off"] * (not complete))


def read(pair: "Pair", text: str, *, plain: bool = False, reply: int = 0, temperature: float = 0.0, tokens: int = 80, seed: int = 0,
         echo: Callable[[str], None] = lambda line: None) -> Reading:
    """Read every token of a text.

    The text is put into a user's turn of the chat template, or with ``plain`` stands alone. With ``reply`` the base first answers
    greedily, up to so many tokens, and its answer is read too. One forward pass gives all vectors; they are verbalized together.
    """
    text = unicodedata.normalize("NFC", text)
    if not text.strip():
        raise UserError("read: an empty text has no tokens")
    pair.need_av()
    renderer = pair.renderer
    if plain:
        ids = list(renderer.tokenizer.encode(renderer.clean(text)))
        roles = [TEXT] * len(ids)
    else:
        ids, roles = roles_of(renderer, text)
    if reply:
        from scionwood.tasks.nla.generating import generate

        said = generate(pair.model, ids, pair.ends, reply)[0].ids
        ids, roles = [*ids, *said], [*roles, *[REPLY] * len(said)]
    values = block_states(pair.model, [ids], [pair.layer], every=True)[0][0]
    echo(f"{len(ids)} tokens; verbalizing their vectors at layer {pair.layer}")
    seeds = [seed + i for i in range(len(ids))]
    spoken = pair.av.verbalize(values, temperature=temperature, tokens=tokens, seeds=seeds)
    told = [i for i, s in enumerate(spoken) if s.text.strip()]
    back = np.zeros_like(values)
    if pair.ar_folder and told:
        back[told] = pair.ar.reconstruct([spoken[i].text for i in told])
    return _reading(pair, text, ids, roles, values, spoken, back, set(told) if pair.ar_folder else set())


def _reading(pair: "Pair", text: str, ids, roles, values: np.ndarray, spoken, back: np.ndarray, told: set[int]) -> Reading:
    norms = np.linalg.norm(values, axis=1)
    median = float(np.median(norms))
    spread = pair.spread
    own = fve.fit_spread(values)
    taken, against = (spread, pair.against) if spread else (own, "this text's own tokens")
    strict = taken.strict
    errors, cos, centred = fve.errors(back, values), fve.cosines(back, values), fve.centred_cosines(back, values, taken.mean)
    found = []
    for i, (piece, part) in enumerate(pieces(pair.renderer.tokenizer, ids)):
        known = i in told
        found.append(Token(
            i, int(ids[i]), piece, roles[i], round(float(norms[i]), 3), spoken[i].text.strip(), spoken[i].complete,
            round(float(1 - errors[i] / strict), 4) if known and strict > 0 else None,
            *(round(float(x[i]), 4) if known else None for x in (cos, centred)),
            marks_of(i, piece, norms[i], median, part, spoken[i].complete)))
    good = [i for i in sorted(told) if found[i].reliable]
    own_fve = None
    if len(good) > 1 and (of_good := fve.fit_spread(values[good])).strict > fve.SMALLEST:
        own_fve = round(fve.fve(errors[good], of_good.strict), 4)
    return Reading(
        text, pair.name, pair.layer, pair.av_name, pair.ar_name, round(strict, 6) if told else None, against if told else "", own_fve,
        round(float(np.mean([found[i].fve for i in good])), 4) if good and strict > 0 else None,
        *(round(float(np.mean(x[good])), 4) if good else None for x in (cos, centred)), found)


def shown(text: str) -> str:
    """A token on one line: line ends as ⏎, a leading blank as ·, nothing at all as …."""
    return text.replace("\n", "⏎").replace("\t", "⇥").replace(" ", "·") or "…"


def table(reading: Reading, width: int | None = None) -> str:
    """The tokens as lines of text; explanations are cut where a ``width`` is given."""
    head = ("", "token", "norm", "FVE", "cos", "centred")
    rows = [(str(t.index), shown(t.text)[:18], f"{t.norm:.1f}", _number(t.fve), _number(t.cos), _number(t.centred)) for t in reading.tokens]
    widths = [max(_cells(r[c]) for r in [head, *rows]) for c in range(6)]
    lines = []
    for row, token in zip([head, *rows], [None, *reading.tokens]):
        cells = [" " * (w - _cells(c)) + c if n != 1 else c + " " * (w - _cells(c)) for n, (c, w) in enumerate(zip(row, widths))]
        marks = f"[{', '.join(token.marks)}] " if token and token.marks else ""
        line = "  ".join([*cells, marks + (token.said or "(nothing said)") if token else "explanation"])
        lines.append(line if width is None or len(line) <= width else line[: width - 1] + "…")
    return "\n".join([*lines, *summary(reading)])


def summary(reading: Reading) -> list[str]:
    """What holds for the whole text."""
    good = sum(t.reliable for t in reading.tokens)
    lines = [f"{len(reading.tokens)} tokens, {good} of them reliable (position {EARLY} or later, norm at most {OUTLIER:g} times the "
             f"median); layer {reading.layer} of {reading.base}"]
    if reading.mean_fve is not None:
        lines.append(f"over the reliable tokens: mean FVE {reading.mean_fve:.3f} (D = {reading.denominator:.3f}, {reading.against}), "
                     f"mean cosine {reading.mean_cos:.3f}, {reading.mean_centred:.3f} with the mean taken off")
    if reading.own_fve is not None:
        lines.append(f"FVE {reading.own_fve:.3f} against the mean of these tokens: what the words say beyond what all of them share")
    return lines


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _cells(text: str) -> int:
    """Columns that a text takes on a terminal; East Asian wide characters take two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 0 if unicodedata.combining(c) else 1 for c in text)
