"""The card: README.md in the hub's model-card format, written from figures and context, never typed."""

from __future__ import annotations

import re
from typing import Any, Callable

import yaml

from scionwood.evidence.blocks import NUMBER, Block, Code, Items, Plot, Section, Table
from scionwood.evidence.format import code, portable, prose
from scionwood.evidence.standing import Figures, headline, slices_of, subject, verdict_sentences
from scionwood.evidence.told_details import controls, failures, mistakes, slices
from scionwood.evidence.told_exports import exports
from scionwood.evidence.told_making import data, is_hub_name, limits, reproduce, training, use
from scionwood.evidence.told_results import comparisons, metrics, systems

Context = dict[str, Any]
Tell = Callable[[Figures, Context], list[Section]]


def render_card(figures: Figures, context: Context, tell: Tell | None = None) -> str:
    """README.md of a run; the same input gives the same bytes.

    ``figures`` is the value of figures.json, ``context`` that of ``Flow.context``; ``tell`` gives the sections of a task that tells
    its own (default: ``sections``). Raises UserError where figures hold no system to be proved.
    """
    parts = [front_matter(figures, context), f"# {prose(context['recipe']['name'])}", opening(figures, context)]
    parts += [section(s) for s in (tell or sections)(figures, context)]
    return "\n\n".join(parts) + "\n"


def sections(figures: Figures, context: Context) -> list[Section]:
    """All that follows the verdict, for the card and the report alike."""
    told = [metrics(figures), systems(figures, context), comparisons(figures), exports(figures, context), slices(figures), mistakes(figures),
            failures(figures), controls(figures, context), training(figures, context), data(context), use(figures, context),
            reproduce(context), limits(figures, context)]
    return [s for s in told if s.blocks]


def opening(figures: Figures, context: Context) -> str:
    """What it is, and how it did: the first paragraph."""
    recipe, summary = context["recipe"], prose(context["task"]["summary"])
    job = summary or f"the task {code(figures['task'])}"
    made = context.get("made", "A LoRA adapter")
    return f"{made} on {code(portable(recipe['base']))} for one job ({job}). {' '.join(verdict_sentences(figures))}"


def front_matter(figures: Figures, context: Context) -> str:
    """What the hub reads of a card. Languages are those of the test cases."""
    recipe, metric = context["recipe"], figures["primary"]
    found = slices_of(figures)
    languages = sorted(name.removeprefix("lang:") for name in (found["slices"] if found else {}) if name.startswith("lang:"))
    known = [name for name in languages if re.fullmatch("[a-z]{2,3}", name)]  # "mixed" is no language code
    value = headline(figures, subject(figures), metric).value
    meta = {
        # The hub refuses a card whose base it does not know, so a folder or the embedded base is told in the text alone.
        **({"base_model": recipe["base"]} if is_hub_name(recipe["base"]) else {}),
        "library_name": "peft",
        "license": recipe["licence"],
        **({"language": known} if known else {}),
        "tags": ["scionwood", "lora", figures["task"]],
        "pipeline_tag": "text-generation",
        "model-index": [{"name": recipe["name"], "results": [{
            "task": {"type": "text-generation", "name": context["task"]["summary"] or figures["task"]},
            "dataset": {"type": figures["task"], "name": f"{figures['task']}, test split", "split": "test"},
            "metrics": [{"type": metric, "name": figures["metrics"][metric]["about"] or metric, "value": value}],
        }]}] if value is not None else [],
    }
    text = yaml.safe_dump({k: v for k, v in meta.items() if v}, sort_keys=False, allow_unicode=True, width=10_000)
    return f"---\n{text}---"


def section(s: Section) -> str:
    """A section as Markdown; plots are left out."""
    return "\n\n".join([f"## {s.title}", *(block(b) for b in s.blocks if not isinstance(b, Plot))])


def block(b: Block) -> str:
    """One block as Markdown. Plots are left to the report: the hub shows no inline SVG."""
    if isinstance(b, Items):
        return "\n".join(f"- {text}" for text in b.texts)
    if isinstance(b, Code):
        return f"```{b.language}\n{b.text}\n```"
    return table(b) if isinstance(b, Table) else b


def table(t: Table) -> str:
    """A GitHub table under its caption."""
    head = [title for title, _ in t.columns]
    rule = ["---:" if kind == NUMBER else ":---" for _, kind in t.columns]
    return f"{t.caption}:\n\n" + "\n".join("| " + " | ".join(map(_cell, row)) + " |" for row in [head, rule, *t.rows])


def _cell(text: str) -> str:
    """A bar ends a cell even inside a code span, so it is escaped unless it is already."""
    return re.sub(r"(?<!\\)\|", r"\\|", text)
