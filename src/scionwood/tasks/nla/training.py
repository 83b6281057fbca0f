"""The trainings of an NLA run as stages: the reconstructor, the verbalizer, and the verbalizer's control on shuffled vectors."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator, Sequence

import numpy as np

from scionwood import files
from scionwood.errors import UserError
from scionwood.tasks.nla import probes

if TYPE_CHECKING:
    from scionwood.tasks.nla.flow import NlaFlow
    from scionwood.tasks.nla.reconstructor import Pairs
    from scionwood.training.settings import Train

SHUFFLED = "shuffled-vectors"
SWEPT = (0.25, 1.0, 4.0)  # times the 75th percentile of the norms
SWEEP_SHARE = 0.25  # of the verbalizer's training, for each scale that is tried


def settings_of(flow: NlaFlow, role: str) -> Train:
    """The recipe's [train] as it holds for one of the two."""
    return flow.options.training(flow.recipe.train, role)


def decided(flow: NlaFlow, role: str) -> dict[str, Any]:
    """What decides the result of a training, for the hash of its stage."""
    return {"vectors": flow.run.output_hash("extract"), "data": flow.run.output_hash("prepare"), "base": flow.base_hash,
            "adapter": flow.recipe.adapter.model_dump(mode="json", exclude={"folder"}),
            "train": settings_of(flow, role).model_dump(mode="json", exclude={"seeds", "checkpoint_seconds"})}


@contextlib.contextmanager
def watched(flow: NlaFlow, name: str, steps: int) -> Iterator[list]:
    """The monitors of a training. A GPU whose memory is too small is an error that says what to do."""
    import torch

    from scionwood.training.monitors import Progress, trackio_monitor

    bar = Progress(name, steps, flow.run.echo)
    tracker = trackio_monitor("scionwood", f"{flow.recipe.name}-{name}", flow.recipe.train.model_dump(mode="json"))
    try:
        yield [bar] + ([tracker] if tracker else [])
    except torch.OutOfMemoryError:
        raise UserError(f"training: does not fit the memory of {flow.machine[0]}; lower train.micro_tokens or set train.recompute = "
                        "true") from None
    finally:
        bar.close()


def shortened(train: Train, share: float) -> Train:
    """A training of a share of the length."""
    return train.model_copy(update={"epochs": train.epochs * share, "steps": train.steps and max(1, round(train.steps * share))})


def steps_of(train: Train, examples: int) -> int:
    """How many optimiser steps a training takes, for its progress bar."""
    import math

    return train.steps or max(1, math.ceil(train.epochs * examples / min(train.batch, examples)))


# -- reconstructor ----------------------------------------------------------------------------------------------------------


def pairs(flow: NlaFlow, split: str, seed: int, keep: Sequence[int] | None = None) -> Pairs:
    """What the reconstructor is trained on, for a split or some of its texts: each field that it reads, and what it hears of the vector.

    On dev, by which it is chosen, it hears where it can: what comes back from the verbalizer's words is what counts in the end.
    """
    from scionwood.tasks.nla.reconstructor import Pairs

    texts, values, heard = flow.task.split(split), flow.values(split), said(flow, seed, split)
    keep = range(len(texts)) if keep is None else keep
    found = [(words, i, f"{texts[i].id}/said") for i in keep for words in heard.get(texts[i].id, ())]
    if split != "dev" or not found:
        fields = flow.options.read() if split != "dev" else flow.options.read()[:1]
        found = [(getattr(texts[i], field), i, f"{texts[i].id}/{field}") for field in fields for i in keep] + found
    return Pairs([w for w, _, _ in found], values[[i for _, i, _ in found]], [n for _, _, n in found])


def said(flow: NlaFlow, seed: int, split: str) -> dict[str, list[str]]:
    """What the verbalizer of a seed wrote of the training and dev vectors, by text; nothing where the reconstructor is not to hear it."""
    if not flow.options.ar_hears:
        return {}
    return {r["id"]: r["said"] for r in files.read_jsonl(flow.run.path("data", f"said-{seed}.jsonl")) if r["split"] == split}


