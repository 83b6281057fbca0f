"""The card of a base: what it was trained on, for how long, and how well it predicts text that it has not seen."""

from __future__ import annotations

from pathlib import Path

from scionwood import files

LANGUAGES = {"en": "English", "zh": "Chinese"}


def _manifest(corpus_folder: Path) -> dict[str, dict]:
    path = corpus_folder / "MANIFEST.json"
    return files.read_json(path).get("sources", {}) if path.exists() else {}


def licences(corpus_folder: Path) -> dict[str, str]:
    """``{source: licence}`` from a MANIFEST.json beside the text files, where there is one."""
    return {name: row.get("licence", "") for name, row in _manifest(corpus_folder).items()}


def languages(corpus_folder: Path, names: list[str]) -> list[str]:
    """The languages (codes) that the manifest gives for the named sources, "en+zh" being both; empty where it gives none."""
    manifest = _manifest(corpus_folder)
    return sorted({code for n in names for code in manifest.get(n, {}).get("lang", "").split("+") if code})


def render(facts: dict) -> str:
    """The card in the hub's format, rendered from the facts in base.json alone. A figure that was not measured is a dash."""
    bits, shape, schedule = facts["bits_per_byte"], facts["shape"], facts["schedule"]
    spoken = facts.get("languages", ["en", "zh"])
    tagged = f"language: [{', '.join(spoken)}]\n" if spoken else ""
    told = " in " + " and ".join(LANGUAGES.get(c, c) for c in spoken) if spoken else ""
    rows, shown = [], set()
    for name in sorted(facts["sources"]):
        source, plain = facts["sources"][name], name.partition("+")[0]
        figures = _figures({} if plain in shown else bits.get(plain, {}))  # once for a source, whatever its forms
        rows.append(f"| {name} | {source['licence'] or 'not stated'} | {source['tokens']:,} | {figures} |")
        shown.add(plain)
    total = bits["all"]
    notice = " (attributions in NOTICE.md)" if facts.get("notice", True) else ""
    return f"""\
---
license: {facts['licence']}
{tagged}library_name: transformers
pipeline_tag: text-generation
tags: [scionwood, qwen3, small]
---
# {facts['name']}

A causal language model of the Qwen3 architecture with {facts['parameters'] / 1e6:.1f} M parameters \
({shape['layers']} layers, hidden {shape['hidden']},
{shape['vocab_size']:,} tokens), {_origin(facts)} on text{told}. It is small enough to ship inside a package and to
be grafted onto one narrow job; it is not a chat model, knows next to nothing, and should not be asked for facts.

{_effort(facts)}

{_standing(facts)}

## Data

Documents are held out by the hash of their content (one in 200); this run trained neither the model nor a tokenizer on them. A source
marked `+chat` was seen as conversations in the chat template, derived from the labels that the source itself gives; one marked `+again`
with every few lines followed by the same lines in another order. Tokens are those trained on in this run, repeats included. The held-out
text of a source is measured once, as it stands. *Repeated* is the share of its bytes in lines that stand word for word in training
documents too: there the figures flatter the model and the 5-gram.

| source | licence | tokens | bits per byte | 5-gram | xz -9e | repeated |
|---|---|---|---|---|---|---|
{chr(10).join(rows)}
| **all held-out text** ({total['bytes']:,} bytes) | | {facts['tokens']:,} | {_figures(total, 3)} |

The weights are offered under {facts['licence']}; the texts keep the licences above{notice}.

## Training

Muon on the 2-D weights of the body (learning rate {schedule['muon_lr']}), AdamW on embeddings and norms ({schedule['adam_lr']}), warm-up of
{schedule['warmup_steps']} steps, stable, linear decay over the last {schedule['decay']:.0%} of the tokens with a mix of its own, \
{schedule['step_tokens']:,} tokens a step,
rows of {schedule['row']} and then {schedule['decay_row']} tokens, \
{_dtype(facts)}.{_weight(schedule)}{_last_loss(facts)}{''.join(" " + note for note in facts.get("notes", []))}

The tokenizer is a byte-level BPE with the pre-tokenizer of Qwen2; `㈎` (U+320E) is one token that training never shows.
"""


def _figures(b: dict, digits: int = 2) -> str:
    """The four columns of a source."""
    shown = [f"{b[k]:.{digits}f}" if b.get(k) is not None else "–" for k in ("base", "ngram", "xz")]
    return " | ".join([*shown, f"{b['repeated']:.0%}" if b.get("repeated") is not None else "–"])


def _origin(facts: dict) -> str:
    """Trained from nothing, or from what."""
    start = facts.get("from")
    if start is None:
        return "trained from nothing"
    return f"continued from {start['name']}" + ("" if start["tokens"] is not None else ", whose own training is not recorded here,")


def _effort(facts: dict) -> str:
    """Tokens, minutes and machine of this run and, where they are known, of the runs that it goes on from."""
    text = f"Trained on {facts['tokens']:,} tokens in {facts['minutes']:.0f} minutes on {facts['machine']}"
    before, minutes = facts["tokens_before"], facts.get("minutes_before")
    if not before:
        return text + "."
    spent = f" in {minutes:.0f} minutes" if minutes is not None else ""
    whole = f" and {minutes + facts['minutes']:.0f} minutes" if minutes is not None else ""
    total = before + facts["tokens"]
    return f"{text}, after {before:,} tokens{spent} of earlier runs with mixes of their own: {total:,} tokens{whole} in all."


def _standing(facts: dict) -> str:
    """The held-out figure beside its rivals, with what each of them knew."""
    total = facts["bits_per_byte"]["all"]
    if total.get("base") is None:
        return "No document of the corpus fell into the held-out part, so nothing was measured."
    better = "less than both" if total["base"] < min(total["xz"], total["ngram"]) else "not less than both"
    rows = "the same rows" if facts.get("from") is None and not facts["tokens_before"] else "the rows of this run (but not of earlier ones)"
    return f"""\
On held-out documents it needs **{total['base']:.3f} bits per byte**: {better} of its landmarks. A 5-gram model over the same tokens,
trained on {rows}, needs {total['ngram']:.3f}. \
`xz -9e` needs {total['xz']:.3f}: it packs all the held-out text together, but has seen no training
text; and the weights of the model are not counted."""


def _dtype(facts: dict) -> str:
    return {"bf16": "bf16 autocast", "fp32": "fp32"}[facts.get("dtype", "bf16")]


def _weight(schedule: dict) -> str:
    weight = schedule.get("answer_weight", 1)
    return "" if weight == 1 else f" In the loss, the tokens of an answer in a conversation weigh {weight:g} times as much as others."


def _last_loss(facts: dict) -> str:
    loss = facts["last_loss"]
    return "" if loss is None else (f" Final training loss {loss:.3f} nats per token, unweighted "
                                    f"(mean of the last {min(50, facts['steps'])} steps).")
