"""The sections of the card and the report that tell how the adapter was made, how to use and verify it, and its limits."""

from __future__ import annotations

import json
from typing import Any, Iterator

from scionwood.evidence.blocks import NUMBER, WORD, Code, Items, Plot, Section, Table
from scionwood.evidence.format import ABSENT, code, listed, number, portable, prose, several, tally
from scionwood.evidence.standing import Figures, higher, judged, named, subject, subject_word
from scionwood.evidence.told_results import slices_of

Context = dict[str, Any]

TOLD = ("base", "adapter", "teacher", "train", "evidence")  # the tables of the recipe that decide a result
KEYS = {"endpoint": ("endpoint",), "local": ("model", "logits"), "recorded": ("path",)}  # of each kind of teacher
UNTOLD = {"base_url", "api_key_env", "requests_per_minute", "retries", "backoff_s", "concurrency", "checkpoint_seconds"}


def making(figures: Figures, context: Context) -> list[Section]:
    return [training(figures, context), data(context), use(figures, context), reproduce(context), limits(figures, context)]


def is_hub_name(base: str) -> bool:
    """"owner/name"; a folder or the embedded base is nothing that the hub knows."""
    return base.count("/") == 1 and not base.startswith((".", "/", "~")) and not base.endswith("/")


# -- training -------------------------------------------------------------------------------------------------------------


def training(figures: Figures, context: Context) -> Section:
    facts = context["training"]
    rows = [[code(name), *(tally(f.get(k)) for k in ("steps", "planned_steps", "best_step")), _dev(figures, f.get("dev")),
             _plain(f.get("seconds")), tally(f.get("tokens")), tally(f.get("trainable")), tally(f.get("peak_memory_mb"))]
            for name, f in facts.items()]
    return Section("How it was trained", [
        *teaching(context),
        *([Plot("curves", "Training loss (above; neighbouring steps averaged where there are many) and the primary metric on the dev split "
                          f"(below) over the steps, one {subject_word(figures)} per seed. A ring marks the step that was kept. Dashed: the control on "
                          "shuffled labels, which has no dev curve.")] if any(context["logs"].values()) else []),
        Table("What each training took", [("adapter", WORD), ("steps", NUMBER), ("planned", NUMBER), ("kept step", NUMBER),
              ("dev, primary metric", NUMBER), ("seconds", NUMBER), ("tokens", NUMBER), ("trainable parameters", NUMBER),
              ("peak memory, MB", NUMBER)], rows),
        Table("The recipe, defaults resolved", [("key", WORD), ("value", WORD)], [[code(k), v] for k, v in settings(context["recipe"])])])


def teaching(context: Context) -> list:
    """Who gave the training answers, and what the gold filter made of them."""
    teach, teacher = context["teach"], context["recipe"]["teacher"]
    accepted, refused = tally(teach.get("accepted")), tally(teach.get("refused"))
    if teach.get("teacher") == "the references":
        how = "trained on the references themselves" if not teacher.get("logits") else (
            f"distilled from the logits of {_teacher(teacher)} at the supervised positions of the references")
        return [f"The adapter was {how}: {accepted} cases."]
    told = [f"The training answers come from {_teacher(teacher)}. An answer trains the adapter only where it agrees with the reference: "
            f"{accepted} were accepted, {refused} refused. Cases that the teacher failed on count against its agreement."]
    counts, agreement = teach.get("counts") or {}, teach.get("agreement") or {}
    if counts:
        verdicts = list(dict.fromkeys(v for of_job in counts.values() for v in of_job))
        told.append(Table("The teacher's answers per job", [("job", WORD), *((v, NUMBER) for v in verdicts), ("agreement", NUMBER)],
                          [[code(job), *(tally(n.get(v)) for v in verdicts), number(agreement.get(job))] for job, n in counts.items()]))
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
    prepare = context["prepare"]
    rows = [[code(split), tally(n), tally(prepare["sources"].get(split))] for split, n in prepare["cases"].items()]
    highest = prepare["highest"]
    closest = (f"the two closest, {code(highest['cases'][0])} and {code(highest['cases'][1])}, have {number(highest['similarity'])}"
               if highest else "no two had anything in common")
    return Section("Data and leak check", [
        Table("Cases and sources per split", [("split", WORD), ("cases", NUMBER), ("sources", NUMBER)], rows),
        f"No source stands in two splits. All {prepare['pairs']:,} pairs of texts across splits were compared (Jaccard similarity of character "
        f"5-grams): {closest}; from {prepare['threshold']:g} on, the run would have stopped."])


# -- use and verify -------------------------------------------------------------------------------------------------------


def use(figures: Figures, context: Context) -> Section:
    recipe, seed = context["recipe"], figures["systems"][subject(figures)]["runs"][0]["seed"]
    base = recipe["base"]
    folder = f"adapter/adapter-{seed}/best" if seed is not None else "adapter/best"
    lines = ["from peft import PeftModel", "from transformers import AutoModelForCausalLM, AutoTokenizer"]
    if base == "embedded":
        lines += ["from scionwood.models.loading import folder_of", "", 'base = folder_of("embedded")  # the weights that scionwood carries']
    else:
        lines += ["", f"base = {json.dumps(portable(base), ensure_ascii=False)}"]
    lines += ["tokenizer = AutoTokenizer.from_pretrained(base)", "model = AutoModelForCausalLM.from_pretrained(base)",
              f"model = PeftModel.from_pretrained(model, {json.dumps(folder)}).eval()"]
    served = [f"scion show {recipe['name']}.toml    # a case exactly as the model sees it"]
    if recipe["task"] == "cerebellum":
        served.append(f"scion memory runs/{recipe['name']}    # the router itself")
    return Section("How to use it", [
        "The adapter was trained and measured with one prompt, the task's own, with thinking off. Ask through `scion`, or render the "
        "task's messages with the tokenizer's chat template and an empty think block.",
        Code("python", "\n".join(lines)), Code("bash", "\n".join(served))])


def reproduce(context: Context) -> Section:
    name = context["recipe"]["name"]
    return Section("How to reproduce and verify", [
        "Every figure on this page is computed from the rows in `predictions/`, and this page is written from `figures.json` by the program. "
        "`scion verify` computes the figures again and fails where any of them, or a byte of this page, differs. "
        "`recipe.lock.toml` holds every default, version, seed and data hash.",
        Code("bash", f"scion run {name}.toml\nscion verify runs/{name}")])


# -- limits ---------------------------------------------------------------------------------------------------------------


def limits(figures: Figures, context: Context) -> Section:
    """What the figures themselves say they cannot say."""
    runs = figures["systems"][subject(figures)]["runs"]
    told = [f"The test set has {several(figures['cases'], 'case')} from {several(figures['sources'], 'source')}; cases unlike them were not "
            "measured."]
    seen = [f"{number(entry['detectable'])} against {named(figures, o)}" for o, entry in judged(figures)[:2] if entry["detectable"] is not None]
    if seen:
        told.append(f"On {code(figures['primary'])}, the smallest difference that it could reliably have shown is {listed(seen)}.")
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
        told.append("Where an answer is one of a few labels, it is the label that the model finds most likely, so it cannot be unparseable; "
                    "how well the model writes freely was not measured.")
    told.append(f"It is made for one job, {prose(context['task']['summary']) or code(figures['task'])}; what it does outside "
                "of that was not measured.")
    return Section("Limits", [Items(told)])
