"""Activations with their texts: Parquet files with fixed-size lists and a sidecar, or bare safetensors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scionwood import files
from scionwood.errors import UserError
from scionwood.tasks.nla.meta import Checkpoint, Dataset, read_meta, sidecar_of, write_meta
from scionwood.tasks.nla.scale import norms

ROWS = 4096  # of a row group; a reader never needs more of the file at once
OUTLIER = 8.0  # times the median norm; a newline of Qwen has about a hundred times


@dataclass
class Vectors:
    """``ids`` (n) of the texts (a text with several positions comes several times), ``texts`` (n) up to and including the token
    of the vector, ``positions`` (n,) of that token (0-based), ``values`` (n, d) raw float32, ``meta``: the sidecar."""

    ids: list[str]
    texts: list[str]
    positions: np.ndarray
    values: np.ndarray
    meta: Dataset

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def layer(self) -> int | None:
        return self.meta.extraction.layer_index

    def take(self, chosen) -> Vectors:
        """Some of the rows, in the order given."""
        chosen = np.asarray(chosen, dtype=np.int64)
        rows = chosen.tolist()
        meta = self.meta.model_copy(update={"row_count": len(rows)})
        return Vectors([self.ids[i] for i in rows], [self.texts[i] for i in rows], self.positions[chosen], self.values[chosen], meta)


def describe_norms(vectors: Vectors) -> dict:
    """Norms in figures, and which rows are outliers: their norm is 8 times the median, or not finite. They decode badly."""
    sizes = norms(vectors.values)
    finite = sizes[np.isfinite(sizes)]
    median = float(np.median(finite)) if len(finite) else 0.0
    wild = np.flatnonzero(~np.isfinite(sizes) | (sizes > OUTLIER * median))
    told = {} if not len(finite) else {"mean": float(finite.mean()), "median": median, "p75": float(np.percentile(finite, 75)),
                                       "max": float(finite.max())}
    outliers = [{"id": vectors.ids[i], "position": int(vectors.positions[i]), "norm": float(sizes[i])} for i in wild]
    return {"count": len(sizes), "outliers": outliers} | told


def need_pyarrow():
    """pyarrow with Parquet; UserError where it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError("Parquet files need pyarrow: pip install 'scionwood[nla]'") from None
    return pyarrow


def write_vectors(path: Path, vectors: Vectors) -> None:
    """Write a Parquet file with its sidecar, each atomically. Values are float32, as they are: nothing is normalised."""
    pa = need_pyarrow()
    values = np.ascontiguousarray(vectors.values, dtype=np.float32)
    n, d = values.shape
    layer = -1 if vectors.layer is None else vectors.layer
    schema = pa.schema([("n_raw_tokens", pa.int64()), ("detokenized_text_truncated", pa.string()),
                        ("activation_vector", pa.list_(pa.float32(), d)),
                        ("activation_layer", pa.int64()), ("doc_id", pa.string())])
    with files.replacing(Path(path)) as part, pa.parquet.ParquetWriter(part, schema) as out:
        for lo in range(0, n, ROWS):
            rows = slice(lo, min(n, lo + ROWS))
            flat = pa.array(values[rows].reshape(-1))
            out.write_table(pa.table([
                pa.array(np.asarray(vectors.positions[rows], dtype=np.int64) + 1), pa.array(vectors.texts[rows], pa.string()),
                pa.FixedSizeListArray.from_arrays(flat, d), pa.array(np.full(rows.stop - lo, layer, dtype=np.int64)),
                pa.array(vectors.ids[rows], pa.string()),
            ], schema=schema))
    meta = vectors.meta.model_copy(deep=True)
    meta.row_count, meta.extraction.d_model = n, d
    write_meta(path, meta)


def matrix(pa, column, path: Path) -> np.ndarray:
    """A list column as (n, d) float32, chunk by chunk: offsets of one array end at 2^31 numbers, and ``take`` beyond is not safe."""
    out, width = None, None
    done = 0
    for chunk in column.chunks:
        if chunk.null_count or chunk.flatten().null_count:
            raise UserError(f"{path}: activation_vector has empty values; write that file anew")
        if not len(chunk):
            continue
        if pa.types.is_fixed_size_list(chunk.type):
            d = chunk.type.list_size
        else:
            lengths = np.unique(np.asarray(chunk.value_lengths()))
            d = int(lengths[0]) if len(lengths) == 1 else -1
        width = d if width is None else width
        if d <= 0 or d != width:
            raise UserError(f"{path}: the vectors in activation_vector are not equally long; write that file anew")
        if out is None:
            out = np.empty((len(column), d), dtype=np.float32)
        out[done : done + len(chunk)] = chunk.flatten().to_numpy(zero_copy_only=False).reshape(len(chunk), d)
        done += len(chunk)
    return np.empty((0, 0), dtype=np.float32) if out is None else out


