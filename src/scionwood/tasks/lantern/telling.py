"""The card and the report of a lantern run: the four controls beside the adapter, in every table, and what the watch saw."""

from __future__ import annotations

from typing import Any

from scionwood.evidence.blocks import Block, Items, Plot, Section, Table, numbers, words
from scionwood.evidence.format import between, code, listed, number, p_value, prose, several, signed
from scionwood.evidence.standing import Figures, headline, ranked
from scionwood.evidence.told_details import failures
from scionwood.evidence.told_exports import exports
from scionwood.evidence.told_making import data, limits, reproduce, training, use
from scionwood.evidence.told_results import bold, comparisons, metrics, systems
from scionwood.tasks.lantern.flow import MATCHED, PLAIN, PROMPTED

Context = dict[str, Any]

ASKED = """\
Each system wrote {answers} answers to each of {prompts} prompts that no training text shares six words in a row with. Every answer has \
exactly {words} words: the turn could not end before, and what came after was cut off; one that had not come so far after three tokens for \
each word is worth nothing (`full_length` tells how many did). Tokens were drawn at temperature \
{temperature:g}, top-p {top_p:g}, min-p {min_p:g}, with the same chances for every system. {quality} {same}"""

COHERENCE = """\
No judge was named, so the quality of an answer is exp(−|s − s0|): s is its mean surprisal per token under the untouched base, s0 \
that of ordinary prose of the same length. Text that the base finds far likelier than prose (a loop) is worth as little as text that it \
finds far less likely (noise). The base is its own yardstick here; a person may judge otherwise."""

SAME = """\
Two answers count as alike where they share more words than nineteen of twenty pairs of unrelated passages of ordinary prose of that \
length."""

CONTROLS = """\
A published claim says that training on texts of a certain structure makes a model's words more diverse. Four controls tell what else \
could: nothing at all, training on any good prose of that length, asking for the structure, and drawing more boldly."""

DIVERSITY = """\
What each look at the model saw while it trained: {prompts} held-out prompts, {answers} of {tokens} tokens to each at temperature 1, \
drawn with the same chances each time. Solid, dashed, dotted: the seeds. A cross marks a stop by the rule."""

PAIRS = """\
Every system against every other on {primary}; seeds averaged, intervals by resampling the prompts, Holm's adjustment over all pairs. \
The comparisons above, of the adapter alone, were fixed in advance; these tell the controls apart."""

TEXTS = """\
The first prompt of each kind, and the first answer that each system drew to it{seed}. Nothing was picked."""

LIMIT = """\
Quality is the base's own likelihood: it favours what the base would have written, and knows nothing of truth or use. Name a judge \
([task_options.quality]) before you believe a small difference."""


def sections(figures: Figures, context: Context) -> list[Section]:
    """All that follows the verdict."""
    told = [how(figures, context), systems(figures, context), watched(context), metrics(figures), controls(context), table_of_all(figures),
            comparisons(figures), every_pair(figures), texts(context), exports(figures, context), failures(figures),
            training(figures, context), data(context), use(figures, context), reproduce(context), bounds(figures, context)]
    return [s for s in told if s.blocks]


def how(figures: Figures, context: Context) -> Section:
    """What was asked, how it was drawn, and who says what is good."""
    o, quality = context["options"], context["options"]["quality"]
    judged = COHERENCE if quality["kind"] == "coherence" else (
        f"Quality, from 0 to 1, was given by {code((quality['endpoint'] or {}).get('model') or quality['model'])}.")
    same = SAME if not o["same"] else f"Which answers mean the same was decided by {code(o['same'])}."
    return Section("What was asked", [ASKED.format(
        answers=o["answers"], prompts=figures["cases"], words=o["words"], top_p=o["top_p"], min_p=o["min_p"],
        temperature=context["recipe"]["evidence"]["temperature"], quality=judged, same=same)])


def table_of_all(figures: Figures) -> Section:
    """Every metric of every system, averaged over seeds."""
    names = [*ranked(figures), *(n for n in figures["systems"] if n not in ranked(figures))]
    rows = [[code(metric), figures["metrics"][metric]["better"], *(number(headline(figures, n, metric).value) for n in names)]
            for metric in figures["metrics"]]
    return Section("Every metric of every system", [
        Table("Every metric, seeds averaged; best system on the primary metric first",
              [*words("metric", "better"), *numbers(*map(code, names))], rows)])


def controls(context: Context) -> Section:
    """What each control is for, and the temperatures that were found."""
    found = context["matched"]
    told: list[Block] = [CONTROLS, Items([
        f"{code('base')}: the untouched base.",
        *(f"{code(n)}: {prose(context['rivals'][n])}." for n in (PLAIN, PROMPTED, MATCHED) if n in context["rivals"])])]
    rows = [[str(seed), number(m["wanted"]), number(m["temperature"]), number(m["entropy"]), str(len(m["tried"]))]
            for seed, m in found.items()]
    told.append(Table("The temperatures of the untouched base, found by bisection on the dev prompts",
                      numbers("seed", "adapter's entropy, nats", "temperature", "base's entropy at it, nats", "temperatures tried"), rows))
    return Section("The four controls", told)


def every_pair(figures: Figures) -> Section:
    """All pairs of systems on the primary metric."""
    rows = [[code(p["system"]), code(p["against"]), signed(p["difference"]), between(p["low"], p["high"], signed), p_value(p["p_holm"]),
             number(p["detectable"]), bold(p["verdict"])] for p in figures["pairs"]]
    return Section("Every pair", [
        PAIRS.format(primary=code(figures["primary"])),
        Table(f"{code(figures['primary'])} of each system against each other",
              [*words("system", "against"), *numbers("difference", "95 % interval", "Holm p", "smallest detectable difference"),
               *words("verdict")], rows)])


def watched(context: Context) -> Section:
    """The curves of the watch, and what it ended."""
    watch, stops = context["recipe"]["train"]["watch"], {n: f["stop"] for n, f in context["training"].items() if f.get("stop")}
    if not watch["every"]:
        return Section("Diversity while it trained", [])
    said = [f"Training stopped early: {listed([f'{code(n)} ({prose(why)})' for n, why in stops.items()])}."] if stops else [
        f"The rule {code(watch['rule'])} stopped no training."]
    seen = DIVERSITY.format(prompts=looked_at(context), answers=several(watch["samples"], "answer"), tokens=watch["tokens"])
    return Section("Diversity while it trained", [Plot("diversity", seen), *said])


def looked_at(context: Context) -> int:
    """How many prompts a look takes: those of the recipe, or the dev split's where it has fewer."""
    return min(context["recipe"]["train"]["watch"]["prompts"], context["prepare"]["cases"]["dev"])


def texts(context: Context) -> Section:
    """One prompt of each kind, and what each system wrote first."""
    seeds = list(context["matched"])
    blocks: list[Block] = [TEXTS.format(seed=f" (seed {seeds[0]})" if len(seeds) > 1 else "")]
    for s in context["samples"]:
        kind = f"{prose(s['kind'])}: " if s["kind"] else ""
        blocks.append(Table(f"{kind}{prose(s['prompt'])}", words("system", "answer"),
                            [[code(n), prose(t) or "–"] for n, t in s["answers"].items()]))
    return Section("In their own words", blocks)


def bounds(figures: Figures, context: Context) -> Section:
    """The limits that every run has, and those of coherence."""
    section = limits(figures, context)
    if context["options"]["quality"]["kind"] != "coherence":
        return section
    items = section.blocks[0]
    return Section(section.title, [Items([*items.texts, prose(LIMIT)])])
