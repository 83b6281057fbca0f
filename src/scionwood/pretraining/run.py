"""A pretraining run from recipe to a base folder: tokenizer, streams, training, measurement, card."""

import json
import shutil
import time
from pathlib import Path

from scionwood import files
from scionwood.errors import UserError
from scionwood.models import machine
from scionwood.pretraining import corpus, streams
from scionwood.pretraining.settings import Pretraining


class Report:
    """Progress on the terminal: a line for each fact, one status line for the steps (twice a minute where it is no terminal)."""

    def __init__(self, echo=print):
        import sys

        self.echo, self.live, self.last = echo, sys.stderr.isatty(), 0.0

    def __call__(self, text: str) -> None:
        self.echo(text)

    def step(self, step: int, steps: int, loss: float, speed: float) -> None:
        if time.monotonic() - self.last > (0.5 if self.live else 30) or step == steps:
            self.last = time.monotonic()
            self.echo(f"step {step}/{steps}  loss {loss:.3f}  {speed:,.0f} tokens/s")


def sample_for_tokenizer(known: dict[str, Path], shares: dict[str, float], total: int):
    """Yield training documents, each source up to its share of ``total`` bytes."""
    for name, share in shares.items():
        left = int(total * share)
        for doc in corpus.documents(known[streams.source_of(name)]):
            if corpus.is_held_out(doc):
                continue
            yield doc
            left -= len(doc.encode())
            if left <= 0:
                break


def pretrain(recipe: Pretraining, corpus_folder: Path, out: Path, base: Path | None, report: Report, device: str = "auto") -> dict:
    """Train a base from ``corpus_folder`` into ``out``; from ``base`` where given. Resumes a killed run of the same recipe."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    known = corpus.sources(corpus_folder)
    mix, decay_mix = streams.parse_mix(recipe.mix, known), streams.parse_mix(recipe.decay_mix, known)
    out.mkdir(parents=True, exist_ok=True)
    report(machine.tune_memory())
    report(machine.limit_threads())
    where, why = machine.choose_device(device)
    report(why)
    lock, settings = out / "recipe.json", recipe.model_dump() | {"from": str(base) if base else None}
    fixed = {k: settings[k] for k in ("shape", "mix", "decay_mix", "from")}
    if lock.exists() and {k: files.read_json(lock).get(k) for k in fixed} != json.loads(json.dumps(fixed)):
        raise UserError(f"{out}: holds a run of another recipe; name another folder with --out or remove it")
    files.write_json(lock, settings)

    tokenizer_folder = out / "model"
    if not (tokenizer_folder / "tokenizer.json").exists():
        tokenizer_folder.mkdir(parents=True, exist_ok=True)
        if base:
            for p in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
                shutil.copy(base / p, tokenizer_folder / p)
        else:
            from scionwood.pretraining.tokenizer import train_tokenizer

            report(f"training the tokenizer ({recipe.shape.vocab_size} tokens)")
            both = {k: (mix.get(k, 0) + decay_mix.get(k, 0)) / 2 for k in mix | decay_mix}
            train_tokenizer(sample_for_tokenizer(known, both, recipe.tokenizer_bytes), recipe.shape.vocab_size, tokenizer_folder)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)

    s = recipe.schedule
    streams.prepare(out / "streams", known, tokenizer, [(mix, int(s.tokens * (1 - s.decay))), (decay_mix, int(s.tokens * s.decay))], report)

    from scionwood.pretraining.train import build, train

    before = 0
    if base:
        import torch

        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, trust_remote_code=False, use_safetensors=True)
        before = files.read_json(base / "base.json").get("tokens", 0) if (base / "base.json").exists() else 0
    else:
        model = build(recipe.shape, tokenizer, s.seed)
    model.to(where)
    report(f"model: {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters")
    facts = train(model, recipe, out, report, tokens_before=before)
    save(model.to("cpu"), tokenizer, tokenizer_folder)
    return finish(recipe, corpus_folder, known, out, tokenizer, facts, report)


def finish(recipe: Pretraining, corpus_folder: Path, known: dict[str, Path], out: Path, tokenizer, facts: dict, report: Report) -> dict:
    """Measure the saved base on held-out text and write its card and facts beside the weights."""
    import torch
    from transformers import AutoModelForCausalLM

    from scionwood.pretraining import card, measure
    from scionwood.pretraining.ngram import NgramModel
    from scionwood.pretraining.train import all_rows

    folder = out / "model"
    report("measuring on held-out text")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False, use_safetensors=True).eval()
    rows = all_rows(recipe, out)
    seen: dict[str, int] = {}
    for r in rows:
        for k, name in enumerate(r.names):
            seen[name] = seen.get(name, 0) + int((r.source == k).sum()) * r.length
    plain = sorted({streams.source_of(n) for n in seen})
    ngram = NgramModel(measure.trained_tokens(out, rows), len(tokenizer))
    bits = measure.measure(model, tokenizer, known, plain, recipe.held_out_bytes, ngram)
    given = card.licences(corpus_folder)
    facts = facts | {
        "name": recipe.name,
        "licence": recipe.licence,
        "parameters": sum(p.numel() for p in model.parameters()),
        "shape": recipe.shape.model_dump(),
        "schedule": recipe.schedule.model_dump(),
        "machine": machine.describe(),
        "sources": {n: {"tokens": t, "licence": given.get(streams.source_of(n), "")} for n, t in sorted(seen.items())},
        "bits_per_byte": bits,
    }
    files.write_json(folder / "base.json", facts)
    files.write_text(folder / "README.md", card.render(facts))
    if (corpus_folder / "NOTICE.md").exists():
        shutil.copy(corpus_folder / "NOTICE.md", folder / "NOTICE.md")
    report(f"held-out bits per byte: base {bits['all']['base']}, 5-gram {bits['all']['ngram']}, xz -9e {bits['all']['xz']}")
    return facts


def save(model, tokenizer, folder: Path) -> None:
    """Write config, bf16 weights and tokenizer in Hugging Face format."""
    import torch

    model.to(torch.bfloat16).save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