def speak(flow: NlaFlow, seed: int) -> None:
    """The stage that has the trained verbalizer describe the training and dev vectors, for the reconstructor to hear."""
    file, count = f"data/said-{seed}.jsonl", flow.options.ar_hears

    def work():
        writer, rows = load_verbalizer(flow, f"av-{seed}"), []
        for split in ("train", "dev"):
            values = flow.values(split)
            found = [writer.verbalize(values, tokens=flow.options.tokens)]
            for n in range(1, count if split == "train" else 1):
                seeds = [n * len(values) + i for i in range(len(values))]
                found.append(writer.verbalize(values, temperature=1.0, tokens=flow.options.tokens, seeds=seeds))
            rows += [{"split": split, "id": t.id, "said": [s.text for s in of]} for t, of in zip(flow.task.split(split), zip(*found))]
        files.write_jsonl(flow.run.path(file), rows)
        return {"different": len({w for r in rows for w in r["said"]}), "vectors": len(rows)}

    inputs = {"av": flow.run.output_hash(f"train-av-{seed}"), "vectors": flow.run.output_hash("extract"), "tokens": flow.options.tokens,
              "count": count}
    flow.run.stage(f"said-{seed}", inputs, [file], work)


def fit_reconstructor(flow: NlaFlow, folder: Path, name: str, seed: int, keep: Sequence[int] | None = None,
                      dev_keep: Sequence[int] | None = None) -> dict:
    """Train a reconstructor into ``folder`` on the training texts, or on those at the places ``keep``."""
    from scionwood.tasks.nla.reconstructor import train_reconstructor

    train = settings_of(flow, "ar")
    given, options = pairs(flow, "train", seed, keep), flow.options
    device, dtype = flow.machine
    with watched(flow, name, steps_of(train, len(given.words))) as monitors:
        facts = train_reconstructor(
            flow.load_base(), flow.renderer.tokenizer, given, pairs(flow, "dev", seed, dev_keep), layer=flow.layer[0],
            adapter=flow.recipe.adapter, train=train, seed=seed, base_hash=flow.base_hash, folder=folder, cache=flow.run.path(".cache"),
            device=device, dtype=dtype, loss=options.ar_loss, reading=options.ar_reading, monitors=monitors)
    (folder / "checkpoint.safetensors").unlink()
    return facts | {"texts": len(given.words)}


def ar_inputs(flow: NlaFlow, seed: int, **more) -> dict[str, Any]:
    """What decides a reconstructor's training, for the hash of its stage."""
    options = flow.options
    heard = flow.run.output_hash(f"said-{seed}") if options.ar_hears else None
    return decided(flow, "ar") | {"seed": seed, "reads": options.read(), "heard": heard, "loss": options.ar_loss,
                                  "reading": options.ar_reading} | more


def reconstructor(flow: NlaFlow, name: str, seed: int) -> None:
    """The stage that trains a reconstructor on all training texts."""
    def work():
        from scionwood.tasks.nla.meta import write_meta

        facts = fit_reconstructor(flow, flow.run.path("adapter", name), name, seed)
        write_meta(flow.run.path("adapter", name, "best"), sidecar(flow, "ar", seed))
        return facts

    flow.run.stage(f"train-{name}", ar_inputs(flow, seed), [f"adapter/{name}"], work)


def load_reconstructor(flow: NlaFlow, folder: Path):
    """A trained reconstructor, in the number format of the measuring."""
    from scionwood.tasks.nla.reconstructor import Reconstructor

    return Reconstructor.load(folder / "best", flow.load_base(flow.measuring), flow.renderer.tokenizer, flow.layer[0],
                              reading=flow.options.ar_reading, autocast=flow.autocast(flow.measuring))


# -- verbalizer -------------------------------------------------------------------------------------------------------------


def fit_verbalizer(flow: NlaFlow, folder, train: Train, seed: int, values: np.ndarray, scale: float, name: str, dev: bool = True) -> dict:
    """Train a verbalizer into ``folder`` to say the descriptions of the training texts, given ``values``."""
    from scionwood.tasks.nla.task import lead_of
    from scionwood.tasks.nla.verbalizer import train_verbalizer

    device, dtype = flow.machine
    texts = flow.task.split("train")
    held_out = (flow.values("dev"), flow.fields("dev", "description")) if dev else None
    with watched(flow, name, steps_of(train, len(texts) * (1 + flow.options.hints))) as monitors:
        facts = train_verbalizer(
            flow.load_base(), flow.renderer, values, flow.fields("train", "description"), ids=[t.id for t in texts], scale=scale,
            adapter=flow.recipe.adapter, settings=train, seed=seed, folder=folder, cache=flow.run.path(".cache"), base=flow.recipe.base,
            base_hash=flow.base_hash, layer=flow.layer[0], device=device, dtype=dtype, dev=held_out,
            hints=[lead_of(t) for t in texts] if flow.options.hints else None, trained_on=f"{len(texts)} texts of task nla",
            monitors=monitors)
    (folder / "checkpoint.safetensors").unlink()
    return facts | {"texts": len(texts)}


