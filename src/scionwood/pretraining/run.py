"""A pretraining run from recipe to a base folder: tokenizer, streams, training, measurement, card."""

import json
import os
import shutil
import sys
import time
from pathlib import Path

from scionwood import files
from scionwood.errors import UserError
from scionwood.models import loading, machine
from scionwood.pretraining import corpus, streams
from scionwood.pretraining.settings import Pretraining, Schedule
from scionwood.pretraining.train import count_steps, steps_done

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json")


class Report:
    """Progress: a line for each fact; for the steps one line of the terminal, rewritten (where it is none, two lines a minute)."""

    def __init__(self, echo=print):
        self.echo, self.live, self.last, self.open = echo, sys.stderr.isatty(), 0.0, False

    def __call__(self, text: str) -> None:
        if self.open:
            print(file=sys.stderr)
            self.open = False
        self.echo(text)

    def step(self, step: int, steps: int, loss: float, speed: float) -> None:
        if time.monotonic() - self.last <= (0.5 if self.live else 30) and step != steps:
            return
        self.last = time.monotonic()
        self.tell(f"step {step}/{steps}  loss {loss:.3f}  {speed:,.0f} tokens/s")

    def tell(self, text: str) -> None:
        """One status line, in place of the one before where the terminal can do that."""
        if self.live:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
            self.open = True
        else:
            self.echo(text)


def sample_for_tokenizer(known: dict[str, Path], shares: dict[str, float], total: int):
    """Yield training documents, each source up to its share of ``total`` bytes."""
    for name, share in shares.items():
        left = int(total * share)
        for doc in corpus.documents(known[streams.source_of(name)]):
            if corpus.is_held_out(doc):
                continue
            yield doc[:left]  # a character is a byte or more
            left -= len(doc.encode())
            if left <= 0:
                break


# what may change while a run goes on, since no weight that is trained already depends on it
FREE = {"name", "licence", "held_out_bytes", "checkpoint_minutes", "schedule.micro_tokens"}
LENGTH = {"schedule.tokens", "schedule.decay"}  # may change until the decay begins


def flat(settings: dict, above: str = "") -> dict:
    """Nested settings under dotted keys; the mixes stay whole."""
    out: dict = {}
    for key, value in settings.items():
        inner = isinstance(value, dict) and key in ("shape", "schedule")
        out |= flat(value, f"{above}{key}.") if inner else {above + key: value}
    return out


def check_lock(out: Path, recipe: Pretraining, settings: dict) -> None:
    """Refuse a recipe under which the steps that ``out`` holds would not have been the same; write down the one that is used.

    The weights of a run must be what its recipe says, and the rows that the n-gram model is counted on those that were trained.
    """
    lock, done = out / "recipe.json", steps_done(out)
    settings = json.loads(json.dumps(settings))
    old = files.read_json(lock) if lock.exists() else {}
    now, before = flat(settings), flat(old)
    changed = {k for k in before if k in now and before[k] != now[k]}
    if strange := sorted(changed - FREE - LENGTH):
        raise UserError(f"{out}: holds a run of another recipe ({strange[0]} is not the same); name another folder with --out or remove it")
    if changed & LENGTH and done:
        was, begins = (steps - decay for steps, decay in map(count_steps, (Schedule(**old["schedule"]), recipe.schedule)))
        if done > min(was, begins):
            raise UserError(f"{out}: {done} steps are trained, and with this schedule.tokens and schedule.decay the learning rate would "
                            f"fall from step {begins} on (before: {was}); they can change only where both lie ahead")
    if settings != old:
        files.write_json(lock, settings)


