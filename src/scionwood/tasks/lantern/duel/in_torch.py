"""A local model as a contestant: a base, a base with an adapter, or a run, sampled with torch."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Callable, Sequence

from scionwood.errors import UserError, nearest
from scionwood.files import file_hash
from scionwood.tasks.lantern.duel.asking import Asked, told
from scionwood.tasks.lantern.duel.contestants import RUN, Contestant
from scionwood.tasks.lantern.duel.cutting import has_words
from scionwood.teaching.journal import Row

BATCH = 16  # answers drawn together


class InTorch:
    """Samples in this process. The model is loaded when it is first asked, so that a duel that is all answered loads nothing."""

    def __init__(self, contestant: Contestant, say: Callable[[str], None]):
        from scionwood.models.loading import base_identity

        self.contestant, self.say, self.model = contestant, say, None
        self.base, adapter = of_run(contestant, say) if contestant.kind == RUN else (contestant.what, contestant.options.adapter)
        self.adapter = Path(adapter).expanduser() if adapter else None
        weights = self.adapter / "adapter_model.safetensors" if self.adapter else None
        if weights and not weights.is_file():
            raise UserError(
                f"contestant '{contestant.name}': {self.adapter} holds no adapter_model.safetensors; name a folder in PEFT format"
            )
        self.identity: Any = {"base": base_identity(self.base), "adapter": file_hash(self.adapter) if self.adapter else None}

    def load(self) -> None:
        """Load tokenizer and weights; every choice says its reason."""
        from scionwood.models import machine
        from scionwood.models.loading import load_adapter, load_model, load_tokenizer
        from scionwood.models.prompts import Renderer
        from scionwood.systems.json_decoding import turn_end
        from scionwood.training.loop import autocast_for

        self.say(machine.limit_threads())
        device, why = machine.choose_device("auto")
        self.say(f"{self.contestant.name}: {why}")
        dtype, why = machine.choose_dtype("auto" if device.type != "cpu" else "fp32", device)
        self.renderer = Renderer(load_tokenizer(self.base))
        model = load_model(self.base, device, dtype)
        self.model = load_adapter(model, self.adapter) if self.adapter else model
        self.autocast = autocast_for(device, dtype)
        controls = {i for i, t in self.renderer.tokenizer.added_tokens_decoder.items() if t.special}
        self.ends = frozenset(controls | {turn_end(self.renderer)})

    def answer(self, asked: Sequence[Asked], done: Callable[[Asked, Row], None]) -> None:
        """Draw the answers batch by batch. Each draws from a chance of its own, whatever its batch."""
        self.load()
        goes_on = bool(self.contestant.sampling.keep_going)
        for free in (False, True):  # answers that are kept going, then those that may end at will
            part = [a for a in asked if (a.brief or not goes_on) == free]
            self._draw(part, self._prompts(part), free, done)

    def _prompts(self, asked: Sequence[Asked]) -> list[list[int]]:
        s = self.contestant.sampling
        prompts = [self.renderer.render(a.messages).prompt for a in asked]
        most = getattr(self.model.config, "max_position_embeddings", 1 << 30)
        for a, p in zip(asked, prompts):
            if len(p) + s.tokens > most:
                raise UserError(
                    f"task {a.question}: a prompt of {len(p)} tokens and an answer of up to {s.tokens} are more than the {most} that "
                    f"'{self.contestant.name}' reads; lower --tokens"
                )
        return prompts

    def _draw(self, asked: Sequence[Asked], prompts: Sequence[list[int]], free: bool, done: Callable[[Asked, Row], None]) -> None:
        from scionwood.tasks.lantern.sampling import Draw, sample

        s, tokenizer = self.contestant.sampling, self.renderer.tokenizer
        draw = Draw(s.temperature, s.top_p, s.min_p, s.tokens, 0 if free else s.tokens)

        def enough(ids: list[int]) -> bool:
            return has_words(tokenizer.decode(ids), s.keep_going)

        for at in range(0, len(asked), BATCH):
            part, begin = asked[at : at + BATCH], time.perf_counter()
            drawn = sample(
                self.model,
                prompts[at : at + BATCH],
                self.ends,
                draw,
                [a.seed for a in part],
                self.autocast,
                enough=None if free else enough,
            )
            ms = round((time.perf_counter() - begin) * 1000 / len(part), 3)  # each one's share of its batch
            for a, d in zip(part, drawn):
                done(a, told(a, tokenizer.decode(list(d.ids)), d.ended, len(d.ids), ms))

    def close(self) -> None:
        """Free the weights before the next contestant loads its own."""
        self.model = None


def of_run(contestant: Contestant, say: Callable[[str], None]) -> tuple[str, Path | None]:
    """(base, adapter folder) of RUN, RUN:adapter-0 or RUN:base."""
    from scionwood.export.source import best_adapter
    from scionwood.flow import open_flow

    flow = open_flow(Path(contestant.what).expanduser(), say)
    if contestant.part == "base":
        return flow.base, None
    name = contestant.part or best_adapter(flow)
    folder = flow.run.path("adapter", name, "best")
    if not (folder / "adapter_model.safetensors").is_file():
        known = ["base", *sorted(p.parent.name for p in flow.run.path("adapter").glob("*/best"))]
        raise UserError(
            f"contestant '{contestant.what}': the run has no trained adapter '{name}'{nearest(name, known)} (there: {', '.join(known)})"
        )
    return flow.base, folder
