"""The activation reconstructor (AR): words to a vector, by blocks 0 to K of the base with a LoRA, and a value head."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Literal, Sequence

import numpy as np

from scionwood.errors import UserError
from scionwood.models.settings import Adapter
from scionwood.tasks.nla import fve, template
from scionwood.tasks.nla.cutting import cut, inner, states
from scionwood.training.loop import Plan, autocast_for
from scionwood.training.loop import train as train_loop
from scionwood.training.settings import Train

HEAD = "value_head"
BATCH = 32
Reading = Literal["last", "mean"]
Loss = Literal["normalised", "raw"]


@dataclass
class Pairs:
    """Words and the vectors that they should lead to: ``words`` n texts, ``values`` (n, d), ``ids`` a name for each, for messages.

    One vector may stand there with several words, such as a description and a summary.
    """

    words: Sequence[str]
    values: np.ndarray
    ids: Sequence[str] = field(default_factory=list)

    def __post_init__(self):
        self.ids = list(self.ids) or [str(i) for i in range(len(self.words))]
        if not len(self.words) == len(self.values) == len(self.ids):
            raise ValueError(f"{len(self.words)} texts, {len(self.values)} vectors, {len(self.ids)} ids")


class Reconstructor:
    """Reads words, gives the vector that they lead to.

    ``model``: a causal LM of at least ``layer`` + 1 blocks, plain (it is cut here), or what ``cut`` gave with an adapter on it
    (``is_cut``). ``head``: a Linear(d, d), by default the identity. ``reading``: the state of the input's last token, or the mean
    over the words' tokens. ``autocast``: the number format of products, by default that of the weights.
    """

    def __init__(self, model, tokenizer, layer: int, head=None, *, words: str = template.AR, reading: Reading = "last",
                 is_cut: bool = False, autocast: Callable | None = None):
        self.model = model if is_cut else cut(model, layer)
        self.model.eval()
        self.tokenizer, self.layer, self.template, self.reading = tokenizer, layer, words, reading
        weight = inner(self.model).embed_tokens.weight
        self.autocast = autocast or autocast_for(weight.device, weight.dtype)
        self.head = (head if head is not None else identity_head(width(self.model))).to(weight.device).float().eval()

    @classmethod
    def load(cls, folder: Path, model, tokenizer, layer: int, **kw) -> Reconstructor:
        """Put the adapter and the value head of ``folder`` on the blocks 0 to ``layer`` of ``model``. Further keys as in the class."""
        from scionwood.models.loading import load_adapter

        folder = Path(folder)
        base = cut(model, layer)
        head = read_head(folder / f"{HEAD}.safetensors", width(base))
        return cls(load_adapter(base, folder), tokenizer, layer, head, is_cut=True, **kw)

    def reconstruct(self, texts: Sequence[str], batch: int = BATCH) -> np.ndarray:
        """(n, d) float32, one vector for each text. Its length means nothing unless the loss was raw: see fve.unit."""
        import torch

        rows = [template.ar_ids(self.tokenizer, t, self.template) for t in texts]
        spans = [places(self.tokenizer, r, self.reading, self.template) for r in rows]
        out = np.empty((len(rows), width(self.model)), np.float32)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            with torch.no_grad():
                hidden = states(self.model, [rows[i] for i in chosen], self.autocast)
                read = torch.stack([hidden[n, slice(*spans[i])].mean(0) for n, i in enumerate(chosen)])
                out[chosen] = self.head(read).cpu().numpy()
        return out


def width(model) -> int:
    """d: how long the vectors of a model are."""
    return model.config.get_text_config().hidden_size


def places(tokenizer, ids: Sequence[int], reading: Reading, words: str = template.AR) -> tuple[int, int]:
    """The places, first and one past the last, whose states are averaged for the value head."""
    return (len(ids) - 1, len(ids)) if reading == "last" else span(tokenizer, ids, words)


def span(tokenizer, ids: Sequence[int], words: str = template.AR) -> tuple[int, int]:
    """Where the words stand in a reconstructor's input: from the first token behind what all inputs begin with to the suffix."""
    empty = template.ar_ids(tokenizer, "", words)
    suffix = len(template.suffix_ids(tokenizer)) if words.endswith(template.SUFFIX) else 1
    start = 0
    while start < min(len(empty), len(ids)) - suffix and empty[start] == ids[start]:
        start += 1
    stop = len(ids) - suffix
    return (min(start, stop - 1), stop)


def identity_head(d: int):
    """Linear(d, d) without bias that changes nothing: an untrained reconstructor gives the state itself."""
    import torch

    head = torch.nn.Linear(d, d, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.eye(d))
    return head


