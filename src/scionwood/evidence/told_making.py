"""The sections of the card and the report that tell how the adapter was made, how to use and verify it, and its limits."""

from __future__ import annotations

import json
from typing import Any, Iterator

from scionwood.evidence.blocks import Block, Code, Items, Plot, Section, Table, numbers, words
from scionwood.evidence.format import ABSENT, code, listed, number, portable, prose, several, tally
from scionwood.evidence.standing import Figures, higher, judged, named, slices_of, subject, subject_word

Context = dict[str, Any]

CURVES = """\
Training loss (above; neighbouring steps averaged where there are many) and the primary metric on the dev split (below) \
over the steps, one {word} per seed. A ring marks the step that was kept. Dashed: the control on shuffled labels, which \
has no dev curve."""

GOLD = """\
The training answers come from {teacher}. An answer trains the adapter only where it agrees with the reference: {accepted} \
were accepted, {refused} refused. Cases that the teacher failed on count against its agreement."""

MORE = """\
With `train.more` on, further cases that the task derives from these (where it derives any) were trained on too; the rivals \
got the same."""

IMPORTED = """\
The adapter was not trained here. It was read from a folder in the format of {kind} (rank {rank}, scale {scale}, {targets} of \
{layers}) and measured as it is. What it was trained on is not known here, so whether it has seen the test cases is not known either."""

LEAKS = """\
No source stands in two splits. All {pairs:,} pairs of texts across splits were compared (Jaccard similarity of character \
5-grams): {closest}; from {threshold:g} on, the run would have stopped."""

USE = """\
The adapter was trained and measured with one prompt, the task's own, with thinking off. Ask through `scion`, or render \
the task's messages with the tokenizer's chat template and an empty think block."""

REPRODUCE = """\
Every figure on this page is computed from the rows in `predictions/`, and this page is written from `figures.json` by the \
program. `scion verify` computes the figures again and fails where any of them, or a byte of this page, differs. \
`recipe.lock.toml` holds every default, version, seed and data hash."""

LABELS = """\
Where an answer is one of a few labels, it is the label that the model finds most likely, so it cannot be unparseable; how \
well the model writes freely was not measured."""

TOLD = ("base", "adapter", "teacher", "train", "evidence")  # the tables of the recipe that decide a result
KEYS = {"endpoint": ("endpoint",), "local": ("model", "logits"), "recorded": ("path",)}  # of each kind of teacher
UNTOLD = {"base_url", "api_key_env", "requests_per_minute", "retries", "backoff_s", "concurrency", "checkpoint_seconds"}


def is_hub_name(base: str) -> bool:
    """"owner/name"; a folder or the embedded base is nothing that the hub knows."""
    return base.count("/") == 1 and not base.startswith((".", "/", "~")) and not base.endswith("/")


# -- training -------------------------------------------------------------------------------------------------------------


def training(figures: Figures, context: Context) -> Section:
    """Who taught, what each training took, and the recipe."""
    facts = context["training"]
    if context["teach"].get("teacher") == "imported":
        return imported(context)
    rows = [[code(name), *(tally(f.get(k)) for k in ("steps", "planned_steps", "best_step")), _dev(figures, f.get("dev")),
             _plain(f.get("seconds")), tally(f.get("tokens")), tally(f.get("trainable")), tally(f.get("peak_memory_mb"))]
            for name, f in facts.items()]
    return Section("How it was trained", [
        *teaching(context), *([MORE] if context["recipe"]["train"].get("more") else []),
        *([Plot("curves", CURVES.format(word=subject_word(figures)))] if any(context["logs"].values()) else []),
        Table("What each training took",
              [*words("adapter"), *numbers("steps", "planned", "kept step", "dev, primary metric", "seconds", "tokens",
                                           "trainable parameters", "peak memory, MB")], rows),
        Table("The recipe, defaults resolved", words("key", "value"), [[code(k), v] for k, v in settings(context["recipe"])])])


