"""Who takes part: a local model, a run, a GGUF file, an endpoint or recorded answers, each with the sampling that it is asked under."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Sequence

from pydantic import Field

from scionwood.errors import UserError, nearest
from scionwood.settings import Settings, check

MODEL, RUN, GGUF, ENDPOINT, RECORDED = "model", "run", "gguf", "endpoint", "recorded"
NAMED = re.compile(r"^([A-Za-z0-9][\w.-]*)=(.+)$", re.S)
OPTION = re.compile(r",([a-z_]+)=")


class Sampling(Settings):
    """How answers are drawn. ``tokens``: the longest answer. ``keep_going``: an answer to any but a fact task does
    not end before so many words; 0 lets the model decide."""

    temperature: float = Field(1.0, ge=0, le=10)
    top_p: float = Field(1.0, gt=0, le=1)
    min_p: float = Field(0.0, ge=0, le=1)
    tokens: int = Field(512, ge=1, le=100_000)
    keep_going: int = Field(0, ge=0, le=100_000)


class Options(Settings):
    """What may follow a contestant after commas."""

    temperature: float | None = Field(None, description="of its sampling")
    top_p: float | None = None
    min_p: float | None = None
    tokens: int | None = None
    keep_going: int | None = None
    adapter: str | None = None
    tokenizer: str | None = None
    model: str | None = None
    key_env: str | None = None
    timeout_s: float = Field(120.0, gt=0)
    concurrency: int = Field(4, ge=1)
    send_seed: bool = True


DRAWN = tuple(Sampling.model_fields)
ALLOWED = {
    MODEL: (*DRAWN, "adapter"),
    RUN: DRAWN,
    GGUF: (*DRAWN, "adapter", "tokenizer"),
    RECORDED: (),
    ENDPOINT: (*DRAWN, "model", "key_env", "timeout_s", "concurrency", "send_seed"),
}


@dataclass(frozen=True)
class Contestant:
    """One contestant. ``what`` is a folder, a file, a hub name or an address; ``part`` the system of a run."""

    name: str
    kind: str
    what: str
    part: str
    options: Options
    sampling: Sampling

    def row(self) -> dict[str, Any]:
        """The contestant as a JSON value, for the lock file."""
        return asdict(self) | {
            "options": self.options.model_dump(exclude_none=True, exclude=set(DRAWN)),
            "sampling": self.sampling.model_dump(),
        }


def from_row(row: dict[str, Any]) -> Contestant:
    """The contestant that ``row`` wrote."""
    return Contestant(
        row["name"],
        row["kind"],
        row["what"],
        row["part"],
        check(row["options"], Options, row["name"]),
        check(row["sampling"], Sampling, row["name"]),
    )


def parse(texts: Sequence[str], sampling: Sampling) -> list[Contestant]:
    """Contestants from ``[NAME=]WHAT[,KEY=VALUE...]``; what is not said of the sampling is ``sampling``'s. Names are made to differ."""
    out: list[Contestant] = []
    for text in texts:
        one = parse_one(text, sampling)
        taken, n = {c.name.lower() for c in out}, 2
        if one.name.lower() in taken and NAMED.match(text):
            raise UserError(f"'{text}': two contestants are called '{one.name}'; name one otherwise")
        name = one.name
        while name.lower() in taken:
            name, n = f"{one.name}-{n}", n + 1
        out.append(Contestant(name, *list(one.__dict__.values())[1:]))
    return out


def parse_one(text: str, sampling: Sampling) -> Contestant:
    """One contestant. Raises UserError for an unknown kind, option or value."""
    found = NAMED.match(text)
    name, rest = (found[1], found[2]) if found else ("", text)
    what, *pairs = OPTION.split(rest)
    given = dict(zip(pairs[::2], pairs[1::2]))
    kind, what, part = kind_of(what.strip(), text)
    known = ALLOWED[kind]
    for key in given:
        if key not in known:
            told = f"known: {', '.join(known)}" if known else "its answers are there already"
            raise UserError(f"contestant '{text}': unknown option '{key}' for a contestant of kind {kind}{nearest(key, known)} ({told})")
    options = check(given, Options, f"contestant '{text}'")
    if kind == ENDPOINT and not options.model:
        raise UserError(f"contestant '{text}': an endpoint needs the name of its model; add ,model=NAME")
    changed = {k: v for k in DRAWN if (v := getattr(options, k)) is not None}
    drawn = check(sampling.model_dump() | changed, Sampling, f"contestant '{text}'")
    options = options.model_copy(update=dict.fromkeys(DRAWN))  # said once, in the sampling
    return Contestant(name or default_name(kind, what, part, options), kind, what, part, options, drawn)


def kind_of(what: str, text: str) -> tuple[str, str, str]:
    """(kind, what without its part, part). The part of RUN:SYSTEM is the system; empty for everything else."""
    if re.match(r"https?://", what):
        return ENDPOINT, what, ""
    path = Path(what).expanduser()
    if path.suffix == ".gguf":
        return GGUF, what, ""
    if path.suffix == ".jsonl":
        return RECORDED, what, ""
    folder, colon, part = what.rpartition(":")
    for home, system in ((what, ""), (folder, part)):
        if home and (Path(home).expanduser() / "recipe.lock.toml").exists():
            return RUN, home, system
    if (path / "serving.json").exists():
        raise UserError(f"contestant '{text}': an export folder; name one of its .gguf files")
    if path.is_file():
        raise UserError(f"contestant '{text}': a file that is neither .gguf nor .jsonl (recorded answers)")
    return MODEL, what, ""


def default_name(kind: str, what: str, part: str, options: Options) -> str:
    """A short name from what it is."""
    stem = {ENDPOINT: options.model or "", GGUF: Path(what).stem, RECORDED: Path(what).stem}.get(kind, Path(what).name)
    stem += f"-{part}" if part else f"-{Path(options.adapter).name}" if kind == MODEL and options.adapter else ""
    return re.sub(r"[^\w.-]+", "-", stem).strip("-._") or kind