def read_head(path: Path, d: int):
    """A value head from safetensors: ``weight`` (d, d). Other shapes and names are errors."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found = load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; name a folder with a reconstructor (adapter and {HEAD}.safetensors)") from None
    except (SafetensorError, OSError) as e:
        raise UserError(f"{path}: cannot be read ({str(e).splitlines()[0]}); train the reconstructor anew") from None
    shapes = {k: tuple(v.shape) for k, v in found.items()}
    if shapes != {"weight": (d, d)}:
        raise UserError(f"{path}: holds {shapes}, expected weight ({d}, {d}); name the base that this reconstructor was trained on")
    head = identity_head(d)
    head.load_state_dict(found)
    return head


def build_examples(tokenizer, pairs: Pairs, max_length: int, words: str = template.AR):
    """The inputs as one token tree; each example is supervised at its last token. An input that is too long is an error naming it."""
    from scionwood.models.trees import TokenTree
    from scionwood.training.examples import Example, Examples

    tree, items = TokenTree(), []
    for name, text in zip(pairs.ids, pairs.words):
        ids = template.ar_ids(tokenizer, text, words)
        if len(ids) > max_length:
            raise UserError(f"case {name}: {len(ids)} tokens, more than max_length = {max_length}; raise train.max_length or shorten "
                            "the words")
        items.append(Example(name, tree.add(ids), np.array([len(ids) - 1]), np.zeros(1, np.int64)))
    return Examples(tree, items)


def row_error(predicted, wanted, loss: Loss):
    """The loss of each row (n,): mean squared error of both at the norm sqrt(d), 2 (1 - cos); or of the raw vectors."""
    import torch.nn.functional as F

    if loss == "raw":
        return ((predicted - wanted) ** 2).mean(-1)
    p, w = (F.normalize(x, dim=-1, eps=fve.SMALLEST) for x in (predicted, wanted))
    return ((p - w) ** 2).sum(-1)


def objective(values: np.ndarray, spans: Sequence[tuple[int, int]], loss: Loss):
    """The loss of a row of examples for the training loop: see ``Plan.objective``.

    ``values`` (n, d) are the examples' vectors, ``spans`` the places in each input whose mean state the head reads.
    """
    import torch

    from scionwood.models import decoder
    from scionwood.models.trees import to_tensors
    from scionwood.training.examples import embed_row, row_of

    wanted = torch.from_numpy(np.asarray(values, dtype=np.float32))

    def of_row(model, plan, chosen, divisor, *, device, autocast, trunk=None, first=0):
        row, _, _, weights = row_of(plan.examples, chosen, plan.shared)
        if walkable(model):
            ids, positions, mask = to_tensors(row, device)
            with autocast():
                if trunk is None:
                    first, hidden = 0, embed_row(model, plan.examples, chosen, row, ids)
                else:
                    hidden = torch.from_numpy(trunk[row.nodes])[None].to(device)
                hidden = decoder.run_layers(model, hidden, positions, mask, first, recompute=plan.train.recompute)
            hidden = hidden[0].float()
            read = torch.stack([hidden[path[slice(*spans[i])]].mean(0) for i, path in zip(chosen, row.paths)])
        else:
            tokens, paths = plan.examples.tree.tokens, [plan.examples.items[i].path for i in chosen]
            hidden = states(model, [[tokens[j] for j in path] for path in paths], autocast)
            read = torch.stack([hidden[n, slice(*spans[i])].mean(0) for n, i in enumerate(chosen)])
        each = row_error(plan.modules[HEAD](read), wanted[list(chosen)].to(device), loss)
        return (each * torch.from_numpy(weights).to(device)).sum() / divisor

    return of_row


def walkable(model) -> bool:
    """Whether the tree decoder knows the family; others are run by transformers, padded, to the same result."""
    from scionwood.models.loading import FAMILIES

    return model.config.model_type in FAMILIES


def train_reconstructor(base, tokenizer, pairs: Pairs, dev: Pairs | None, *, layer: int, adapter: Adapter, train: Train, seed: int,
                        base_hash: str, folder: Path, cache: Path, device, dtype, loss: Loss = "normalised", reading: Reading = "last",
                        words: str = template.AR, monitors: Sequence = (), on_step: Callable[[int], None] | None = None) -> dict:
    """Train adapter and value head on ``base`` cut to blocks 0 to ``layer``; the best lies in ``folder``/best.

    ``base`` is not changed. With ``dev``, the look with the highest FVE there is kept, and its D is that of ``pairs``. Goes on
    where a killed training stopped. Returns the facts of the training loop with the dev FVE as ``dev``.
    """
    if not len(pairs.words):
        raise UserError("reconstructor: there is no text to train on")
    model = cut(base, layer)
    examples = build_examples(tokenizer, pairs, train.max_length, words)
    spans = [places(tokenizer, [examples.tree.tokens[j] for j in e.path], reading, words) for e in examples.items]
    head = identity_head(width(model))
    spread = fve.fit_spread(pairs.values)
    autocast = autocast_for(device, dtype)

    def look(adapted) -> float:
        live = Reconstructor(adapted, tokenizer, layer, head, words=words, reading=reading, is_cut=True, autocast=autocast)
        return fve.fve(fve.errors(live.reconstruct(dev.words), dev.values), spread.strict)

    if walkable(model):
        from scionwood.models.attention import use_tree_attention

        use_tree_attention(model)
    plan = Plan(examples, adapter, train, seed, base_hash, Path(folder), Path(cache), dev=look if dev and len(dev.words) else None,
                     objective=objective(pairs.values, spans, loss), modules={HEAD: head})
    return train_loop(model, plan, device, dtype, monitors, on_step)
