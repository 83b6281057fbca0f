"""The activation verbalizer: a vector, put in the place of a marker's embedding, to words."""

from __future__ import annotations

import contextlib
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

import numpy as np

from scionwood.errors import UserError
from scionwood.models import decoder
from scionwood.models.loading import FAMILIES, load_adapter
from scionwood.models.prompts import Renderer
from scionwood.models.settings import Adapter
from scionwood.models.trees import TokenTree
from scionwood.tasks.nla import meta, template
from scionwood.tasks.nla.injection import place, to_scale
from scionwood.tasks.nla.template import Marker, av_answer, av_prompt, explanation, find_marker, marker_place
from scionwood.training.examples import Example, Examples, add_with_vector
from scionwood.training.loop import Plan, autocast_for, train
from scionwood.training.settings import Train

TOKENS = 200  # longest explanation
HINT_WEIGHT = 4.0  # of a hint's tokens in the loss: a hint is many times shorter than a description
BATCH_TOKENS = 4096  # of one forward pass when losses are measured


@dataclass(frozen=True)
class Said:
    """One explanation: the text between its tags, whether both tags were written before the limit, the reply's token ids, and
    the token that ended it (None where the limit did)."""

    text: str
    complete: bool
    ids: tuple[int, ...] = ()
    end: int | None = None


