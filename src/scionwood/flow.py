"""The stages from a recipe to a card: prepare, baseline, teach, train, prove, figures, card."""

from __future__ import annotations

import platform
from functools import cached_property
from pathlib import Path
from typing import Callable

import tomli_w

from scionwood import __version__, files
from scionwood.errors import UserError
from scionwood.export import adopt, proof
from scionwood.recipe import Recipe
from scionwood.run import Run, remove
from scionwood.task import SPLITS, Choices, Task, load_task
from scionwood.teaching import stages

SHUFFLED = "shuffled-labels"
SMALL_BASE = 400e6  # bytes of weights; up to here fp32 costs little where answers are measured


class Flow:
    """One recipe on one run folder. Models are loaded when a stage first needs them, and not at all where all is done.

    A task with stages or systems of its own subclasses it and names the subclass in ``Task.flow``; ``flow_for`` finds it.
    """

    def __init__(self, recipe: Recipe, run: Run, home: Path = Path(), task: Task | None = None):
        self.recipe, self.run, self.home = recipe, run, home
        self.task: Task = task or load_task(recipe.task, **recipe.task_options)

    # -- what stages share ------------------------------------------------------------------------------------------------

    def local(self, path: str) -> Path:
        """A path of the recipe: relative to the recipe's folder, or to the task's package data with ``task:``."""
        if path.startswith("task:"):
            import inspect

            return Path(inspect.getfile(type(self.task))).parent / path.removeprefix("task:")
        return (self.home / Path(path).expanduser()).resolve()

    def model_name(self, name: str) -> str:
        """The name of a model in the recipe, with a relative folder made absolute."""
        from scionwood.models.loading import EMBEDDED

        if name != EMBEDDED and (self.home / name).is_dir():
            return str((self.home / name).resolve())
        return name

    @cached_property
    def base(self) -> str:
        return self.model_name(self.recipe.base)

    @cached_property
    def base_hash(self) -> str:
        from scionwood.models.loading import base_identity

        return base_identity(self.base)

    @cached_property
    def teacher_hash(self) -> str:
        """What stands for a local teacher's weights; empty for the other kinds."""
        from scionwood.models.loading import base_identity

        return base_identity(self.model_name(self.recipe.teacher.model)) if self.recipe.teacher.kind == "local" else ""

    @cached_property
    def asked(self) -> str:
        """A hash of what systems are asked and how it is read: a prompt that was edited puts every answer out of date."""
        return files.text_hash([[c.id, self.task.messages(c), self.task.target(c), repr(self.task.constraint(c)), repr(self.task.gate(c))]
                                for s in SPLITS for c in self.task.cases(s)])

    @cached_property
    def choices_only(self) -> bool:
        """Whether every case of the task is answered by a choice."""
        return all(isinstance(self.task.constraint(c), Choices) for s in SPLITS for c in self.task.cases(s))

    @cached_property
    def machine(self):
        """``(device, dtype)``, each chosen with a printed reason."""
        from scionwood.models import machine

        for line in (machine.tune_memory(lean=self.recipe.train.recompute), machine.limit_threads()):
            self.run.echo(line)
        device, why = machine.choose_device(self.recipe.train.device)
        self.run.echo(why)
        dtype, why = machine.choose_dtype(self.recipe.train.dtype, device)
        self.run.echo(why)
        return device, dtype

    @cached_property
    def renderer(self):
        from scionwood.models.loading import load_tokenizer
        from scionwood.models.prompts import Renderer

        return Renderer(load_tokenizer(self.base))

    @cached_property
    def measuring(self):
        """The number format in which answers are measured. A small base costs little in fp32, and near ties are not decided by rounding."""
        from scionwood.models import machine
        from scionwood.models.loading import weights_size

        wanted = self.recipe.evidence.dtype
        if wanted == "auto" and (size := weights_size(self.base)) <= SMALL_BASE:
            wanted = "fp32"
            self.run.echo(f"answers are measured in fp32 (the base has {size / 1e6:.0f} MB)")
        return self.machine[1] if wanted == "auto" else machine.choose_dtype(wanted, self.machine[0])[0]

    def load_base(self, dtype=None):
        from scionwood.models.loading import load_model

        return load_model(self.base, self.machine[0], dtype or self.machine[1])

    def autocast(self, dtype=None):
        from scionwood.training.loop import autocast_for

        return autocast_for(self.machine[0], dtype or self.machine[1])

    def system(self, name: str, kind: str, model, renderer=None, dtype=None):
        """A model as a system under the recipe's decoder; tasks whose answers are not choices are decoded as JSON or free text.

        ``renderer`` is that of a model with a tokenizer of its own, ``dtype`` the number format where it is not that of the training."""
        from scionwood.systems.json_decoding import JsonDecoder
        from scionwood.systems.label_scoring import LabelScorer

        evidence = self.recipe.evidence
        given = (name, kind, model, renderer or self.renderer, self.task, self.autocast(dtype))
        if evidence.decoder == "labels" and self.choices_only and not evidence.temperature:
            return LabelScorer(*given, max_length=self.recipe.train.max_length)
        return JsonDecoder(*given, max_length=self.recipe.train.max_length, temperature=evidence.temperature)

    @property
    def decoding(self) -> str:
        """How answers are decoded, for the hashes of the stages."""
        evidence = self.recipe.evidence
        return evidence.decoder + (f" at temperature {evidence.temperature}" if evidence.temperature else "")

    # -- the stages -------------------------------------------------------------------------------------------------------

    def all(self) -> None:
        """Run every stage that is not done yet."""
        proof.check_possible(self.recipe)
        adopt.check_possible(self.recipe)
        self.write_lock()
        self.prepare()
        self.baseline()
        if self.recipe.evidence.measure_teacher:
            stages.measure_teacher(self)
        if self.recipe.adapter.folder:
            adopt.adopt(self)
        else:
            stages.teach(self)
        for seed in self.recipe.train.seeds:
            if not self.recipe.adapter.folder:
                self.train(f"adapter-{seed}", seed)
            self.prove(f"adapter-{seed}", "adapter", "adapter", seed)
        if self.recipe.evidence.shuffled_control:
            seed = self.recipe.train.seeds[0]
            self.train(SHUFFLED, seed)
            self.prove(SHUFFLED, SHUFFLED, "control", seed)
        proof.export_and_prove(self)
        self.drop_leftovers()
        self.figures()
        self.card()

    def drop_leftovers(self) -> None:
        """Remove predictions of systems that the recipe no longer names (a seed less), and caches that only training needs."""
        named = {file for file, *_ in self.system_files()}
        for path in sorted(self.run.path("predictions").glob("*.jsonl")):
            if f"predictions/{path.name}" not in named:
                self.run.echo(f"predictions/{path.name}: removed (the recipe no longer names this system)")
                path.unlink()
        remove(self.run.path(".cache"))

    def write_lock(self) -> None:
        """The recipe with every default resolved, versions, and the hashes of data and base."""
        from importlib.metadata import version

        lock = self.recipe.model_dump(exclude_none=True, mode="json")
        lock["lock"] = {
            "scionwood": __version__,
            "python": platform.python_version(),
            "packages": {p: version(p) for p in ("torch", "transformers", "peft", "tokenizers", "numpy", "scikit-learn")},
            "data": {f.name: files.file_hash(f) for f in self.task.data_files()},
            "base": self.base_hash,
            "home": str(self.home.resolve()),  # what relative paths of the recipe are relative to
        }
        path, text = self.run.path("recipe.lock.toml"), tomli_w.dumps(lock)
        if not path.exists() or path.read_text("utf-8") != text:
            files.write_text(path, text)

    def data_hash(self) -> str:
        return files.text_hash([[str(f.name), files.file_hash(f)] for f in self.task.data_files()]
                               or [[c.id, c.input, c.reference] for s in SPLITS for c in self.task.cases(s)])

    def prepare(self) -> None:
        """Write the cases of each split and refuse splits that leak."""
        from scionwood.evidence.leaks import check_splits, input_text

        def work():
            splits = {s: self.task.cases(s) for s in SPLITS}
            for name, cases in splits.items():
                if not cases:
                    raise UserError(f"task '{self.task.name}': split '{name}' has no cases")
                files.write_jsonl(self.run.path("data", f"{name}.jsonl"), map(self.task.export, cases))
            return check_splits(splits, input_text, self.run.echo, threshold=self.recipe.evidence.near_duplicate)

        inputs = {"task": self.recipe.task, "options": self.recipe.task_options, "data": self.data_hash(),
                  "near_duplicate": self.recipe.evidence.near_duplicate}
        self.run.stage("prepare", inputs, [f"data/{s}.jsonl" for s in SPLITS], work)

    def write_predictions(self, name: str, system, split: str = "test") -> dict:
        from scionwood.systems.base import evaluate

        cases = self.task.cases(split)
        predictions = evaluate(system, self.task, cases)
        files.write_jsonl(self.run.path("predictions", f"{name}.jsonl"), (p.row() for p in predictions))
        return {"name": system.name, "kind": system.kind}

    def baseline(self) -> None:
        """The rivals, fitted on the training cases, and the untuned base."""
        rivals = self.task.rivals()

        def work():
            cases = self.task.cases("train")
            for rival in rivals:
                self.run.echo(f"  {rival.name}: {rival.about}")
                rival.fit(self.task, cases)
                self.write_predictions(rival.name, rival)

        self.run.stage("rivals", {"data": self.run.output_hash("prepare"), "asked": self.asked, "rivals": [r.name for r in rivals]},
                       [f"predictions/{r.name}.jsonl" for r in rivals], work)
        inputs = {"data": self.run.output_hash("prepare"), "asked": self.asked, "base": self.base_hash,
                  "evidence": self.decoding, "dtype": [self.recipe.train.dtype, self.recipe.evidence.dtype]}

        def base():
            model = self.load_base(self.measuring)
            return self.write_predictions("base", self.system("base", "base", model, dtype=self.measuring))

        self.run.stage("base", inputs, ["predictions/base.jsonl"], base)

    def control_training(self):
        """The control's training: the recipe's own, shortened to ``evidence.control_share`` of it."""
        train, share = self.recipe.train, self.recipe.evidence.control_share
        return train.model_copy(update={"epochs": train.epochs * share, "steps": train.steps and max(1, round(train.steps * share))})

    def training_rows(self, name: str) -> list[tuple[str, list[dict], str]]:
        """``(case id, messages, answer)`` of all that an adapter is taught; for the control, answers are dealt out anew within each job."""
        import random

        shuffled = name == SHUFFLED
        by_id = {c.id: c for c in self.task.cases("train")}
        taught = files.read_jsonl(self.run.path("data", "taught.jsonl"))
        if self.recipe.train.more:
            further = [m for t in taught for m in self.task.more(by_id[t["case"]]) if self.task.gate(m) is None]
            by_id |= {m.id: m for m in further}
            taught += [{"case": m.id, "job": m.job, "text": self.task.target(m)} for m in further]
        texts = [t["text"] for t in taught]
        if shuffled:
            for job in sorted({t["job"] for t in taught}):
                places = [i for i, t in enumerate(taught) if t["job"] == job]
                moved = [texts[i] for i in places]
                random.Random(0).shuffle(moved)
                for i, text in zip(places, moved):
                    texts[i] = text
        return [(t["case"], self.task.messages(by_id[t["case"]]), text) for t, text in zip(taught, texts)]

    def dev_figure(self) -> Callable[[object], float] | None:
        """Model -> the figure on the dev split by which the best adapter is chosen; None keeps the last one that was well."""
        from scionwood.systems.dev import dev_metric

        return dev_metric(self.task, lambda model: self.system("dev", "adapter", model))

    def train(self, name: str, seed: int) -> None:
        import torch

        from scionwood.training.examples import build
        from scionwood.training.loop import Plan, count_steps, train
        from scionwood.training.monitors import Progress, trackio_monitor

        shuffled, rows = name == SHUFFLED, self.training_rows(name)
        settings = self.control_training() if shuffled else self.recipe.train

        def work():
            r = self.recipe
            examples = build(self.renderer, rows, r.train.max_length, r.train.balance)
            device, dtype = self.machine
            plan = Plan(examples, r.adapter, settings, seed, self.base_hash, self.run.path("adapter", name), self.run.path(".cache"),
                        dev=None if shuffled else self.dev_figure())
            if r.teacher.logits and not shuffled:  # a teacher would tell the control the true answers
                plan.teacher, plan.temperature, plan.weight = stages.logit_teacher(self), r.teacher.temperature, r.teacher.weight
            if settings.watch.every and not shuffled:
                plan.watch = self.task.watch(self.renderer, settings.watch, self.autocast())
            steps, tokens = count_steps(plan), sum(len(e.path) for e in examples.items)
            self.run.echo(f"  {name}: {len(examples.items)} cases, {len(examples.tree)} distinct tokens of {tokens}, {steps} steps")
            monitors = [Progress(name, steps, self.run.echo)]
            tracker = trackio_monitor("scionwood", f"{r.name}-{name}", r.train.model_dump(mode="json"))
            try:
                facts = train(self.load_base(), plan, device, dtype, monitors + ([tracker] if tracker else []))
            except torch.OutOfMemoryError:
                raise UserError(f"training: does not fit the memory of {device}; lower train.micro_tokens or set train.recompute = true") from None
            finally:
                monitors[0].close()
            (self.run.path("adapter", name) / "checkpoint.safetensors").unlink()
            return facts | {"cases": len(examples.items), "distinct_tokens": len(examples.tree)}

        inputs = {"rows": files.text_hash(rows), "data": self.run.output_hash("prepare"), "asked": self.asked, "base": self.base_hash,
                  "adapter": self.recipe.adapter.model_dump(mode="json", exclude={"folder"}), "seed": seed, "shuffled": shuffled,
                  "train": settings.model_dump(mode="json", exclude={"seeds", "checkpoint_seconds"}),
                  "teacher": [self.recipe.teacher.model_dump(mode="json"), self.teacher_hash] if self.recipe.teacher.logits else None}
        self.run.stage(f"train-{name}", inputs, [f"adapter/{name}"], work)

    def prove(self, name: str, system_name: str, kind: str, seed: int) -> None:
        from scionwood.models.loading import load_adapter

        def work():
            model = load_adapter(self.load_base(self.measuring), self.run.path("adapter", name, "best"))
            return self.write_predictions(name, self.system(system_name, kind, model, dtype=self.measuring)) | {"seed": seed}

        inputs = {"adapter": self.run.output_hash(f"train-{name}"), "asked": self.asked, "base": self.base_hash,
                  "decoder": self.decoding, "dtype": [self.recipe.train.dtype, self.recipe.evidence.dtype]}
        self.run.stage(f"prove-{name}", inputs, [f"predictions/{name}.jsonl"], work)

    # -- figures, card ----------------------------------------------------------------------------------------------------

    def system_files(self) -> list[tuple]:
        """(predictions file, name, kind, seed) of every system that the recipe names."""
        out = [("predictions/base.jsonl", "base", "base", None)]
        out += [(f"predictions/{r.name}.jsonl", r.name, "rival", None) for r in self.task.rivals()]
        out += [(f"predictions/adapter-{s}.jsonl", "adapter", "adapter", s) for s in self.recipe.train.seeds]
        if self.recipe.evidence.measure_teacher:
            out.append(("predictions/teacher.jsonl", "teacher", "teacher", None))
        if self.recipe.evidence.shuffled_control:
            out.append((f"predictions/{SHUFFLED}.jsonl", SHUFFLED, "control", self.recipe.train.seeds[0]))
        return out + proof.exported_systems(self)

    def systems(self) -> list:
        """Every system with its predictions in the run."""
        from scionwood.evidence.rows import read_system

        return [read_system(self.run.folder, *named) for named in self.system_files()]

    def recompute(self) -> dict:
        """The figures from the predictions, with nothing taken from figures.json."""
        from scionwood.evidence.figures import compute

        return compute(self.task, self.task.cases("test"), self.systems())

    def task_code(self) -> str:
        """A hash of the task's source, which scores and metrics come from."""
        import inspect

        folder = Path(inspect.getfile(type(self.task))).parent
        return files.text_hash({p.name: files.file_hash(p) for p in sorted(folder.glob("*.py"))})

    def figures(self) -> None:
        systems = {s.file: s.sha256 for s in self.systems()}
        inputs = {"predictions": systems, "data": self.run.output_hash("prepare"), "code": self.task_code()}
        self.run.stage("figures", inputs, ["figures.json"], lambda: files.write_json(self.run.path("figures.json"), self.recompute()))

    def render(self, figures: dict) -> dict[str, str]:
        """``{file name: text}`` of the card and the report."""
        from scionwood.evidence.card import render_card
        from scionwood.evidence.report import render_report

        context = self.context()
        return {"README.md": render_card(figures, context), "report.html": render_report(figures, context)}

    def context(self) -> dict:
        """All that card and report show beside the figures: recipe, facts of the stages, loss curves, sample answers."""
        seeds = [f"adapter-{s}" for s in self.recipe.train.seeds]
        names = seeds + ([SHUFFLED] if self.recipe.evidence.shuffled_control else [])
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            "task": {"name": self.task.name, "summary": self.task.summary, "primary": self.task.primary,
                     "metrics": {m.name: m.about for m in self.task.metrics()}},
            "rivals": {r.name: r.about for r in self.task.rivals()},
            "prepare": self.run.facts("prepare"),
            "teach": adopt.told(self.run.facts(f"train-{seeds[0]}")) if self.recipe.adapter.folder else self.run.facts("teach"),
            "training": {n: self.run.facts(f"train-{n}") for n in names},
            "exports": proof.facts(self),
            "logs": {n: files.read_jsonl(self.run.path("adapter", n, "log.jsonl")) for n in names},
        }

    def card(self) -> None:
        def work():
            for name, text in self.render(files.read_json(self.run.path("figures.json"))).items():
                files.write_text(self.run.path(name), text)

        self.run.stage("card", {"figures": self.run.output_hash("figures"), "context": self.context()}, ["README.md", "report.html"], work)


def flow_for(recipe: Recipe, run: Run, home: Path = Path()) -> Flow:
    """The flow of a recipe: the task's own, where it has one."""
    task = load_task(recipe.task, **recipe.task_options)
    return (task.flow() or Flow)(recipe, run, home, task)


def open_flow(folder: Path, echo: Callable[[str], None] = print) -> Flow:
    """The flow of an existing run, from its lock file."""
    from scionwood.run import open_run
    from scionwood.settings import check, read_toml

    run = open_run(folder)
    run.echo = echo
    lock = run.path("recipe.lock.toml")
    data = read_toml(lock)
    home = Path(data.pop("lock", {}).get("home", "."))
    return flow_for(check(data, Recipe, str(lock)), run, home)