def read_parquet(path: Path) -> Vectors:
    """Read a Parquet file of activations. Of its columns only ``activation_vector`` must be there; so need not be the sidecar."""
    pa = need_pyarrow()
    try:
        table = pa.parquet.ParquetFile(path)
        known = [c for c in ("n_raw_tokens", "detokenized_text_truncated", "activation_vector", "activation_layer", "doc_id")
                 if c in table.schema_arrow.names]
        if "activation_vector" not in known:
            raise UserError(f"{path}: has no column activation_vector; its columns are {', '.join(table.schema_arrow.names)}")
        kind = table.schema_arrow.field("activation_vector").type
        lists = pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)
        if not lists or not pa.types.is_floating(kind.value_type):
            raise UserError(f"{path}: activation_vector holds {kind}, not lists of numbers; write that file anew")
        data = table.read(known)
    except (pa.ArrowException, OSError, ValueError) as e:
        raise UserError(f"{path}: not a Parquet file that can be read ({next(iter(str(e).splitlines()), '')}); name another or write it "
                        "anew") from None
    values = matrix(pa, data["activation_vector"], path)
    n = len(data)
    if not n and pa.types.is_fixed_size_list(kind):
        values = np.empty((0, kind.list_size), dtype=np.float32)
    meta = Dataset()
    if sidecar_of(path).exists():
        meta = read_meta(path)
        if isinstance(meta, Checkpoint):
            raise UserError(f"{sidecar_of(path)}: describes a checkpoint, not a set of activations")
        if meta.extraction.d_model not in (None, values.shape[1]):
            raise UserError(f"{path}: holds vectors of {values.shape[1]} numbers, its sidecar says {meta.extraction.d_model}; they do not "
                            "belong together")
    layers = {int(k) for k in data["activation_layer"].to_pylist() if k is not None and k >= 0} if "activation_layer" in known else set()
    if len(layers) > 1:
        raise UserError(f"{path}: holds vectors of several layers ({', '.join(map(str, sorted(layers)))}); split it by activation_layer")
    if layers:
        (layer,) = layers
        if meta.extraction.layer_index not in (None, layer):
            raise UserError(f"{path}: holds vectors of layer {layer}, its sidecar says {meta.extraction.layer_index}; they do not belong "
                            "together")
        meta.extraction.layer_index = layer
    meta.row_count, meta.extraction.d_model = n, values.shape[1] or None
    texts = [t or "" for t in data["detokenized_text_truncated"].to_pylist()] if "detokenized_text_truncated" in known else [""] * n
    ids = [str(i) for i in data["doc_id"].to_pylist()] if "doc_id" in known else [f"row-{i}" for i in range(n)]
    counts = data["n_raw_tokens"].to_pylist() if "n_raw_tokens" in known else [0] * n
    return Vectors(ids, texts, np.array([(c or 0) - 1 for c in counts], dtype=np.int64), values, meta)


def read_safetensors(path: Path) -> Vectors:
    """Read every tensor (d,) or (n, d) of a safetensors file, one below the other; a row is called by its tensor's name."""
    from safetensors import SafetensorError, safe_open

    ids, parts = [], []
    try:
        with safe_open(path, "pt") as f:
            for name in sorted(f.keys()):
                tensor = f.get_tensor(name)
                if tensor.ndim not in (1, 2) or not tensor.is_floating_point():
                    raise UserError(f"{path}: tensor '{name}' of shape {tuple(tensor.shape)} is no vector (d,) and no set of vectors "
                                    "(n, d)")
                rows = tensor.float().numpy().reshape(-1, tensor.shape[-1])
                ids += [name] if tensor.ndim == 1 else [f"{name}-{i}" for i in range(len(rows))]
                parts.append(rows)
    except (SafetensorError, OSError) as e:
        raise UserError(f"{path}: not a safetensors file that can be read ({next(iter(str(e).splitlines()), '')})") from None
    if not parts or len({p.shape[1] for p in parts}) > 1:
        raise UserError(f"{path}: " + ("holds no vector" if not parts else "its vectors are not equally long"))
    values = np.concatenate(parts)
    meta = Dataset(row_count=len(values))
    meta.extraction.d_model = values.shape[1]
    return Vectors(ids, [""] * len(ids), np.full(len(ids), -1, dtype=np.int64), values, meta)


def read_vectors(path: Path) -> Vectors:
    """Read a ``.parquet`` or ``.safetensors`` file of vectors. Raises UserError where it cannot be read."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file of vectors")
    if path.suffix == ".parquet":
        return read_parquet(path)
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    raise UserError(f"{path}: vectors are read from .parquet and .safetensors files")
