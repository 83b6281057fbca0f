"""The card of a base: what it was trained on, for how long, and how well it predicts text that it has not seen."""

from __future__ import annotations

import json
from pathlib import Path


def licences(corpus_folder: Path) -> dict[str, str]:
    """``{source: licence}`` from a MANIFEST.json beside the text files, where there is one."""
    manifest = corpus_folder / "MANIFEST.json"
    if not manifest.exists():
        return {}
    return {name: row.get("licence", "") for name, row in json.loads(manifest.read_text("utf-8")).get("sources", {}).items()}


def render(facts: dict) -> str:
    """The card in the hub's format, rendered from the facts in base.json alone."""
    bits, shape = facts["bits_per_byte"], facts["shape"]
    rows = []
    for name in sorted(facts["sources"]):
        source, b = facts["sources"][name], bits.get(name)
        figures = f"{b['base']:.2f} | {b['ngram']:.2f} | {b['xz']:.2f}" if b else "– | – | –"
        rows.append(f"| {name} | {source['licence'] or 'not stated'} | {source['tokens']:,} | {figures} |")
    total = bits["all"]
    better = "less than both" if total["base"] < min(total["xz"], total["ngram"]) else "not less than both"
    earlier = f" after {facts['tokens_before']:,} tokens of an earlier run with its own mix," if facts["tokens_before"] else ""
    return f"""\
---
license: {facts['licence']}
language: [en, zh]
library_name: transformers
pipeline_tag: text-generation
tags: [scionwood, qwen3, small]
---
# {facts['name']}

A causal language model of the Qwen3 architecture with {facts['parameters'] / 1e6:.1f} M parameters ({shape['layers']} layers, hidden {shape['hidden']},
{shape['vocab_size']:,} tokens), trained from nothing on public text in English and Chinese. It is small enough to ship inside a package and to
be grafted onto one narrow job; it is not a chat model, knows next to nothing, and should not be asked for facts.

Trained on {facts['tokens']:,} tokens{earlier} in {facts['minutes']:.0f} minutes on {facts['machine']}. On held-out documents it needs
**{total['base']:.3f} bits per byte**; a 5-gram model over the same tokens, trained on the same rows, needs {total['ngram']:.3f}, and `xz -9e`,
which packs all the held-out text together, {total['xz']:.3f}: {better}.

## Data

Documents are held out by the hash of their content (one in 200). A source marked `+chat` was also seen as conversations in the chat template,
derived from the labels that the source itself gives. Tokens are those trained on, repeats included.

| source | licence | tokens | bits per byte | 5-gram | xz -9e |
|---|---|---|---|---|---|
{chr(10).join(rows)}
| **all held-out text** ({total['bytes']:,} bytes) | | {facts['tokens']:,} | **{total['base']:.3f}** | {total['ngram']:.3f} | {total['xz']:.3f} |

The weights are offered under {facts['licence']}; the texts keep the licences above (attributions in NOTICE.md).

## Training

Muon on the 2-D weights of the body (learning rate {facts['schedule']['muon_lr']}), AdamW on embeddings and norms ({facts['schedule']['adam_lr']}), warm-up of
{facts['schedule']['warmup_steps']} steps, stable, linear decay over the last {facts['schedule']['decay']:.0%} of the tokens with a mix of its own, {facts['schedule']['step_tokens']:,} tokens a step,
rows of {facts['schedule']['row']} and then {facts['schedule']['decay_row']} tokens, bf16 autocast. Final training loss {facts['last_loss']:.3f} nats per token.

The tokenizer is a byte-level BPE with the pre-tokenizer of Qwen2, trained on the same sources; `㈎` (U+320E) is one token that training never shows.
"""
