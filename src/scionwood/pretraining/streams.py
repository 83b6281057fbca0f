"""Token streams on disk and the deterministic order in which their rows are trained."""

import random
from pathlib import Path
from typing import Iterable, Iterator

import numpy as np

from scionwood import files
from scionwood.errors import UserError, nearest
from scionwood.pretraining import corpus
from scionwood.pretraining.conversations import READERS, conversations

BATCH = 1 << 18  # characters encoded at a time, whole documents
FORMS = ("chat", "again")
PIECE = 1 << 20  # characters; a longer document is encoded in pieces


def source_of(name: str) -> str:
    """The source that a stream is made from: its name without the form."""
    return name.partition("+")[0]


def form_of(name: str) -> str:
    """The form of a stream: "" (plain documents), "chat" (conversations) or "again" (lines that come twice)."""
    return name.partition("+")[2]


def again(text: str, size: int = 4) -> str:
    """Lines in blocks of ``size``, every block followed by its lines in another order.

    What comes a second time can be foretold by looking back, and by nothing else. Text dense in repeats teaches a small model
    to look back (induction) within few steps; without it, it did not learn to compare two texts in ten million tokens.
    """
    rng, lines, out = random.Random(text), text.split("\n"), []
    for i in range(0, len(lines), size):
        block = lines[i : i + size]
        out += [*block, *rng.sample(block, len(block))]
    return "\n".join(out)


def _texts(name: str, path: Path, tokenizer, held_out: bool):
    """Yield the documents of one split of a stream as strings ready to encode."""
    form = form_of(name)
    for doc in corpus.documents(path):
        if corpus.is_held_out(doc) != held_out:
            continue
        if form == "chat":
            for messages in conversations(source_of(name), doc):
                # clean again: JSON can spell a control token by escapes
                messages = [m | {"content": corpus.clean(m["content"])} for m in messages]
                yield tokenizer.apply_chat_template(messages, tokenize=False).rstrip("\n")
        else:
            yield again(doc) if form == "again" else doc


def pieces(text: str, size: int = PIECE) -> Iterator[str]:
    """Cut a long text into pieces of about ``size`` characters that give the same tokens as the whole.

    The pre-tokenizer never joins the last newline before a letter, digit or mark with what follows it, so there it is cut.
    """
    start = 0
    while start + size < len(text):
        at = start + size
        while (at := text.find("\n", at) + 1) and at < len(text) and text[at].isspace():
            pass
        if not at:
            break
        yield text[start:at]
        start = at
    yield text[start:]


def _batches(texts: Iterable[str]) -> Iterator[list[tuple[str, bool]]]:
    """Pieces of texts, each with whether it ends its text, in batches of about ``BATCH`` characters."""
    batch, size = [], 0
    for text in texts:
        parts = list(pieces(text))
        for i, part in enumerate(parts, 1):
            batch.append((part, i == len(parts)))
            size += len(part)
            if size >= BATCH:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def write_stream(name: str, path: Path, tokenizer, out: Path, *, limit_tokens: int) -> int:
    """Encode a stream's training documents into one uint16 file, documents joined by the end-of-text token.

    Stops after ``limit_tokens`` (there is no use in encoding what is not trained). Returns the number of tokens.
    """
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    fast = tokenizer.backend_tokenizer
    parts, total = [], 0
    for batch in _batches(_texts(name, path, tokenizer, held_out=False)):
        for e, (_, last) in zip(fast.encode_batch([part for part, _ in batch], add_special_tokens=False), batch):
            ids = np.array(e.ids + [end] * last, dtype=np.uint16)
            parts.append(ids)
            total += len(ids)
        if total >= limit_tokens:
            break
    files.write_bytes(out, np.concatenate(parts).tobytes() if parts else b"")
    return total


def held_out_texts(name: str, path: Path, limit_bytes: int) -> list[str]:
    """The first held-out documents of a source, up to about ``limit_bytes`` of UTF-8."""
    out, size = [], 0
    for doc in corpus.documents(path):
        if corpus.is_held_out(doc):
            out.append(doc)
            size += len(doc.encode())
            if size >= limit_bytes:
                break
    return out


def scaled(mix: dict[str, float]) -> dict[str, float]:
    """Shares that sum to 1."""
    total = sum(mix.values())
    return {k: v / total for k, v in mix.items()}


