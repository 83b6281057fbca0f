"""The verbalizer made better by reinforcement, with the reconstructor as its judge.

Each step draws several explanations of each of some vectors at temperature 1, lets the live reconstructor rebuild the vectors
from them, and makes the explanations likelier from which it succeeded better than from the others of the same vector. The
verbalizer is held to where it started by the KL divergence to the supervised adapter. On the same explanations the reconstructor
takes one supervised step, and no gradient goes from the one to the other: a judge that stands still is soon talked round.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Sequence

import numpy as np

from scionwood.errors import UserError
from scionwood.models import decoder
from scionwood.models.loading import FAMILIES
from scionwood.models.settings import Adapter
from scionwood.models.trees import TokenTree, to_tensors
from scionwood.tasks.nla import fve, meta, reconstructor as ar_module
from scionwood.tasks.nla.injection import to_scale
from scionwood.tasks.nla.reconstructor import HEAD, Pairs, Reconstructor
from scionwood.tasks.nla.rewards import advantages, scored
from scionwood.tasks.nla.settings import Reinforce
from scionwood.tasks.nla.template import marker_place
from scionwood.tasks.nla.verbalizer import Said, Verbalizer, adapter_folder
from scionwood.training.examples import Example, Examples, add_with_vector, embed_row, micro_batches, row_of, shuffle
from scionwood.training.loop import Checkpoint, Plan, autocast_for, restore_adapter, save_adapter
from scionwood.training.monitors import JsonLines, Monitor, peak_memory_mb
from scionwood.training.settings import Train

if TYPE_CHECKING:
    from scionwood.tasks.nla.flow import NlaFlow

START = "start"  # the adapter of the supervised verbalizer, which stays as it is
MICRO_TOKENS = 2048
CHUNK = 256  # positions whose logits exist at the same time
CLIP = 1.0
CHECKPOINT_SECONDS = 60.0
NEVER = -1e9  # the logit of the marker: not infinite, since 0 times infinity is not a number


def reinforce(base_model, renderer, values, *, av: Path, ar: Path, layer: int, settings: Reinforce, seed: int, av_out: Path, ar_out: Path,
              device,
              dtype, tokens: int = 80, reading: str = "last", loss: str = "normalised", dev: np.ndarray | None = None,
              monitors: Sequence[Monitor] = (), on_step: Callable[[int], None] | None = None,
              checkpoint_seconds: float = CHECKPOINT_SECONDS) -> dict:
    """Go on from the supervised adapters in the folders ``av`` and ``ar`` on vectors (n, d), without texts; leave the new ones in
    ``av_out``/best and ``ar_out``/best.

    ``layer``, ``reading`` and ``loss`` are the reconstructor's, ``tokens`` cuts an explanation. ``dev`` (m, d) are held-out vectors:
    their round-trip error by likeliest words is measured before and after. A killed run goes on from its last checkpoint to the
    same adapters. Returns facts. ``base_model`` is changed: the verbalizer's adapter stays on it.
    """
    import torch

    if base_model.config.model_type not in FAMILIES:
        raise UserError(f"model type '{base_model.config.model_type}': reinforcement runs on models of the types {', '.join(FAMILIES)}")
    values = np.asarray(values, dtype=np.float32)
    if not len(values):
        raise UserError("reinforcement: there is no vector to explain")
    autocast = autocast_for(device, dtype)
    av_out, ar_out = Path(av_out), Path(ar_out)
    judge = Reconstructor.load(adapter_folder(Path(ar)), base_model, renderer.tokenizer, layer, reading=reading, autocast=autocast)
    player = Verbalizer.load(av, base_model, renderer, autocast=autocast)
    player.model.load_adapter(str(adapter_folder(Path(av))), adapter_name=START)
    weights = learn(player, judge, frozen=not settings.ar_lr)
    groups = [[p for n, p in weights.items() if n.startswith(side)] for side in ("av.", "ar.")]
    optimiser = torch.optim.AdamW([{"params": g, "lr": lr} for g, lr in zip(groups, (settings.av_lr, settings.ar_lr)) if g],
                                  weight_decay=0.0)

    restore_adapter(av_out / "best")
    restore_adapter(ar_out / "best")
    state = Checkpoint(av_out / "checkpoint.safetensors")
    progress = state.load(weights, optimiser)
    if progress is None:
        progress = {"step": 0, "seconds": 0.0}
        if dev is not None:
            progress["before"] = round_trip(player, judge, dev, tokens)
    log = JsonLines(av_out / "log.jsonl", progress["step"] or -1)
    began, saved, earlier = time.perf_counter(), time.perf_counter(), progress["seconds"]
    for step in range(progress["step"], settings.steps):
        chosen = np.repeat(step_rows(len(values), settings.batch, seed, step), settings.samples)
        said = player.verbalize(values[chosen], temperature=1.0, tokens=tokens, seeds=[f"{seed}/{step}/{n}" for n in range(len(chosen))])
        reward, error = scored(said, values[chosen], judge.reconstruct, settings.reward)
        held = player_step(player, said, values[chosen], advantages(reward, settings.samples), settings.kl, device, autocast)
        judged = judge_step(judge, said, values[chosen], loss, device, autocast) if settings.ar_lr else None
        for group in groups:
            if group:
                torch.nn.utils.clip_grad_norm_(group, CLIP)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        progress |= {"step": step + 1, "seconds": earlier + time.perf_counter() - began}
        whole = np.isfinite(error)
        event = {"step": step + 1, "reward": round(float(reward.mean()), 5),
                 "error": round(float(error[whole].mean()), 5) if whole.any() else None,
                 "whole": round(float(whole.mean()), 4), "kl": round(held, 5), "loss": None if judged is None else round(judged, 5),
                 "words": round(float(np.mean([len(s.text.split()) for s in said])), 1), "seconds": round(progress["seconds"], 2)}
        for monitor in (log, *monitors):
            monitor(event)
        if on_step:
            on_step(step + 1)
        if step + 1 == settings.steps or time.perf_counter() - saved >= checkpoint_seconds:
            state.save(weights, optimiser, progress)
            saved = time.perf_counter()
    log.file.close()
    if dev is not None and "after" not in progress:
        progress["after"] = round_trip(player, judge, dev, tokens)
        state.save(weights, optimiser, progress)
    keep(player, judge, av, ar, av_out, ar_out, settings, seed)
    return {"steps": settings.steps, "seconds": round(progress["seconds"], 1), "peak_memory_mb": round(peak_memory_mb()),
            "vectors": len(values)} | {
        k: progress[k] for k in ("before", "after") if k in progress}


def learn(player: Verbalizer, judge: Reconstructor, frozen: bool) -> dict:
    """Make the weights of both trainable, in float32: ``{name: parameter}``. A frozen judge has none."""
    out = {f"av.{n}": p for n, p in player.model.named_parameters() if "lora_" in n and f".{START}." not in n}
    if not frozen:
        out |= {f"ar.{n}": p for n, p in judge.model.named_parameters() if "lora_" in n}
        out |= {f"ar.{HEAD}.{n}": p for n, p in judge.head.named_parameters()}
    for p in out.values():
        p.data = p.data.float()
        p.requires_grad_(True)
    return out


def step_rows(count: int, batch: int, seed: int, step: int) -> np.ndarray:
    """Which vectors a step explains: epochs follow one another, each in an order of its own."""
    batch = min(batch, count)
    at = [divmod(step * batch + i, count) for i in range(batch)]
    orders = {epoch: shuffle(count, seed, epoch) for epoch in {e for e, _ in at}}
    return np.array([orders[epoch][place] for epoch, place in at])


def round_trip(player: Verbalizer, judge: Reconstructor, values: np.ndarray, tokens: int) -> float:
    """Mean error of vectors that go through words and back, by the likeliest words; an explanation that was cut is read as it is."""
    said = player.verbalize(values, tokens=tokens)
    return float(fve.errors(judge.reconstruct([s.text for s in said]), values).mean())


@contextlib.contextmanager
def as_started(model, learning: list):
    """The verbalizer as it was before reinforcement, for the time of the context."""
    import torch

    model.set_adapter(START)
    try:
        with torch.no_grad():
            yield
    finally:
        model.set_adapter("default")
        for p in model.parameters():
            p.requires_grad_(False)
        for p in learning:
            p.requires_grad_(True)


def sampled(player: Verbalizer, said: Sequence[Said], values: np.ndarray, weights: np.ndarray) -> Examples:
    """Drawn replies as examples whose weights are their advantages. Replies to the same vector share its prompt."""
    at, scaled = marker_place(player.prompt, player.marker), to_scale(values, player.scale).numpy()
    tree, items, given, numbers = TokenTree(), [], {}, {}
    for n, (s, vector, weight) in enumerate(zip(said, scaled, weights)):
        answer = [*s.ids, *([] if s.end is None else [s.end])]
        path = add_with_vector(tree, player.prompt + answer[:-1], at, numbers.setdefault(vector.tobytes(), len(numbers)))
        given[int(path[at])] = vector
        start = len(player.prompt) - 1
        items.append(Example(f"sample {n}", path, np.arange(start, start + len(answer)), np.array(answer, dtype=np.int64), float(weight)))
    return Examples(tree, items, given)


def player_step(player: Verbalizer, said: Sequence[Said], values: np.ndarray, gains: np.ndarray, kl: float, device, autocast) -> float:
    """Add the gradient of the verbalizer's loss; returns the mean KL divergence to the start, in nats a token.

    The loss is the mean over all drawn tokens of ``-advantage * log p(token) + kl * KL(now || start)``. The tokens were drawn from
    these very weights, so no ratio of probabilities is needed; the divergence is exact, over the whole vocabulary.
    """
    import torch
    from torch.utils.checkpoint import checkpoint

    model, examples = player.model, sampled(player, said, values, gains)
    learning = [p for n, p in model.named_parameters() if p.requires_grad]
    total, divergence = sum(len(e.labels) for e in examples.items), 0.0
    for group in micro_batches(examples, range(len(examples.items)), MICRO_TOKENS):
        row, places, labels, weights = row_of(examples, group)
        ids, positions, mask = to_tensors(row, device)
        places, labels, weights = (torch.from_numpy(a).to(device) for a in (places, labels, weights))

        def run():
            return decoder.run_layers(model, embed_row(model, examples, group, row, ids), positions, mask)

        with autocast():
            with as_started(model, learning):
                first = run()
            now = run()

            def part(now, lo: int, hi: int):
                ours, theirs = (decoder.logits_at(model, h, places[lo:hi]) for h in (now, first))
                for logits in (ours, theirs):
                    logits[:, player.marker.id] = NEVER  # it was not drawn from
                p, q = ours.log_softmax(-1), theirs.log_softmax(-1)
                gain = (weights[lo:hi] * p.gather(1, labels[lo:hi, None])[:, 0]).sum()
                return -gain, (p.exp() * (p - q)).sum()

            cost = apart = 0.0
            for lo in range(0, len(places), CHUNK):
                c, d = checkpoint(part, now, lo, min(lo + CHUNK, len(places)), use_reentrant=False)
                cost, apart = cost + c, apart + d
        ((cost + kl * apart) / total).backward()
        divergence += float(apart.detach())
    return divergence / total


def judge_step(judge: Reconstructor, said: Sequence[Said], values: np.ndarray, loss: str, device, autocast) -> float | None:
    """Add the gradient of the reconstructor's own loss on the explanations that are whole; returns that loss."""
    whole = [i for i, s in enumerate(said) if s.complete and s.text]
    if not whole:
        return None
    pairs = Pairs([said[i].text for i in whole], values[whole])
    examples = ar_module.build_examples(judge.tokenizer, pairs, 1 << 30, judge.template)
    spans = [ar_module.places(judge.tokenizer, [examples.tree.tokens[j] for j in e.path], judge.reading, judge.template)
             for e in examples.items]
    plan = Plan(examples, Adapter(), Train(), 0, "", Path(), Path(), modules={HEAD: judge.head})
    of_row, total = ar_module.objective(pairs.values, spans, loss), 0.0
    for group in micro_batches(examples, range(len(examples.items)), MICRO_TOKENS):
        value = of_row(judge.model, plan, group, float(len(whole)), device=device, autocast=autocast)
        value.backward()
        total += float(value.detach())
    return total


