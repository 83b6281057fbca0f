"""What users bring to the nla tools: files of texts, of vectors, and plain arrays. Nothing is unpickled."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scionwood.errors import UserError
from scionwood.files import read_jsonl

VECTORS = (".parquet", ".safetensors", ".npy")


@dataclass(frozen=True)
class Given:
    """One text as it was given. ``row`` keeps every key of its line, so that a result can carry them on."""

    id: str
    text: str
    row: dict[str, Any] = field(default_factory=dict)


def read_given(path: Path, key: str = "text") -> list[Given]:
    """Texts from JSON lines (``key`` names the text, ``id`` is optional) or from a plain file with one text on each line."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: a folder; name a file of texts (.jsonl with '{key}' on every line, or .txt with a text on each line)")
    if path.suffix in (".jsonl", ".json"):
        found = []
        for n, row in enumerate(read_jsonl(path), 1):
            if not isinstance(row.get(key), str) or not row[key].strip():
                raise UserError(f"{path}: row {n} has no text under '{key}'; every line needs one")
            found.append(Given(str(row.get("id", f"{path.stem}-{n}")), row[key], row))
    else:
        try:
            lines = path.read_text("utf-8").splitlines()
        except FileNotFoundError:
            raise UserError(f"{path}: no such file") from None
        except UnicodeDecodeError as e:
            raise UserError(f"{path}: not UTF-8 text ({e})") from None
        texts = [line.strip() for line in lines if line.strip()]
        found = [Given(f"{path.stem}-{n}", text, {"id": f"{path.stem}-{n}", key: text}) for n, text in enumerate(texts, 1)]
    if not found:
        raise UserError(f"{path}: holds no text")
    seen: set[str] = set()
    for given in found:
        if given.id in seen:
            raise UserError(f"{path}: the id '{given.id}' stands there twice; give every text an id of its own")
        seen.add(given.id)
    return found


@dataclass(frozen=True)
class Rows:
    """Vectors as they were given: ``values`` (n, d) float32, a name for each, and the text of each where the file holds it."""

    ids: list[str]
    texts: list[str]
    values: np.ndarray


def read_rows(path: Path, width: int | None = None) -> Rows:
    """Vectors from Parquet or safetensors (as ``scion nla extract`` writes them) or from an ``.npy`` array (n, d) or (d,).

    ``width`` is the d that the model needs. Raises UserError where a value is not finite or the width is another.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file")
    if path.suffix == ".npy":
        rows = _read_npy(path)
    elif path.suffix in VECTORS:
        from scionwood.tasks.nla.vectors import read_vectors

        found = read_vectors(path)
        rows = Rows(list(found.ids), list(found.texts), np.asarray(found.values, dtype=np.float32))
    else:
        raise UserError(f"{path}: not a file of vectors (known: {', '.join(VECTORS)})")
    if not len(rows.values):
        raise UserError(f"{path}: holds no vector")
    bad = ~np.isfinite(rows.values).all(axis=1)
    if bad.any():
        raise UserError(f"{path}: vector '{rows.ids[int(bad.argmax())]}' has a value that is not finite; extract it anew")
    if width is not None and rows.values.shape[1] != width:
        raise UserError(f"{path}: vectors of {rows.values.shape[1]} values, but this model's have {width}; extract them with the same base")
    return rows


def _read_npy(path: Path) -> Rows:
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as e:
        raise UserError(f"{path}: not an array of numbers ({str(e).splitlines()[0]}); save it with numpy.save(file, array)") from None
    if values.ndim == 1:
        values = values[None]
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.floating):
        raise UserError(f"{path}: an array {values.shape} of {values.dtype}; expected floats of shape (n, d) or (d,)")
    return Rows([f"{path.stem}-{n}" for n in range(1, len(values) + 1)], [""] * len(values), values.astype(np.float32))