def prepare_tokenizer(recipe: Pretraining, known: dict[str, Path], mixes: list[dict[str, float]], base: Path | None, folder: Path,
                      report) -> None:
    """Train the tokenizer, or take over that of ``base``; nothing is done where it is there. A kill leaves no half of it."""
    if (folder / "tokenizer.json").exists():
        return
    part = folder.with_name(".tokenizer.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    if base:
        for p in (p for pattern in TOKENIZER_FILES for p in base.glob(pattern)):
            shutil.copy(p, part / p.name)
        if not (part / "tokenizer.json").exists():
            raise UserError(f"--from {base}: no tokenizer.json there; name the folder of a whole base")
    else:
        from scionwood.pretraining.tokenizer import train_tokenizer

        size = recipe.shape.vocab_size
        report(f"training the tokenizer ({size} tokens)")
        both = {k: sum(m.get(k, 0) for m in mixes) / len(mixes) for k in dict.fromkeys(k for m in mixes for k in m)}
        train_tokenizer(sample_for_tokenizer(known, both, recipe.tokenizer_bytes), size, part)
    move_files(part, folder, last="tokenizer.json")


def move_files(part: Path, folder: Path, last: str) -> None:
    """Move the files of a folder into another, each whole, ``last`` after all others: where it is, the others are too."""
    folder.mkdir(parents=True, exist_ok=True)
    for p in sorted(part.iterdir(), key=lambda p: (p.name == last, p.name)):
        with open(p, "r+b") as f:  # Windows flushes only what is open for writing
            os.fsync(f.fileno())
        os.replace(p, folder / p.name)
    part.rmdir()


def check_base(model, tokenizer, recipe: Pretraining, base: Path | None) -> None:
    """Refuse a model and a tokenizer that these streams and rows do not fit, before hours are spent on them."""
    where, config, s = f"--from {base}" if base else "recipe", model.config, recipe.schedule
    if len(tokenizer) > min(config.vocab_size, 1 << 16):
        raise UserError(f"{where}: a vocabulary of {len(tokenizer):,} tokens is more than "
                        f"{'the model has' if len(tokenizer) > config.vocab_size else 'the 65,536 that streams of 16 bits can hold'}")
    if missing := [t for t in ("<|endoftext|>", "<|im_end|>") if t not in tokenizer.get_vocab()]:
        raise UserError(f"{where}: its tokenizer has no {missing[0]}; only bases with the control tokens of Qwen can be gone on with")
    if not tokenizer.chat_template and any(streams.form_of(k) == "chat" for k in recipe.mix | recipe.decay_mix):
        raise UserError(f"{where}: its tokenizer has no chat template, which sources marked +chat need")
    if max(s.row, s.decay_row) > config.max_position_embeddings:
        raise UserError(f"{where}: rows of {max(s.row, s.decay_row)} tokens are longer than its {config.max_position_embeddings} positions")


def earlier(base: Path | None) -> dict:
    """What a base had been trained on before this run, all runs of the chain together; None where it is not recorded."""
    if base is None:
        return {"from": None, "tokens_before": 0, "minutes_before": 0.0}
    told = files.read_json(base / "base.json") if (base / "base.json").exists() else {}
    tokens, minutes = told.get("tokens"), told.get("minutes")
    before = told.get("tokens_before", 0)
    # a card of before minutes were added up says how many tokens came earlier, but not in how long
    minutes_before = told.get("minutes_before", None if before else 0.0)
    tokens = tokens + before if tokens is not None else None
    minutes = round(minutes + minutes_before, 1) if minutes is not None and minutes_before is not None else None
    start = {"name": told.get("name", base.resolve().name), "tokens": tokens, "minutes": minutes, "from": told.get("from")}
    return {"from": start, "tokens_before": tokens or 0, "minutes_before": minutes}


def shape_of(model) -> dict[str, int]:
    """The shape that a model really has, in the recipe's words."""
    c = model.config
    return {"vocab_size": c.vocab_size, "hidden": c.hidden_size, "intermediate": c.intermediate_size, "layers": c.num_hidden_layers,
            "heads": c.num_attention_heads, "kv_heads": c.num_key_value_heads, "head_dim": c.head_dim,
            "positions": c.max_position_embeddings}


def pretrain(recipe: Pretraining, corpus_folder: Path, out: Path, base: Path | None, report: Report, device: str = "auto") -> dict:
    """Train a base from ``corpus_folder`` into ``out``; from ``base`` where given. Resumes a killed run of the same recipe."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    settings = recipe.model_dump() | {"from": str(base) if base else None}
    if base:
        base = loading.folder_of(str(base))
        loading.check_folder(base, f"--from {base}")
    known = corpus.sources(corpus_folder)
    mix, decay_mix = streams.parse_mix(recipe.mix, known), streams.parse_mix(recipe.decay_mix, known)
    report(machine.tune_memory())
    report(machine.limit_threads())
    where, why = machine.choose_device(device)
    report(why)
    check_lock(out, recipe, settings)
    for p in (*out.glob(".*.part"), *out.glob("*/.*.part")):  # of writes that a kill cut off
        remove(p)
    if not any(streams.held_out_texts(name, known[name], 1) for name in {streams.source_of(k) for k in mix | decay_mix}):
        report("held-out: no document falls into it (one in 200), so nothing will be measured; part documents by a line <|doc|>")

    folder = out / "model"
    prepare_tokenizer(recipe, known, [mix, decay_mix], base, folder, report)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)

    from scionwood.pretraining.train import build, train

    s = recipe.schedule
    if base:
        import torch

        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, trust_remote_code=False, use_safetensors=True)
        report(f"model: that of {base} (the recipe's [shape] is for a base from nothing)")
    else:
        model = build(recipe.shape, tokenizer, s.seed)
    check_base(model, tokenizer, recipe, base)
    mixes = [(mix, int(s.tokens * (1 - s.decay))), (decay_mix, int(s.tokens * s.decay))]
    streams.prepare(out / "streams", known, tokenizer, mixes, report, begun=steps_done(out) > 0)
    model.to(where)
    report(f"model: {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters")
    before = earlier(base)
    think_end, turn_end = (tokenizer.get_vocab().get(t, -1) for t in ("</think>", "<|im_end|>"))
    facts = train(model, recipe, out, report, think_end=think_end, turn_end=turn_end, tokens_before=before["tokens_before"]) | before
    save(model.to("cpu"), folder)
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
        "shape": shape_of(model),
        "schedule": recipe.schedule.model_dump(),
        "machine": facts.get("machine") or machine.describe(),
        "languages": card.languages(corpus_folder, plain),
        "notice": (corpus_folder / "NOTICE.md").exists(),
        "sources": {n: {"tokens": t, "licence": given.get(streams.source_of(n), "")} for n, t in sorted(seen.items())},
        "bits_per_byte": bits,
    }
    if facts["notice"]:
        files.write_bytes(folder / "NOTICE.md", (corpus_folder / "NOTICE.md").read_bytes())
    files.write_json(folder / "base.json", facts)
    files.write_text(folder / "README.md", card.render(facts))
    told = bits["all"]
    report(f"held-out bits per byte: base {told['base']}, 5-gram {told['ngram']}, xz -9e {told['xz']}" if told["bytes"]
           else "held-out bits per byte: nothing to measure on")
    return facts


def save(model, folder: Path) -> None:
    """Write config and bf16 weights in Hugging Face format beside the tokenizer; a kill leaves no half of a file."""
    import torch

    part = folder.with_name(".weights.part")
    shutil.rmtree(part, ignore_errors=True)
    model.to(torch.bfloat16).save_pretrained(part, safe_serialization=True)
    move_files(part, folder, last="config.json")


def remove(path: Path) -> None:
    """Remove a file or a folder."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
