"""A corpus and a recipe so small that a whole pretraining takes a second."""

from __future__ import annotations

import random
from pathlib import Path

from scionwood.pretraining.settings import Pretraining

WORDS = "the a cat dog bird house tree river sees finds likes leaves old small red green day night 城市 孩子 喜欢 看见 1 2 3".split()
SHAPE = {"vocab_size": 512, "hidden": 32, "intermediate": 64, "layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 8, "positions": 128}
SCHEDULE = {"tokens": 6 * 256, "decay": 0.34, "step_tokens": 256, "micro_tokens": 128, "row": 32, "decay_row": 64, "warmup_steps": 2}


def make_corpus(folder: Path, documents: int = 240) -> Path:
    """Two sources: plain sentences, and requests with their intents (as CLINC writes them)."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(0)
    text = [" ".join(rng.choices(WORDS, k=12)).capitalize() + "." for _ in range(documents)]
    (folder / "plain.txt").write_text("\n<|doc|>\n".join(text), "utf-8")
    asked = ["\n".join(f"{' '.join(rng.choices(WORDS, k=4))} -> {rng.choice(['call', 'book'])}" for _ in range(3)) for _ in range(documents)]
    (folder / "clinc_oos.txt").write_text("\n<|doc|>\n".join(asked), "utf-8")
    return folder


def recipe(**changes) -> Pretraining:
    """The tiny recipe; ``schedule`` is merged key by key."""
    schedule = SCHEDULE | changes.pop("schedule", {})
    return Pretraining.model_validate({
        "name": "tiny", "shape": SHAPE, "schedule": schedule, "mix": {"plain": 3, "clinc_oos+chat": 1}, "dtype": "fp32",
        "decay_mix": {"plain": 1, "clinc_oos+chat": 2, "plain+again": 1}, "tokenizer_bytes": 20_000, "checkpoint_minutes": 1e-9,
    } | changes)