def imported(context: Context) -> Section:
    """Where an adapter comes from that was not trained here, and how it was measured."""
    found, recipe = context["teach"], context["recipe"]
    asked = {"base": recipe["base"], "evidence": recipe["evidence"], "adapter": {"folder": recipe["adapter"]["folder"]}}
    return Section("How it was trained", [
        IMPORTED.format(kind=found["imported"], rank=found["rank"], scale=number(found["scale"]), layers=several(found["layers"], "layer"),
                        targets=listed([code(t) for t in found["targets"]])),
        Table("How it was measured, defaults resolved", words("key", "value"),
              [[code(k), v] for name, table in asked.items() for k, v in _flat(name, table)])])


def teaching(context: Context) -> list[Block]:
    """Who gave the training answers, and what the gold filter made of them."""
    teach, teacher = context["teach"], context["recipe"]["teacher"]
    accepted, refused = tally(teach.get("accepted")), tally(teach.get("refused"))
    if teach.get("teacher") == "the references":
        how = "trained on the references themselves" if not teacher.get("logits") else (
            f"distilled from the logits of {_teacher(teacher)} at the supervised positions of the references")
        return [f"The adapter was {how}: {accepted} cases."]
    told: list[Block] = [GOLD.format(teacher=_teacher(teacher), accepted=accepted, refused=refused)]
    counts, agreement = teach.get("counts") or {}, teach.get("agreement") or {}
    if counts:
        verdicts = list(dict.fromkeys(v for of_job in counts.values() for v in of_job))
        rows = [[code(job), *(tally(n.get(v)) for v in verdicts), number(agreement.get(job))] for job, n in counts.items()]
        told.append(Table("The teacher's answers per job", [*words("job"), *numbers(*verdicts, "agreement")], rows))
    return told


def _teacher(teacher: dict[str, Any]) -> str:
    model = teacher.get("model") or (teacher.get("endpoint") or {}).get("model")
    if teacher["kind"] == "recorded":
        return "a teacher's recorded answers" + (f" ({code(portable(teacher['path']))})" if teacher.get("path") else "")
    return f"the teacher {code(portable(model))}" if model else "a teacher"