def parse_mix(mix: dict[str, float], known: dict[str, Path]) -> dict[str, float]:
    """Check the names of a mix and scale its shares. ``name+chat`` is a source as conversations, ``name+again`` its lines twice."""
    for key in mix:
        name = source_of(key)
        if name not in known:
            raise UserError(f"mix: the corpus has no source '{name}'{nearest(name, known)}")
        form = form_of(key)
        if key != name and form not in FORMS:
            raise UserError(f"mix: '{key}': there is no form '+{form}'{nearest(form, FORMS)} (known: +{', +'.join(FORMS)})")
        if form == "chat" and name not in READERS:
            raise UserError(f"mix: '{key}': nothing is known about reading source '{name}' as conversations (known: {', '.join(READERS)})")
    return scaled(mix)


class Rows:
    """Rows of ``length`` tokens drawn from several streams by their shares, in an order fixed by the seed.

    Row ``i`` is always the same, so a resumed run goes on with the very row that the killed one would have taken.
    Every stream is cut into rows, shuffled, and gone through again in a new order when it is used up.
    """

    def __init__(self, folder: Path, shares: dict[str, float], length: int, count: int, seed: int):
        self.length, self.seed = length, seed
        self.names = sorted(shares)
        self.streams = []
        for n in self.names:
            path = folder / f"{n}.u16"
            tokens = path.stat().st_size // 2
            if tokens < length:  # an empty file could not even be mapped
                raise UserError(f"mix: source '{n}' gives only {tokens} tokens, less than one row of {length}; take it out of the mix")
            self.streams.append(np.memmap(path, dtype=np.uint16, mode="r"))
        rng = np.random.default_rng([seed, length])
        self.source = rng.choice(len(self.names), size=count, p=[shares[n] for n in self.names]).astype(np.int16)
        self.turn = np.zeros(count, dtype=np.int64)
        for k in range(len(self.names)):
            self.turn[self.source == k] = np.arange((self.source == k).sum())
        self.orders: dict[tuple[int, int], np.ndarray] = {}

    def row(self, i: int) -> np.ndarray:
        """Row ``i`` as int64 of shape (length,)."""
        k = int(self.source[i])
        stream = self.streams[k]
        per_epoch = len(stream) // self.length
        epoch, at = divmod(int(self.turn[i]), per_epoch)
        if (k, epoch) not in self.orders:
            self.orders[k, epoch] = np.random.default_rng([self.seed, k, epoch]).permutation(per_epoch)
        start = int(self.orders[k, epoch][at]) * self.length
        return stream[start : start + self.length].astype(np.int64)

    def epochs(self) -> dict[str, float]:
        """How often each stream is seen in all, in passes over it."""
        return {n: round(float((self.source == k).sum() * self.length / len(s)), 2)
                for k, (n, s) in enumerate(zip(self.names, self.streams))}


def prepare(folder: Path, known: dict[str, Path], tokenizer, mixes: list[tuple[dict[str, float], int]], log, *,
            begun: bool = False) -> dict[str, int]:
    """Write every stream that the mixes (shares, tokens to train) need; a stream that is there already is kept.

    One that is too short for a longer run is written anew, unless rows were trained from it (``begun``): their order would
    change; then it is gone through more often. Returns ``{stream: tokens}``.
    """
    need: dict[str, float] = {}
    for shares, tokens in mixes:
        for name, share in shares.items():
            need[name] = need.get(name, 0) + share * tokens
    index = folder / "streams.json"
    have = files.read_json(index) if index.exists() else {}
    for name, tokens in need.items():
        # 5 % more than needed, since the draw of rows is random
        limit = int(tokens * 1.05) + 4096
        path = folder / f"{name}.u16"
        whole = name in have and path.exists() and path.stat().st_size == 2 * have[name]["tokens"]
        if whole and (begun or have[name]["limit"] >= limit or have[name]["tokens"] < have[name]["limit"]):
            continue
        got = write_stream(name, known[source_of(name)], tokenizer, path, limit_tokens=limit)
        have[name] = {"tokens": got, "limit": limit}
        log(f"encoded {name}: {got:,} tokens")
        files.write_json(index, have)
    return {n: have[n]["tokens"] for n in need}
