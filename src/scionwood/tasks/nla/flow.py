"""The stages of ``scion run nla``: vectors, reconstructor, verbalizer, round trip; rivals, controls, probes; figures and card."""

from __future__ import annotations

from functools import cached_property
from typing import Sequence

import numpy as np

from scionwood import files
from scionwood.errors import UserError
from scionwood.flow import Flow
from scionwood.run import remove
from scionwood.task import SPLITS
from scionwood.tasks.nla import fve, looks, measuring, reinforce, training
from scionwood.tasks.nla.answers import Told, Yardstick, answers
from scionwood.tasks.nla.further import PAIR

PAIR_KIND = "pair"


class NlaFlow(Flow):
    """One NLA recipe on one run folder.

    Vectors lie in ``vectors/SPLIT.parquet``, adapters in ``adapter/av-SEED`` and ``adapter/ar-SEED``, prediction rows of the test texts in
    ``predictions/``, rows of further looks (less data, a category left out, the training texts themselves) in ``beside/``.
    """

    @property
    def options(self):
        return self.task.options

    def adapters(self, seed: int) -> tuple[str, str]:
        """The names of the verbalizer and the reconstructor of a seed that are measured: those by reinforcement, where there are any."""
        start = "rl-" if self.options.reinforce.on else ""
        return f"{start}av-{seed}", f"{start}ar-{seed}"

    def weights(self, name: str) -> str:
        """The hash of what the stage wrote that trained an adapter."""
        return self.run.output_hash(f"reinforce-av-{name.rpartition('-')[2]}" if name.startswith("rl-") else f"train-{name}")

    def all(self) -> None:
        """Run every stage that is not done yet."""
        self.check_possible()
        self.write_lock()
        self.prepare()
        self.extract()
        measuring.rivals(self)
        for seed in self.recipe.train.seeds:
            training.verbalizer(self, f"av-{seed}", seed)
            if self.options.ar_hears:
                training.speak(self, seed)
            training.reconstructor(self, f"ar-{seed}", seed)
            if self.options.reinforce.on:
                reinforce.stage(self, f"av-{seed}", f"ar-{seed}", seed)
            measuring.round_trip(self, seed)
        measuring.untrained(self)
        measuring.beside(self)
        looks.curve(self)
        looks.left_out(self)
        looks.own_training_texts(self)
        self.write_meta()
        self.drop_leftovers()
        self.figures()
        self.card()

    def check_possible(self) -> None:
        """Refuse what the recipes of other tasks may have and this one cannot."""
        recipe = self.recipe
        if recipe.teacher.kind != "none" or recipe.evidence.measure_teacher:
            raise UserError("task nla: descriptions come with the texts, so there is no teacher to ask; 'scion nla describe' has them "
                            "written")
        if recipe.export.to or recipe.adapter.folder:
            raise UserError("task nla: two adapters that need the vector between them are no GGUF file and no single folder; leave out "
                            "[export] and adapter.folder")

    # -- vectors ------------------------------------------------------------------------------------------------------------

    @cached_property
    def layer(self) -> tuple[int, str]:
        """The block whose output is read, and why."""
        from scionwood.models.loading import folder_of
        from scionwood.tasks.nla.extract import default_layer

        count = files.read_json(folder_of(self.base) / "config.json")["num_hidden_layers"]
        if self.options.layer is None:
            return default_layer(count)
        if self.options.layer >= count:
            raise UserError(f"[task_options]: layer = {self.options.layer}: this base has the blocks 0 to {count - 1}")
        at = self.options.layer
        return at, f"layer {at}: the output of block {at} (of 0 to {count - 1}), as the recipe says"

    def extract(self) -> None:
        """The stage that reads every text's vector, chooses the scale and fixes mean and D on the training split."""
        from scionwood.tasks.nla.extract import drop_above, extract_to
        from scionwood.tasks.nla.scale import choose_scale
        from scionwood.tasks.nla.vectors import describe_norms

        layer, reason = self.layer

        def work():
            self.run.echo(reason)
            model, facts = self.load_base(self.measuring), {}
            drop_above(model, layer)
            for split in SPLITS:
                texts = self.task.split(split)
                found = extract_to(self.run.path("vectors", f"{split}.parquet"), model, self.renderer, [t.text for t in texts], layer,
                                   ids=[t.id for t in texts], positions=self.options.positions, base=self.recipe.base,
                                   base_hash=self.base_hash, echo=self.run.echo)
                if split == "train":
                    norms, spread = describe_norms(found), fve.fit_spread(found.values)
                    values = found.values
                    facts = {"layer": layer, "reason": reason, "width": values.shape[1], "positions": self.options.positions,
                             "norms": {k: norms.get(k) for k in ("mean", "median", "p75", "max")}, "outliers": len(norms["outliers"]),
                             "D": spread.strict, "D_loose": spread.loose}
            rule = self.options.chosen_scale()
            scale, why = training.swept_scale(self, values) if rule == "sweep" else choose_scale(values, rule)
            self.run.echo(why)
            return facts | {"scale": scale, "scale_reason": why}

        inputs = {"data": self.run.output_hash("prepare"), "base": self.base_hash, "layer": layer, "positions": self.options.positions,
                  "scale": self.options.chosen_scale(), "dtype": [self.recipe.train.dtype, self.recipe.evidence.dtype],
                  "sweep": self.recipe.train.model_dump(mode="json") if self.options.chosen_scale() == "sweep" else None}
        outputs = [f"vectors/{s}.parquet{side}" for s in SPLITS for side in ("", ".nla_meta.yaml")]
        self.run.stage("extract", inputs, outputs, work)

    def values(self, split: str) -> np.ndarray:
        """The raw vectors (n, d) of a split, in the order of its texts."""
        from scionwood.tasks.nla.vectors import read_vectors

        if split not in self._values:
            found = read_vectors(self.run.path("vectors", f"{split}.parquet"))
            wanted = [t.id for t in self.task.split(split)]
            if found.ids != wanted:
                raise UserError(f"{self.run.path('vectors')}: {split} holds vectors of other texts; run the recipe again")
            self._values[split] = found.values
        return self._values[split]

    @cached_property
    def _values(self) -> dict[str, np.ndarray]:
        return {}

    @property
    def scale(self) -> float:
        return self.run.facts("extract")["scale"]

    @cached_property
    def yardstick(self) -> Yardstick:
        return Yardstick.of(self.task.cases("train"), self.values("train"))

    # -- rows ---------------------------------------------------------------------------------------------------------------

    def write_rows(self, file: str, predicted: np.ndarray, told: Told = Told(), split: str = "test",
                   keep: Sequence[int] | None = None) -> None:
        """Write prediction rows for the cases of a split (or those at the places ``keep``, which ``predicted`` then holds alone)."""
        cases, true = self.task.cases(split), self.values(split)
        rows = answers(self.yardstick, cases, true, predicted, told) if keep is None else answers(
            self.yardstick, [cases[i] for i in keep], true[list(keep)], predicted, told)
        files.write_jsonl(self.run.path(*file.split("/")), (p.row() for p in rows))

    def fields(self, split: str, name: str) -> list[str]:
        """One field ("description", "summary") of every text of a split."""
        return [getattr(t, name) for t in self.task.split(split)]

    # -- figures, card ------------------------------------------------------------------------------------------------------

    def system_files(self) -> list[tuple]:
        """(predictions file, name, kind, seed) of every system."""
        out = [(f"predictions/{PAIR}-{s}.jsonl", PAIR, PAIR_KIND, s) for s in self.recipe.train.seeds]
        return out + [(f"predictions/{s.name}.jsonl", s.name, s.kind, None) for s in measuring.systems(self)]

    def beside_files(self) -> dict[str, str]:
        """{name: file} of the rows of further looks."""
        return {name: f"beside/{name}.jsonl" for name in looks.names(self)}

    def recompute(self) -> dict:
        """The figures from the rows, with nothing taken from figures.json."""
        from scionwood.evidence.figures import compute
        from scionwood.evidence.rows import read_system
        from scionwood.tasks.nla import further, metrics
        from scionwood.tasks.nla.texts import CATEGORIES

        splits = {s: self.task.cases(s) for s in SPLITS}
        systems = self.systems()
        beside = {name: read_system(self.run.folder, file, name, "beside") for name, file in self.beside_files().items()}
        here = {c.reference["category"] for c in splits["test"]}
        figures = compute(self.task, splits["test"], systems)
        figures["nla"] = further.compute(self.task, systems, beside, splits, self.options.curve, lambda share: len(self.share(share)),
                                         [c for c in CATEGORIES if c in here and c != metrics.WEB] + [metrics.WEB] * (metrics.WEB in here))
        figures["files"] |= {s.file: s.sha256 for s in beside.values()}
        return figures

    def figures(self) -> None:
        from scionwood.evidence.rows import read_system

        rows = {s.file: s.sha256 for s in self.systems()}
        rows |= {file: read_system(self.run.folder, file, name, "beside").sha256 for name, file in self.beside_files().items()}
        inputs = {"predictions": rows, "data": self.run.output_hash("prepare"), "code": self.task_code()}
        self.run.stage("figures", inputs, ["figures.json"], lambda: files.write_json(self.run.path("figures.json"), self.recompute()))

    def share(self, share: float) -> list[int]:
        """Places of a share of the training texts. A smaller share is part of every larger one."""
        import random

        count = len(self.task.split("train"))
        order = list(range(count))
        random.Random(0).shuffle(order)
        return sorted(order[: max(1, round(share * count))])

    def drop_leftovers(self) -> None:
        """Remove rows of systems and looks that the recipe no longer names."""
        super().drop_leftovers()
        named = set(self.beside_files().values())
        for path in sorted(self.run.path("beside").glob("*.jsonl")):
            if f"beside/{path.name}" not in named:
                remove(path)

    def render(self, figures: dict) -> dict[str, str]:
        from scionwood.evidence.card import render_card
        from scionwood.evidence.report import render_report
        from scionwood.tasks.nla import drawings, told

        context = self.context()
        return {"README.md": render_card(figures, context, told.sections),
                "report.html": render_report(figures, context, told.sections, drawings)}

    def context(self) -> dict:
        from scionwood.tasks.nla.told import samples

        seeds = self.recipe.train.seeds
        names = [f"{role}-{s}" for s in seeds for role in ("ar", "av")]
        return {
            "made": "Two LoRA adapters, one that puts a vector into words and one that makes a vector of words,",
            "recipe": self.recipe.model_dump(mode="json"),
            "task": {"name": self.task.name, "summary": self.task.summary, "primary": self.task.primary,
                     "metrics": {m.name: m.about for m in self.task.metrics()}},
            "rivals": {s.name: s.about for s in measuring.systems(self)} | {
                PAIR: "the verbalizer reads the vector and writes; the reconstructor reads that"},
            "prepare": self.run.facts("prepare"),
            "vectors": self.run.facts("extract"),
            "training": {n: self.run.facts(f"train-{n}") for n in names},
            "reinforced": {f"rl-av-{s}": self.run.facts(f"reinforce-av-{s}") for s in seeds} if self.options.reinforce.on else {},
            "settings": {role: self.options.training(self.recipe.train, role).model_dump(mode="json", exclude={"seeds"})
                         for role in ("av", "ar")},
            "reads": list(self.options.read()),
            "heard": {f"av-{s}": self.run.facts(f"said-{s}") for s in seeds} if self.options.ar_hears else {},
            "logs": {n: files.read_jsonl(self.run.path("adapter", n, "log.jsonl")) for n in names},
            "samples": samples(files.read_jsonl(self.run.path("predictions", f"{PAIR}-{seeds[0]}.jsonl")),
                               self.task.cases("test")),
        }

    def write_meta(self) -> None:
        """nla_meta.yaml in the run folder: what tools that read the adapters have to know."""
        from scionwood.tasks.nla import meta

        meta.write_meta(self.run.folder, training.sidecar(self, "av"))
