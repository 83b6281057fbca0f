"""A GGUF file as a contestant, sampled in this process by llama.cpp."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Callable, Sequence

from scionwood.errors import UserError
from scionwood.files import file_hash
from scionwood.models.llamacpp import LlamaCpp
from scionwood.models.sampling import Drawing
from scionwood.tasks.lantern.duel.asking import Asked, told
from scionwood.tasks.lantern.duel.contestants import Contestant, Sampling
from scionwood.tasks.lantern.duel.cutting import has_words
from scionwood.teaching.journal import Row

PIECE = 64  # tokens between two questions whether an answer is long enough


def draw(engine: LlamaCpp, prompt: list[int], s: Sampling, seed: int, controls: Sequence[int]) -> tuple[list[int], bool]:
    """An answer's token ids up to the first control token, and whether there was one."""
    ids = engine.generate(prompt, max_tokens=s.tokens, drawing=Drawing(s.temperature, s.min_p, s.top_p, seed), anew=True).tokens
    end = next((k for k, t in enumerate(ids) if t in set(controls)), None)
    return ids[:end], end is not None


def keep_going(
    engine: LlamaCpp, prompt: list[int], s: Sampling, seed: int, controls: Sequence[int], enough: Callable[[list[int]], bool]
) -> list[int]:
    """Token ids without any control token, drawn ``PIECE`` by ``PIECE`` until they are enough; the cache is this answer's own."""
    ids: list[int] = []
    while len(ids) < s.tokens and not enough(ids):
        drawing = Drawing(s.temperature, s.min_p, s.top_p, seed + len(ids), tuple(controls))
        more = engine.generate([*prompt, *ids], max_tokens=min(PIECE, s.tokens - len(ids)), drawing=drawing, anew=not ids).tokens
        if not more:
            break
        ids += more
    return ids


class InLlamaCpp:
    """Samples a GGUF file. Tokenizer and chat template are those beside the file, as 'scion export' leaves them."""

    def __init__(self, contestant: Contestant, say: Callable[[str], None]):
        from scionwood.models.light import LightTokenizer
        from scionwood.models.llamacpp import check_gguf
        from scionwood.models.prompts import Renderer

        self.contestant, self.say, self.engine = contestant, say, None
        self.file = Path(contestant.what).expanduser()
        self.adapter = Path(contestant.options.adapter).expanduser() if contestant.options.adapter else None
        for file in filter(None, (self.file, self.adapter)):
            check_gguf(file)
        folder = Path(contestant.options.tokenizer or self.file.parent).expanduser()
        if not (folder / "tokenizer.json").is_file():
            raise UserError(f"contestant '{contestant.name}': no tokenizer.json beside {self.file}; name its folder with ,tokenizer=FOLDER")
        self.renderer = Renderer(LightTokenizer(folder))
        self.controls = sorted(i for i, t in self.renderer.tokenizer.added_tokens_decoder.items() if t.special)
        self.identity: Any = {
            "gguf": file_hash(self.file),
            "adapter": file_hash(self.adapter) if self.adapter else None,
            "tokenizer": file_hash(folder / "tokenizer.json"),
        }

    def answer(self, asked: Sequence[Asked], done: Callable[[Asked, Row], None]) -> None:
        """Answer one by one. Each prompt is read anew, so that an answer has its seed and nothing else to depend on."""
        s = self.contestant.sampling
        prompts = {a.case: self.renderer.render(a.messages).prompt for a in asked}
        context = max(map(len, prompts.values())) + s.tokens + 8
        if self.engine is None:
            self.engine = LlamaCpp(self.file, adapter=self.adapter, context=context)
        for a in sorted(asked, key=lambda a: (a.question, a.sample)):
            begin = time.perf_counter()
            if s.keep_going and not a.brief:
                ids, ended = keep_going(self.engine, prompts[a.case], s, a.number, self.controls, self._enough), False
            else:
                ids, ended = draw(self.engine, prompts[a.case], s, a.number, self.controls)
            done(a, told(a, self.renderer.tokenizer.decode(ids), ended, len(ids), round((time.perf_counter() - begin) * 1000, 3)))

    def _enough(self, ids: list[int]) -> bool:
        return has_words(self.renderer.tokenizer.decode(ids), self.contestant.sampling.keep_going)

    def close(self) -> None:
        """Free the model."""
        if self.engine is not None:
            self.engine.close()
            self.engine = None