def verbalizer(flow: NlaFlow, name: str, seed: int) -> None:
    """The stage that trains a verbalizer; under the name ``SHUFFLED`` the control, whose vectors are those of other texts."""
    shuffled = name == SHUFFLED
    train = settings_of(flow, "av")
    if shuffled:
        train = shortened(train, flow.recipe.evidence.control_share)

    def work():
        values = flow.values("train")
        if shuffled:
            values = values[probes.strangers(flow.task.cases("train"), within=False)]
        return fit_verbalizer(flow, flow.run.path("adapter", name), train, seed, values, flow.scale, name, dev=not shuffled)

    inputs = decided(flow, "av") | {"seed": seed, "scale": flow.scale, "shuffled": shuffled, "epochs": [train.epochs, train.steps],
                                    "hints": flow.options.hints}
    flow.run.stage(f"train-{name}", inputs, [f"adapter/{name}"], work)


def load_verbalizer(flow: NlaFlow, name: str | None):
    """A trained verbalizer, or with None the base without an adapter under the same prompt."""
    from scionwood.tasks.nla.verbalizer import Verbalizer

    model, autocast = flow.load_base(flow.measuring), flow.autocast(flow.measuring)
    if name is None:
        return Verbalizer(model, flow.renderer, flow.scale, autocast=autocast)
    return Verbalizer.load(flow.run.path("adapter", name, "best"), model, flow.renderer, autocast=autocast)


def swept_scale(flow: NlaFlow, values: np.ndarray) -> tuple[float, str]:
    """The scale at which a short training tells true from shuffled vectors of the dev texts best."""
    from scionwood.run import remove
    from scionwood.tasks.nla.scale import PERCENTILE, norms, sweep_scale

    middle = float(np.percentile(norms(values), PERCENTILE))
    train = settings_of(flow, "av")
    train = shortened(train, SWEEP_SHARE)
    dev, said = flow.values("dev"), flow.fields("dev", "description")
    others = dev[probes.strangers(flow.task.cases("dev"), within=True)]
    key = files.text_hash([train.model_dump(mode="json"), flow.base_hash, flow.recipe.adapter.model_dump(mode="json"), values.tolist()])
    key = key[:12]

    def losses(scale: float) -> tuple[np.ndarray, np.ndarray]:
        from scionwood.tasks.nla.verbalizer import Verbalizer

        folder = flow.run.path(".cache", f"scale-{scale:.6g}-{key}")
        fit_verbalizer(flow, folder, train, flow.recipe.train.seeds[0], values, scale, f"scale {scale:.4g}", dev=False)
        tried = Verbalizer.load(folder, flow.load_base(flow.measuring), flow.renderer, autocast=flow.autocast(flow.measuring))
        remove(folder)
        return tried.loss(dev, said), tried.loss(others, said)

    best, rows = sweep_scale([middle * s for s in SWEPT], losses)
    told = ", ".join(f"{r['scale']:.4g}: {r['gap']:+.4f}" for r in rows)
    return best, f"injection scale {best:.4g} (largest gap in nats between shuffled and true vectors after a short training: {told})"


# -- sidecar ----------------------------------------------------------------------------------------------------------------


def sidecar(flow: NlaFlow, role: str, seed: int | None = None):
    """What ``nla_meta.yaml`` says of the run (role av, no seed) or of one of its reconstructors."""
    from scionwood.tasks.nla import meta, template
    from scionwood.tasks.nla.verbalizer import sidecar_tokens

    layer, facts, options = flow.layer[0], flow.run.facts("extract"), flow.options
    scales = meta.Scales(injection_scale=facts["scale"], mse_scale=facts["width"] ** 0.5 if options.ar_loss == "normalised" else None)
    return meta.Checkpoint(
        role=role, stage="run" if seed is None else "sft", base_checkpoint=flow.recipe.base, d_model=facts["width"], extraction=scales,
        extraction_layer_index=layer, tokens=sidecar_tokens(flow.renderer, template.find_marker(flow.renderer.tokenizer)),
        prompt_templates=meta.Templates(av=template.AV, ar=template.AR),
        critic=meta.Critic(extraction_layer_index=layer) if role == "ar" else None,
        trained_on=f"{len(flow.task.split('train'))} texts of task nla", created_by="scionwood",
        training={"positions": options.positions, "ar_reading": options.ar_reading} | ({} if seed is None else {"seed": seed}))
