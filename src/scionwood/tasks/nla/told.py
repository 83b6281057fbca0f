"""The sections of card and report that only this task has, and the order in which all are told."""

from __future__ import annotations

import re
from typing import Any, Sequence

from scionwood.evidence.blocks import Block, Code, Items, Plot, Section, Table, numbers, words
from scionwood.evidence.format import ABSENT, between, code, number, prose, several, signed, tally
from scionwood.evidence.standing import Figures, headline
from scionwood.evidence.told_details import controls
from scionwood.evidence.told_making import data, limits, reproduce, settings
from scionwood.evidence.told_results import comparisons, metrics, systems
from scionwood.task import Case
from scionwood.tasks.nla.further import GOLD, PAIR, PUBLISHED_FVE

Context = dict[str, Any]
SHOWN = 3  # samples from each end and the middle
CUT = 180  # characters of a text that are shown
LONGEST = 40  # characters without a blank
LONG = re.compile(rf"[^\s\u3000-\u9fff]{{{LONGEST},}}")
UNUSED = ("teacher.", "evidence.decoder", "evidence.temperature", "evidence.measure_teacher", "task.av.", "task.ar.", "train.more",
          "train.watch", "adapter.folder")

KINDS = """\
The round trip sees the vector alone. A rival sees what its line says below: most read the description that the author of the text \
wrote, and some are told its category or language, which the round trip is not. A ceiling is the reconstructor on words that were \
written by hand; a probe changes one step of the round trip. Neither is judged."""

CATEGORIES = """\
What the round trip explains in each category: of the spread around the mean of all training vectors, and of that around the mean of the \
category and language, which is what is left once both are known. The last two columns are the reconstructor on the author's description."""

MEANINGS = """\
The model card of the published NLA says FVE {published:.2f}, and neither how the texts were split, nor what the denominator was, nor \
what the reconstructor read. Below is this run, measured in every way that the number could have been meant. D is the spread of the \
training vectors around their mean ({strict}), D' that around the mean brought to their norm ({loose}). Only the last line is what the \
name promises: held-out vectors, into words and back."""

CURVE = """\
What the reconstructor, and a ridge regression on the same descriptions, explain of held-out vectors when they are trained on a part of \
the texts. A curve that still rises at its right end would rise further with more texts."""

LEFT_OUT = """\
Each category in turn was left out of training, and only its test texts were measured. "With it" is the same reader trained on \
everything. What stays without it was learnt from other categories."""

NO_AR = """ The reconstructor was not trained anew for each category (it takes as long as its training, times the categories); \
`task_options.leave_out = "ar"` does it."""

SAMPLES = """\
Test texts of one seed: the {n} that came back best, {n} from the middle, and the {n} worst. The FVE of a single text is 1 less its \
error over its distance from the training mean."""

DEV = """\
Dev, by which the kept step was chosen: for a reconstructor FVE over D on the dev texts (of the verbalizer's words where it hears them, \
else of the descriptions), for a verbalizer minus the loss of the dev descriptions."""

CURVES = """\
Training loss of the reconstructor (above, mean squared error of normalised vectors) and of the verbalizer (below, nats per token) over \
the steps; neighbouring steps are averaged."""


def sections(figures: Figures, context: Context) -> list[Section]:
    """All that follows the verdict."""
    told = [metrics(figures), _with(systems(figures, context), KINDS), said(context), comparisons(figures), categories(figures),
            meanings(figures), curve(figures), left_out(figures), controls(figures, _trained_control(context)), making(context),
            data(context), use(context), reproduce(context), own_limits(figures, context)]
    return [s for s in told if s.blocks]


def _trained_control(context: Context) -> Context:
    """Without a trained control nothing was trained for a share of the steps."""
    recipe = context["recipe"]
    shared = {} if recipe["evidence"]["shuffled_control"] else {"control_share": 1}
    return {**context, "recipe": {**recipe, "evidence": recipe["evidence"] | shared}}


def _with(section: Section, paragraph: str) -> Section:
    return Section(section.title, [paragraph, *section.blocks])


def cut(text: str) -> str:
    """The beginning of a text on one line; runs of signs that no line could hold are shortened."""
    line = LONG.sub(lambda m: m[0][:LONGEST] + "…", " ".join(text.split()))
    return line if len(line) <= CUT else line[: CUT - 1] + "…"


# -- what it said -----------------------------------------------------------------------------------------------------------


