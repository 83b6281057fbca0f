"""Further looks of an NLA run as stages: less data, a category left out, and the training texts themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

import numpy as np

from scionwood import files
from scionwood.run import remove
from scionwood.tasks.nla import fve, training
from scionwood.tasks.nla.answers import Told
from scionwood.tasks.nla.measuring import first_seed, fitted_ridge

if TYPE_CHECKING:
    from scionwood.tasks.nla.flow import NlaFlow


def names(flow: NlaFlow) -> list[str]:
    """The rows that these looks leave, by name; each lies in ``beside/NAME.jsonl``."""
    out = [f"{reader}-at-{share:g}" for share in flow.options.curve for reader in ("ar", "ridge")]
    out += [f"{reader}-without-{category}" for category in left_out_categories(flow) for reader in readers(flow)]
    return out + [f"ar-on-training-{field}" for field in flow.options.read()]


def readers(flow: NlaFlow) -> tuple[str, ...]:
    """Which readers are trained anew with a category left out."""
    return {"none": (), "ridge": ("ridge",), "ar": ("ridge", "ar")}[flow.options.leave_out]


def left_out_categories(flow: NlaFlow) -> list[str]:
    """Categories of the test that training has and could do without."""
    if not readers(flow):
        return []
    train = {t.category for t in flow.task.split("train")}
    return sorted(c for c in {t.category for t in flow.task.split("test")} if c in train and len(train) > 1)


def places(flow: NlaFlow, split: str, category: str, has: bool) -> list[int]:
    """Places of a split's texts that are of a category, or that are not."""
    return [i for i, t in enumerate(flow.task.split(split)) if (t.category == category) == has]


def read_by_ar(flow: NlaFlow, name: str, inputs: dict, file: str, keep: Sequence[int], dev: Sequence[int] | None,
               test: Sequence[int] | None) -> dict:
    """Train a reconstructor on some texts and write its rows on the descriptions of (some) test texts; it is not kept.

    Its folder is named after ``inputs``: a killed training goes on, but never one of other inputs.
    """
    folder = flow.run.path(".cache", f"{name}-{files.text_hash(inputs)[:12]}")
    facts = training.fit_reconstructor(flow, folder, name, first_seed(flow), keep, dev)
    write_gold(flow, training.load_reconstructor(flow, folder), file, test)
    remove(folder)
    return {"steps": facts["steps"], "seconds": facts["seconds"], "texts": len(keep)}


def write_gold(flow: NlaFlow, reader, file: str, test: Sequence[int] | None) -> None:
    """Rows of a reconstructor on the author's descriptions of (some) test texts."""
    said = flow.fields("test", "description")
    words = said if test is None else [said[i] for i in test]
    flow.write_rows(file, fve.unit(reader.reconstruct(words)), Told(said=words), keep=test)


def ridge_rows(flow: NlaFlow, file: str, keep: Sequence[int], dev: Sequence[int] | None, test: Sequence[int] | None) -> None:
    """Rows of the ridge, fitted on some training texts, on (some) test texts."""
    texts = flow.task.split("test")
    chosen = texts if test is None else [texts[i] for i in test]
    predicted: np.ndarray = fitted_ridge(flow, keep, dev).predict(chosen)
    flow.write_rows(file, fve.unit(predicted), Told(said=[t.description for t in chosen]), keep=test)


def curve(flow: NlaFlow) -> None:
    """One stage for each share of the training texts: reconstructor and ridge trained on it, measured on the test's descriptions."""
    for share in flow.options.curve:
        name, keep = f"at-{share:g}", flow.share(share)
        inputs = training.ar_inputs(flow, first_seed(flow), keep=keep)

        def work() -> dict:
            ridge_rows(flow, f"beside/ridge-{name}.jsonl", keep, None, None)
            return read_by_ar(flow, f"ar-{name}", inputs, f"beside/ar-{name}.jsonl", keep, None, None)

        flow.run.stage(f"curve-{share:g}", inputs, [f"beside/ridge-{name}.jsonl", f"beside/ar-{name}.jsonl"], work)


def left_out(flow: NlaFlow) -> None:
    """One stage for each category that is left out of training."""
    for category in left_out_categories(flow):
        keep, dev = places(flow, "train", category, False), places(flow, "dev", category, False)
        test = places(flow, "test", category, True)
        outputs = [f"beside/{reader}-without-{category}.jsonl" for reader in readers(flow)]
        inputs = training.ar_inputs(flow, first_seed(flow), category=category, readers=readers(flow))

        def work() -> dict:
            ridge_rows(flow, outputs[0], keep, dev, test)
            return read_by_ar(flow, f"ar-without-{category}", inputs, outputs[1], keep, dev, test) if len(outputs) > 1 else {}

        flow.run.stage(f"without-{category}", inputs, outputs, work)


def own_training_texts(flow: NlaFlow) -> None:
    """The stage that measures the reconstructor on what it was trained to read: what a figure without held-out texts would be."""
    seed = first_seed(flow)
    ar = flow.adapters(seed)[1]
    outputs = [f"beside/ar-on-training-{field}.jsonl" for field in flow.options.read()]

    def work():
        reader = training.load_reconstructor(flow, flow.run.path("adapter", ar))
        for field, file in zip(flow.options.read(), outputs):
            words = flow.fields("train", field)
            flow.write_rows(file, fve.unit(reader.reconstruct(words)), Told(said=words), split="train")

    inputs = {"ar": flow.weights(ar), "vectors": flow.run.output_hash("extract"), "data": flow.run.output_hash("prepare")}
    flow.run.stage("training-texts", inputs, outputs, work)
