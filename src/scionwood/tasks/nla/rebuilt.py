"""Vectors that were made of words: written to a file, and measured against the true ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Sequence

import numpy as np

from scionwood.errors import UserError
from scionwood.files import replacing, write_tensors
from scionwood.tasks.nla import fve
from scionwood.tasks.nla.inputs import VECTORS, Given, read_rows

if TYPE_CHECKING:
    from scionwood.tasks.nla.pair import Pair


def write(path: Path, given: Sequence[Given], values: np.ndarray, pair: "Pair") -> None:
    """Write vectors (n, d) float32 as Parquet with its sidecar, safetensors (one tensor ``vectors``), or an ``.npy`` array."""
    path = Path(path)
    values = np.ascontiguousarray(values, dtype=np.float32)
    if path.suffix == ".npy":
        with replacing(path) as part, open(part, "wb") as f:
            np.save(f, values, allow_pickle=False)
    elif path.suffix == ".safetensors":
        import torch

        write_tensors(path, {"vectors": torch.from_numpy(values)})
    elif path.suffix == ".parquet":
        from scionwood.tasks.nla.meta import Dataset, Extraction
        from scionwood.tasks.nla.vectors import Vectors, write_vectors

        meta = Dataset(stage="reconstructed", extraction=Extraction(base_model=pair.name, layer_index=pair.layer))
        write_vectors(path, Vectors([g.id for g in given], [g.text for g in given], np.full(len(given), -1), values, meta))
    else:
        raise UserError(f"{path}: not a kind of file for vectors (known: {', '.join(VECTORS)})")


def measure(given: Sequence[Given], values: np.ndarray, against: Path, pair: "Pair") -> dict[str, Any]:
    """How close vectors come to the true ones of the same ids: cosine and error of each, FVE of all with its denominator named.

    The mean and D are those of the training vectors where they are at hand, else those of ``against`` itself.
    """
    true = read_rows(against, values.shape[1])
    place = {name: i for i, name in enumerate(true.ids)}
    if len(place) < len(true.ids):
        raise UserError(f"{against}: has several vectors of one id; it needs one for each")
    found = [(i, place[g.id]) for i, g in enumerate(given) if g.id in place]
    if not found:
        raise UserError(f"{against}: none of its ids is one of the texts' ('{true.ids[0]}' there, '{given[0].id}' here)")
    mine, theirs = values[[i for i, _ in found]], true.values[[j for _, j in found]]
    spread = pair.spread or fve.fit_spread(true.values)
    errors, cos = fve.errors(mine, theirs), fve.cosines(mine, theirs)
    centred = fve.centred_cosines(mine, theirs, spread.mean)
    return {
        "rows": [{"id": given[i].id, "error": round(float(e), 6), "cosine": round(float(c), 6), "centred_cosine": round(float(z), 6)}
                 for (i, _), e, c, z in zip(found, errors, cos, centred)],
        "n": len(found), "left_out": len(given) - len(found), "fve": round(fve.fve(errors, spread.strict), 6), "D": round(spread.strict, 6),
        "against": pair.against or f"the vectors of {Path(against).name}", "mean_cosine": round(float(cos.mean()), 6),
        "mean_centred_cosine": round(float(centred.mean()), 6),
    }


def table(found: dict[str, Any]) -> str:
    """The figures as lines of text."""
    width = max(len(r["id"]) for r in found["rows"])
    lines = [f"{'id'.ljust(width)}  error  cosine  centred"]
    lines += [f"{r['id'].ljust(width)}  {r['error']:5.3f}  {r['cosine']:6.3f}  {r['centred_cosine']:7.3f}" for r in found["rows"]]
    left = f"; {found['left_out']} texts have no true vector" if found["left_out"] else ""
    return "\n".join([*lines, f"FVE {found['fve']:.3f} over {found['n']} vectors (D = {found['D']:.3f}, {found['against']}){left}",
                      f"mean cosine {found['mean_cosine']:.3f}, {found['mean_centred_cosine']:.3f} with the mean taken off"])