def settings(recipe: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(dotted key, value) of all that decides a result; no addresses, and paths without the machine they lie on."""
    for name in TOLD:
        yield from _flat(name, deciding(recipe[name]) if name == "teacher" else recipe[name])
    for name, value in recipe.get("task_options", {}).items():
        yield from _flat(f"task.{name}", value)


def deciding(teacher: dict[str, Any]) -> dict[str, Any]:
    """The keys of a teacher's own kind: those of other kinds may stay in a recipe, and decide nothing."""
    keys = ["kind", *KEYS.get(teacher["kind"], ()), *(("temperature", "weight") if teacher.get("logits") else ())]
    return {key: teacher.get(key) for key in keys}


def _flat(key: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and key != "teacher.endpoint.extra":
        for inner, v in value.items():
            if inner not in UNTOLD and v is not None:
                yield from _flat(f"{key}.{inner}", v)
    elif isinstance(value, str):
        yield key, code(portable(value))
    elif isinstance(value, list) and all(isinstance(v, (str, int, float)) for v in value):
        yield key, code(", ".join(str(v) for v in value))
    else:
        yield key, code(json.dumps(value, ensure_ascii=False))


def _plain(value: float | None) -> str:
    return ABSENT if value is None else f"{value:,}"


def _dev(figures: Figures, value: float | None) -> str:
    """Training keeps the dev metric signed so that higher is better; it is told as it is."""
    return number(value if value is None or higher(figures, figures["primary"]) else -value)


# -- data -----------------------------------------------------------------------------------------------------------------


def data(context: Context) -> Section:
    """Cases and sources per split, and what the leak check saw."""
    prepare = context["prepare"]
    rows = [[code(split), tally(n), tally(prepare["sources"].get(split))] for split, n in prepare["cases"].items()]
    highest = prepare["highest"]
    closest = "no two had anything in common"
    if highest:
        closest = f"the two closest, {listed([code(c) for c in highest['cases']])}, have {number(highest['similarity'])}"
    return Section("Data and leak check", [
        Table("Cases and sources per split", [*words("split"), *numbers("cases", "sources")], rows),
        LEAKS.format(pairs=prepare["pairs"], closest=closest, threshold=prepare["threshold"])])


# -- use and verify -------------------------------------------------------------------------------------------------------


def use(figures: Figures, context: Context) -> Section:
    """Lines to copy for loading and asking the adapter."""
    recipe, seed = context["recipe"], figures["systems"][subject(figures)]["runs"][0]["seed"]
    base = recipe["base"]
    folder = f"adapter/adapter-{seed}/best" if seed is not None else "adapter/best"
    lines = ["from peft import PeftModel", "from transformers import AutoModelForCausalLM, AutoTokenizer"]
    if base == "embedded":
        lines += ["from scionwood.models.loading import folder_of", "",
                  'base = folder_of("embedded")  # the weights that scionwood carries']
    else:
        lines += ["", f"base = {json.dumps(portable(base), ensure_ascii=False)}"]
    lines += ["tokenizer = AutoTokenizer.from_pretrained(base)", "model = AutoModelForCausalLM.from_pretrained(base)",
              f"model = PeftModel.from_pretrained(model, {json.dumps(folder)}).eval()"]
    served = [f"scion show {recipe['name']}.toml    # a case exactly as the model sees it"]
    if recipe["task"] == "cerebellum":
        served.append(f'scion memory classify "Where do I live?" --run runs/{recipe["name"]}    # the router itself')
    if context.get("exports"):
        served.append(f"scion serve runs/{recipe['name']}    # a server on this machine, from the exported file")
    return Section("How to use it", [
        USE, Code("python", "\n".join(lines)), Code("bash", "\n".join(served))])


def reproduce(context: Context) -> Section:
    """Lines to copy for making and verifying the run."""
    name = context["recipe"]["name"]
    return Section("How to reproduce and verify", [
        REPRODUCE, Code("bash", f"scion run {name}.toml\nscion verify runs/{name}")])


# -- limits ---------------------------------------------------------------------------------------------------------------


def limits(figures: Figures, context: Context) -> Section:
    """What the figures themselves say they cannot say."""
    runs = figures["systems"][subject(figures)]["runs"]
    told = [f"The test set has {several(figures['cases'], 'case')} from {several(figures['sources'], 'source')}; cases unlike "
            "them were not measured."]
    leading = [(named(figures, o), entry["detectable"]) for o, entry in judged(figures)[:2]]
    seen = listed([f"{number(d)} against {name}" for name, d in leading if d is not None])
    if seen:
        told.append(f"On {code(figures['primary'])}, the smallest difference that it could reliably have shown is {seen}.")
    if len(runs) == 1:
        told.append("One seed was trained: how much of the result is luck of the seed is unknown.")
    no_interval = [name for name, f in runs[0]["figures"].items() if f["method"] == "none"]
    if no_interval:
        told.append(f"No interval could be given for {listed([code(n) for n in no_interval])}: undefined, or too few sources.")
    found = slices_of(figures)
    blind = [name for name, s in found["slices"].items() if s["detectable"] is None] if found else []
    if blind:
        told.append(f"{several(len(blind), 'slice')} of {len(found['slices'])} could not have shown any difference at all: "
                    f"{listed([code(n) for n in blind])}.")
    if context["recipe"]["evidence"].get("decoder") == "labels":
        told.append(LABELS)
    job = prose(context["task"]["summary"]) or code(figures["task"])
    told.append(f"It is made for one job, {job}; what it does outside of that was not measured.")
    return Section("Limits", [Items(told)])