class Verbalizer:
    """A language model that says what a vector holds. Without an adapter it is the untrained verbalizer, a control."""

    def __init__(self, model, renderer: Renderer, scale: float, *, marker: Marker | None = None, prompt: str = template.AV,
                 autocast=contextlib.nullcontext):
        self.model, self.renderer, self.scale, self.autocast, self.template = model, renderer, scale, autocast, prompt
        self.marker = marker or find_marker(renderer.tokenizer)
        self.prompt = av_prompt(renderer, self.marker, prompt)
        self.device = next(model.parameters()).device
        # whatever ends a turn ends the reply; an untrained model may write any of them
        end = av_answer(renderer, self.marker, "a", prompt)[-1]
        self.ends = {end} | {i for i, t in renderer.tokenizer.added_tokens_decoder.items() if t.special}

    @classmethod
    def load(cls, folder: Path, base_model, renderer: Renderer, *, scale: float | None = None,
             autocast=contextlib.nullcontext) -> Verbalizer:
        """A trained one from its folder (an adapter in PEFT format and ``nla_meta.yaml``), put on ``base_model``, which it changes.

        ``scale`` wins over the sidecar's. UserError where sidecar, tokenizer and base do not belong together.
        """
        folder = adapter_folder(Path(folder))
        side = meta.read_meta(folder)
        if not isinstance(side, meta.Checkpoint) or side.role != "av":
            raise UserError(f"{meta.sidecar_of(folder)}: does not describe a verbalizer (kind nla_model, role av)")
        width = base_model.config.get_text_config().hidden_size
        if side.d_model != width:
            raise UserError(f"{folder}: reads vectors of {side.d_model} numbers, this base has {width}; use its own base "
                            f"({side.base_checkpoint})")
        scale, _ = meta.find("extraction.injection_scale", scale, side)
        if not scale:
            raise UserError(f"{meta.sidecar_of(folder)}: extraction.injection_scale is missing; give the scale that it was trained with")
        marker, prompt = find_marker(renderer.tokenizer), side.prompt_templates.av or template.AV
        if side.tokens:
            if side.tokens.injection_char != marker.char:
                marker = given_marker(side.tokens, renderer, prompt)
            meta.check_tokens(side.tokens, marker, renderer.tokenizer, where=str(meta.sidecar_of(folder)))
        return cls(load_adapter(base_model, folder), renderer, scale, marker=marker, prompt=prompt, autocast=autocast)

    # -- words --------------------------------------------------------------------------------------------------------

    def verbalize(self, values, *, temperature: float = 0.0, tokens: int = TOKENS, seeds: Sequence | None = None,
                  batch: int = 64) -> list[Said]:
        """Explanations of vectors (n, d). At temperature 0 the likeliest token is taken each time; above, each row draws from a
        stream of chance that depends on its own seed (a number or text) alone, by default its number, whatever else is in the batch."""
        values = np.asarray(values, dtype=np.float32)
        seeds = list(range(len(values))) if seeds is None else list(seeds)
        if len(seeds) != len(values):
            raise ValueError(f"{len(seeds)} seeds for {len(values)} vectors")
        out: list[Said] = []
        for lo in range(0, len(values), batch):
            out += self._write(values[lo : lo + batch], temperature, tokens, seeds[lo : lo + batch])
        return out

    def _write(self, values: np.ndarray, temperature: float, tokens: int, seeds: list) -> list[Said]:
        import torch
        from transformers import DynamicCache

        chances = [random.Random(f"{s}") for s in seeds]
        replies: list[list[int]] = [[] for _ in seeds]
        ended: list[int | None] = [None] * len(seeds)
        alive = list(range(len(seeds)))
        at = marker_place(self.prompt, self.marker)
        with torch.no_grad(), self.autocast():
            ids = torch.tensor([self.prompt] * len(seeds), device=self.device)
            hidden = place(decoder.embed(self.model, ids), ids, values, self.marker, self.scale)
            cache = DynamicCache(config=self.model.config.get_text_config())
            if at:  # what stands before the marker is read once for all rows
                self.model(inputs_embeds=hidden[:1, :at], past_key_values=cache, use_cache=True, logits_to_keep=1)
                if len(seeds) > 1:
                    cache.batch_repeat_interleave(len(seeds))
            unread = hidden[:, at:]
            for _ in range(tokens):
                logits = self.model(inputs_embeds=unread, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1].float()
                logits[:, self.marker.id] = float("-inf")  # the marker is no word
                chosen = draw(logits, temperature, [chances[i] for i in alive])
                going = [n for n, token in enumerate(chosen) if token not in self.ends]
                for n, token in enumerate(chosen):
                    if token in self.ends:
                        ended[alive[n]] = token
                    else:
                        replies[alive[n]].append(token)
                if not going:
                    break
                if len(going) < len(alive):
                    cache.batch_select_indices(torch.tensor(going, device=self.device))
                    alive = [alive[n] for n in going]
                unread = decoder.embed(self.model, torch.tensor([[chosen[n]] for n in going], device=self.device))
        return [Said(*explanation(self.renderer.tokenizer.decode(r)), tuple(r), end) for r, end in zip(replies, ended)]

    # -- losses -------------------------------------------------------------------------------------------------------

    def loss(self, values, texts: Sequence[str]) -> np.ndarray:
        """Mean cross-entropy in nats of each text's tokens (tags and turn end included), given its vector: (n,) in float64."""
        return np.array([of.mean() for of in self.token_losses(values, texts)])

    def token_losses(self, values, texts: Sequence[str]) -> list[np.ndarray]:
        """Cross-entropy in nats of every token of each reply (see ``template.av_answer``), given its vector: n arrays in float64."""
        import torch
        import torch.nn.functional as F

        values = np.asarray(values, dtype=np.float32)
        answers = [av_answer(self.renderer, self.marker, t, self.template) for t in texts]
        out: list[np.ndarray] = [np.empty(0)] * len(texts)
        start = len(self.prompt) - 1
        order = sorted(range(len(texts)), key=lambda i: len(answers[i]))
        step = max(1, BATCH_TOKENS // (len(self.prompt) + max(map(len, answers), default=1)))
        for lo in range(0, len(order), step):
            chosen = order[lo : lo + step]
            width = start + max(len(answers[i]) for i in chosen)
            ids = torch.zeros(len(chosen), width, dtype=torch.long)
            for n, i in enumerate(chosen):
                row = self.prompt + answers[i][:-1]
                ids[n, : len(row)] = torch.tensor(row)  # padded on the right: no real token sees the padding
            ids = ids.to(self.device)
            with torch.no_grad(), self.autocast():
                hidden = place(decoder.embed(self.model, ids), ids, values[chosen], self.marker, self.scale)
                stack, head = decoder.parts(self.model)
                hidden = stack(inputs_embeds=hidden, use_cache=False).last_hidden_state
                for n, i in enumerate(chosen):
                    logits = head(hidden[n, start : start + len(answers[i])]).float()
                    labels = torch.tensor(answers[i], device=self.device)
                    out[i] = F.cross_entropy(logits, labels, reduction="none").double().cpu().numpy()
        return out


def draw(logits, temperature: float, chances: Sequence[random.Random]) -> list[int]:
    """One token for each row of logits (b, vocabulary): the likeliest at temperature 0, else drawn with one number of the row's chance."""
    import torch

    if temperature <= 0:
        return logits.argmax(-1).tolist()
    sums = (logits.double() / temperature).softmax(-1).cumsum(-1)
    marks = torch.tensor([[c.random()] for c in chances], dtype=sums.dtype, device=sums.device) * sums[:, -1:]
    return torch.searchsorted(sums, marks, right=True).clamp(max=logits.shape[-1] - 1)[:, 0].tolist()


def adapter_folder(folder: Path) -> Path:
    """The folder that holds the adapter: the one given, or ``best`` within it, where a training leaves it."""
    return folder if (folder / "adapter_model.safetensors").exists() or not (folder / "best").is_dir() else folder / "best"


def given_marker(tokens: meta.Tokens, renderer: Renderer, prompt: str) -> Marker:
    """The marker that a sidecar names, with the neighbours that it has in the live prompt."""
    ids = renderer.render(template.av_messages(Marker(tokens.injection_char, -1, -1, -1), prompt)).prompt
    if ids.count(tokens.injection_token_id) != 1 or ids[-1] == tokens.injection_token_id:
        raise UserError(f"'{tokens.injection_char}' (token {tokens.injection_token_id}) does not stand exactly once in the prompt of the "
                        "sidecar with this tokenizer; use the tokenizer of its base")
    at = ids.index(tokens.injection_token_id)
    return Marker(tokens.injection_char, tokens.injection_token_id, ids[at - 1], ids[at + 1])


def build_examples(renderer: Renderer, marker: Marker, ids: Sequence[str], values, texts: Sequence[str], scale: float, max_length: int,
                   prompt: str = template.AV, weight: float = 1.0, onto: Examples | None = None) -> Examples:
    """Vectors (n, d) and their texts as training examples: the prompt up to the marker is shared by all, and computed once a row.

    With ``onto``, they are added to those. Several texts of one vector share its nodes.
    """
    ask = av_prompt(renderer, marker, prompt)
    at = marker_place(ask, marker)
    scaled = to_scale(values, scale).numpy()
    out = Examples(TokenTree(), [], {}) if onto is None else onto
    numbers: dict[bytes, int] = {}
    for name, vector, text in zip(ids, scaled, texts, strict=True):
        answer = av_answer(renderer, marker, text, prompt)
        if len(ask) + len(answer) > max_length:
            raise UserError(f"case {name}: {len(ask) + len(answer)} tokens, more than max_length = {max_length}; raise train.max_length or "
                            "shorten it")
        path = add_with_vector(out.tree, ask + answer[:-1], at, numbers.setdefault(vector.tobytes(), len(numbers)))
        out.vectors[int(path[at])] = vector
        start = len(ask) - 1
        out.items.append(Example(name, path, np.arange(start, start + len(answer)), np.array(answer, dtype=np.int64), weight))
    return out


def train_verbalizer(model, renderer: Renderer, values, texts: Sequence[str], *, scale: float, adapter: Adapter, settings: Train, seed: int,
                     folder: Path, cache: Path, base: str, base_hash: str, device, dtype, ids: Sequence[str] | None = None,
                     layer: int | None = None,
                     dev: tuple | None = None, hints: Sequence[str] | None = None, hint_weight: float = HINT_WEIGHT,
                     prompt: str = template.AV, trained_on=None, monitors: Sequence = (), on_step=None) -> dict:
    """Train a LoRA adapter that says ``texts`` (n) of ``values`` (n, d), raw vectors that are injected with norm ``scale``.

    ``dev``: held-out ``(values, texts)``; the adapter with the lowest loss on them is kept. ``hints`` (n): a few words that each
    vector tells (such as the kind of its text), trained along under a short prompt of their own. A small base learns how to write
    descriptions long before it finds that the vector says what to write; a hint can be told from the vector alone.

    Leaves ``folder/best`` in PEFT format with ``nla_meta.yaml``, and goes on where a killed run stopped. Returns the facts.
    """
    if model.config.model_type not in FAMILIES:
        raise UserError(f"model type '{model.config.model_type}': a verbalizer is trained on models of the types {', '.join(FAMILIES)}; "
                        "others can be read (extraction) and injected into")
    ids = [f"text-{i}" for i in range(len(texts))] if ids is None else ids
    marker = find_marker(renderer.tokenizer)
    examples = build_examples(renderer, marker, ids, values, texts, scale, settings.max_length, prompt)
    if hints is not None:
        build_examples(renderer, marker, [f"{name}, hint" for name in ids], values, hints, scale, settings.max_length, template.HINT,
                       hint_weight, examples)
    plan = Plan(examples, adapter, settings, seed, base_hash, Path(folder), Path(cache))
    if dev is not None:
        def lowest(trained) -> float:
            verbalizer = Verbalizer(trained, renderer, scale, marker=marker, prompt=prompt, autocast=autocast_for(device, dtype))
            return -float(verbalizer.loss(*dev).mean())

        plan.dev = lowest
    facts = train(model, plan, device, dtype, monitors, on_step)
    meta.write_meta(plan.folder / "best", meta.Checkpoint(
        role="av", stage="sft", base_checkpoint=base, d_model=int(np.asarray(values).shape[1]),
        extraction=meta.Scales(injection_scale=scale),
        extraction_layer_index=layer, tokens=sidecar_tokens(renderer, marker), prompt_templates=meta.Templates(av=prompt, ar=template.AR),
        trained_on=trained_on, created_by="scionwood", training={"seed": seed, "steps": facts["steps"], "lr": settings.lr,
                                                                 "examples": len(texts), "hints": hints is not None}))
    return facts


def sidecar_tokens(renderer: Renderer, marker: Marker) -> meta.Tokens:
    """The tokens table of a sidecar, from the live tokenizer."""
    return meta.Tokens(injection_char=marker.char, injection_token_id=marker.id, injection_left_neighbor_id=marker.left,
                       injection_right_neighbor_id=marker.right, critic_suffix_ids=template.suffix_ids(renderer.tokenizer))