def keep(player: Verbalizer, judge: Reconstructor, av: Path, ar: Path, av_out: Path, ar_out: Path, settings: Reinforce, seed: int) -> None:
    """Write both adapters with their sidecars, which name what they started from."""
    player.model.delete_adapter(START)
    save_adapter(player.model, av_out / "best")
    save_adapter(judge.model, ar_out / "best", {HEAD: judge.head})
    for start, out in ((av, av_out), (ar, ar_out)):
        start = adapter_folder(Path(start))
        if meta.sidecar_of(start).exists():
            side = meta.read_meta(start)
            more = {"stage": "rl", "parent_checkpoints": [start.parent.name if start.name == "best" else start.name],
                    "training": side.training | {"seed": seed, "reinforce": settings.model_dump(mode="json")}}
            meta.write_meta(out / "best", side.model_copy(update=more))


def stage(flow: NlaFlow, av: str, ar: str, seed: int) -> tuple[str, str]:
    """The stage of a run that goes on from the adapters ``av`` and ``ar`` by reinforcement; returns the names of the new ones."""
    av_out, ar_out, options = f"rl-{av}", f"rl-{ar}", flow.options

    def work():
        device, dtype = flow.machine
        facts = reinforce(flow.load_base(), flow.renderer, flow.values("train"), av=flow.run.path("adapter", av),
                          ar=flow.run.path("adapter", ar),
                          layer=flow.layer[0], settings=options.reinforce, seed=seed, av_out=flow.run.path("adapter", av_out),
                          ar_out=flow.run.path("adapter", ar_out), device=device, dtype=dtype, tokens=options.tokens,
                          reading=options.ar_reading,
                          loss=options.ar_loss, dev=flow.values("dev"), monitors=[flow_progress(flow, av_out)])
        flow.run.path("adapter", av_out, "checkpoint.safetensors").unlink(missing_ok=True)
        return facts

    inputs = {"av": flow.run.output_hash(f"train-{av}"), "ar": flow.run.output_hash(f"train-{ar}"),
              "vectors": flow.run.output_hash("extract"),
              "base": flow.base_hash, "reinforce": options.reinforce.model_dump(mode="json"), "seed": seed, "tokens": options.tokens}
    flow.run.stage(f"reinforce-{av}", inputs, [f"adapter/{av_out}", f"adapter/{ar_out}"], work)
    return av_out, ar_out


def flow_progress(flow: NlaFlow, name: str) -> Monitor:
    """A progress bar for the terminal."""
    from scionwood.training.monitors import Progress

    bar = Progress(name, flow.options.reinforce.steps, flow.run.echo)
    return lambda event: bar({k: v for k, v in event.items() if v is not None})