def samples(rows: Sequence[dict[str, Any]], cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Best, middle and worst texts of a round trip, with what was said of them."""
    by_id = {c.id: c for c in cases}
    left = {r["case"]: r["answer"]["error"] / max(r["answer"]["spread"], 1e-9) for r in rows if r.get("answer")}
    ranked = sorted((r for r in rows if r["case"] in left and r["case"] in by_id), key=lambda r: (left[r["case"]], r["case"]))
    middle = max(0, (len(ranked) - SHOWN) // 2)
    places = dict.fromkeys([*range(SHOWN), *range(middle, middle + SHOWN), *range(len(ranked) - SHOWN, len(ranked))])
    chosen = [ranked[i] for i in places if 0 <= i < len(ranked)]
    return [{"case": r["case"], "text": cut(by_id[r["case"]].input["text"]), "gold": cut(by_id[r["case"]].reference["description"]),
             "said": cut(r["answer"]["said"]), "fve": 1 - left[r["case"]], "rank": r["answer"]["rank"]}
            for r in chosen]


def said(context: Context) -> Section:
    """A few texts with what the verbalizer said of their vectors."""
    told = [f"{code(s['case'])} (FVE {number(s['fve'])}, place {s['rank']} of ten). **Said of its vector:** "
            f"{prose(s['said']) or 'nothing'} **Its author:** {prose(s['gold'])} **The text:** {prose(s['text'])}"
            for s in context["samples"]]
    return Section("What it said", [SAMPLES.format(n=SHOWN), Items(told)] if told else [])


# -- further figures --------------------------------------------------------------------------------------------------------


def value(figure: dict[str, Any] | None) -> str:
    """A figure's value; a dash where there is none."""
    return ABSENT if figure is None else number(figure["value"])


def interval(figure: dict[str, Any] | None) -> str:
    """A figure's interval; a dash where there is none."""
    return ABSENT if figure is None else between(figure["low"], figure["high"])


def categories(figures: Figures) -> Section:
    """The round trip and its ceiling in each category."""
    rows = [[code(c["category"]), tally(c["n"]), value(c["fve"]), interval(c["fve"]), value(c["within"]), interval(c["within"]),
             value(c["gold"]), value(c["gold_within"])] for c in figures["nla"]["categories"]]
    heads = ("n", "FVE", "95 % interval", "FVE within", "95 % interval", "description: FVE", "description: within")
    return Section("By category", [CATEGORIES, Table("The round trip by category", [*words("category"), *numbers(*heads)], rows)])


def meanings(figures: Figures) -> Section:
    """The published figure beside all that it may have meant."""
    found, of = figures["nla"]["meanings"], figures["nla"]["denominators"]
    rows = [[f"published: FVE of the reconstructor {ABSENT} no more is said", number(PUBLISHED_FVE), ABSENT, ABSENT]]
    rows += [[m["what"], value(m), interval(m), tally(m["n"])] for m in found]
    return Section("The published figure", [
        MEANINGS.format(published=PUBLISHED_FVE, strict=number(of["strict"]), loose=number(of["loose"])),
        Table("What the published figure may have been, and what this run gives", [
            *words("what"), *numbers("value", "95 % interval", "n")], rows)])


def curve(figures: Figures) -> Section:
    """Both readers on shares of the training texts."""
    points = figures["nla"]["curve"]
    if not points:
        return Section("How much hangs on the number of texts", [])
    by = {(p["reader"], p["share"]): p for p in points}
    cells = ((value, "fve"), (interval, "fve"), (value, "within"))
    rows = [[tally(by["ar", s]["texts"]), *(f(by[r, s][k]) for r in ("ar", "ridge") for f, k in cells)]
            for s in dict.fromkeys(p["share"] for p in points)]
    heads = [f"{r}: {h}" for r in ("reconstructor", "ridge") for h in ("FVE", "95 % interval", "within")]
    return Section("How much hangs on the number of texts", [
        Plot("data_size", CURVE), Table("FVE of held-out vectors from the author's description, by the number of training texts", [
            *numbers("training texts"), *numbers(*heads)], rows)])


def left_out(figures: Figures) -> Section:
    """What a reader makes of a category that it was not trained on."""
    entries = figures["nla"]["left_out"]
    if not entries:
        return Section("A category left out", [])
    ar = any(e["ar"]["without"] for e in entries)
    rows = [[code(e["category"]), tally(e["ridge"]["with"]["n"]), *(f(e[r][k]) for r in ("ridge", *(["ar"] if ar else []))
             for k, f in (("with", value), ("without", value), ("without", interval)))] for e in entries]
    readers = ["ridge", *(["reconstructor"] if ar else [])]
    heads = [f"{r}, {h}" for r in readers for h in ("with it", "without it", "without: 95 % interval")]
    return Section("A category left out", [LEFT_OUT + ("" if ar else NO_AR), Table(
        "FVE of a category that was not trained on, from the author's description", [*words("category"), *numbers("n", *heads)], rows)])


# -- how it was made --------------------------------------------------------------------------------------------------------


def sentence(text: str) -> str:
    """A reason as a sentence of its own."""
    return prose(text[:1].upper() + text[1:]) + "."


def making(context: Context) -> Section:
    """Vectors, scale, and both trainings."""
    v = context["vectors"]
    where = "the mean over the text's own tokens" if v["positions"] == "mean" else "the last token of the chat template"
    told: list[Block] = [
        f"The vector of a text is the output of block {v['layer']} of the base (counted from 0), at {where}; {v['width']} numbers, in "
        f"float32 and not normalised. Norms of the training vectors: median {number(v['norms']['median'])}, largest "
        f"{number(v['norms']['max'])}; {several(v['outliers'], 'outlier')}. {sentence(v['reason'])} {sentence(v['scale_reason'])}",
        f"The reconstructor was trained to read the {' and the '.join(context['reads'])} of each text."]
    if context["heard"]:
        count = context["recipe"]["task_options"]["ar_hears"]
        told.append(f"It was also trained on {several(count, 'description')} of each training vector by the trained verbalizer, whose words "
                    "it has to read in the end. " + " ".join(f"{code(name)} wrote {tally(f['different'])} different texts of "
                                                            f"{several(f['vectors'], 'vector')}." for name, f in context["heard"].items()))
    rows = [[code(name), *(tally(f.get(k)) for k in ("steps", "best_step")), number(f.get("dev")), tally(f.get("seconds")),
             tally(f.get("tokens")), tally(f.get("trainable")), tally(f.get("peak_memory_mb"))] for name, f in context["training"].items()]
    if context["reinforced"]:
        of = context["recipe"]["task_options"]["reinforce"]
        told.append("Both went on by reinforcement: the verbalizer drew several descriptions of each training vector, and the "
                    "reconstructor, which learnt along on them, judged which brought the vector back. " + " ".join(
                        f"{code(name)}: {several(f['steps'], 'step')}, {tally(f['seconds'])} seconds; mean error of the dev vectors "
                        f"{number(f.get('before'))} before, {number(f.get('after'))} after." for name, f in context["reinforced"].items())
                    + f" Reward: {code(of.get('reward', 'mse'))}.")
    decided = [(k, v) for k, v in settings(context["recipe"]) if not k.startswith(UNUSED)]
    decided += [(f"{role}.{k}", code(str(v))) for role, table in context["settings"].items() for k, v in table.items()
                if v != context["recipe"]["train"].get(k) and v is not None]
    return Section("How it was trained", [
        *told, *([Plot("losses", CURVES)] if any(context["logs"].values()) else []),
        Table("What each training took: ar is the reconstructor, av the verbalizer", [
            *words("adapter"), *numbers("steps", "kept step", "dev", "seconds", "tokens", "trainable parameters", "peak memory, MB")],
              rows),
        DEV,
        Table("The recipe, defaults resolved", words("key", "value"), [[code(k), v] for k, v in decided])])


def use(context: Context) -> Section:
    """Lines to copy for using the adapters."""
    run = f"runs/{context['recipe']['name']}"
    return Section("How to use it", [Code("bash", "\n".join([
        f'scion nla read "some text" --run {run}     # token by token: what its vectors say',
        f"scion nla verbalize {run}/vectors/test.parquet --run {run}",
        f"scion nla reconstruct texts.jsonl --run {run}"]))])


def own_limits(figures: Figures, context: Context) -> Section:
    """The general limits, and those that reading activations has."""
    recipe = context["recipe"]
    section = limits(figures, {**context, "recipe": {**recipe, "evidence": {**recipe["evidence"], "decoder": ""}}})  # words, not labels
    gap, choice = headline(figures, PAIR, "loss_gap").value, headline(figures, PAIR, "choice_1_of_10").value
    gold = headline(figures, GOLD, "round_trip_fve").value
    told = [
        f"Words that sound right are no evidence that they were read from the vector. Another text's vector changes the loss of the true "
        f"description by {signed(gap)} nats per token, and the words pick the text among ten in {number(choice)} of the cases, where a "
        "guess does in 0.100.",
        f"The reconstructor bounds the round trip: on the author's own descriptions it reaches {number(gold)}.",
        "Much can be explained without reading anything: the language and the category of a text. The figures within them say what is "
        "left.",
        "One block was read, and one vector for each text; what the model holds elsewhere was not looked at.",
    ]
    items = next(b for b in section.blocks if isinstance(b, Items))
    return Section(section.title, [Items([*items.texts, *told])])
