"""The stages of a lantern run: those of every run, and the four controls beside each adapter."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from scionwood import files
from scionwood.errors import UserError
from scionwood.flow import Flow
from scionwood.tasks.lantern.answering import length_of
from scionwood.tasks.lantern.judging import open_marker
from scionwood.tasks.lantern.matching import match
from scionwood.tasks.lantern.sampling import Draw
from scionwood.tasks.lantern.task import Lantern
from scionwood.tasks.lantern.writing import STRUCTURE, Writer

PLAIN, PROMPTED, MATCHED = "plain-prose", "prompt-only", "matched-temperature"
MATCH_ANSWERS = 8  # answers to each dev prompt that a temperature is judged by

ABOUT = {
    PLAIN: "a LoRA with the same settings, trained for as many steps on plain prose about the same subjects, of the same lengths",
    PROMPTED: "the untouched base with a system message that asks for the structure of the examples",
    MATCHED: "the untouched base at the temperature at which its tokens are drawn with the adapter's entropy",
}


class LanternFlow(Flow):
    """Answers are drawn k at a time and at one length. Proving an adapter also trains and measures its plain twin, and measures the
    untouched base at the adapter's entropy."""

    task: Lantern

    def __init__(self, *args, **kw):
        super().__init__(*args, **kw)
        e = self.recipe.evidence
        if not e.temperature:
            raise UserError("lantern: evidence.temperature = 0 would draw one answer k times; set it above 0 (1.0: the model's own odds)")
        if e.shuffled_control:
            raise UserError("lantern: has four controls of its own, and an answer to another prompt is as diverse; "
                            "set evidence.shuffled_control = false")
        if self.recipe.teacher.kind != "none":
            raise UserError("lantern: trains on the examples themselves; remove [teacher]")

    # -- systems ----------------------------------------------------------------------------------------------------------

    @cached_property
    def marker(self):
        """Who says how good an answer is; None: coherence."""
        return open_marker(self.task.options.quality, self.task.options.words, self.run.path("data", "marks.jsonl"), self.model_name)

    @cached_property
    def judge(self):
        """Who says which answers mean the same; None: shared words."""
        if not self.task.options.same:
            return None
        from scionwood.tasks.lantern.measures.equivalence import Judge

        return Judge(self.model_name(self.task.options.same), device=self.recipe.train.device)

    def system(self, name: str, kind: str, model, renderer=None, dtype=None, temperature: float | None = None,
               structure: bool = False) -> Writer:
        """A model as a writer, at the recipe's temperature unless another is given."""
        o, e = self.task.options, self.recipe.evidence
        draw = Draw(e.temperature if temperature is None else temperature, o.top_p, o.min_p)
        return Writer(name, kind, model, renderer or self.renderer, self.task.messages, length_of(o.words), draw, o.answers,
                      self.autocast(dtype), STRUCTURE if structure else "", self.marker, self.judge, self.told(name))

    def told(self, name: str):
        """Says every ten seconds how many answers there are."""
        import time

        last = [time.monotonic()]

        def progress(done: int, total: int) -> None:
            if time.monotonic() - last[0] > 10 and done < total:
                last[0] = time.monotonic()
                self.run.echo(f"  {name}: {done} of {total} answers")

        return progress

    @property
    def decoding(self) -> str:
        """All that decides what is drawn and how it is marked, for the hashes of the stages."""
        o = self.task.options
        drawn = [o.answers, o.words, o.top_p, o.min_p, self.recipe.evidence.temperature, o.same, o.quality.model_dump(mode="json")]
        return files.text_hash([drawn, {"prose": files.file_hash(f) for f in self.task.data_files()[-1:]}])

    # -- stages -----------------------------------------------------------------------------------------------------------

    def dev_figure(self) -> None:
        """No figure chooses the adapter: the last that the watch found well is kept, as the published rule has it."""
        return None

    def training_rows(self, name: str) -> list[tuple[str, list[dict], str]]:
        """The examples; for the plain control their twins, in the same order."""
        rows = super().training_rows(name)
        if not name.startswith(PLAIN):
            return rows
        twins = {c.id: c.reference["twin"] for c in self.task.cases("train")}
        return [(case, messages, twins[case]) for case, messages, _ in rows]

    def baseline(self) -> None:
        """The untouched base, plain and asked for the structure."""
        super().baseline()

        def work():
            model = self.load_base(self.measuring)
            return self.write_predictions(PROMPTED, self.system(PROMPTED, "rival", model, dtype=self.measuring, structure=True))

        self.run.stage(PROMPTED, self.inputs(STRUCTURE), [f"predictions/{PROMPTED}.jsonl"], work)

    def inputs(self, more: Any) -> dict[str, Any]:
        """What every measurement of the base depends on, and ``more``."""
        return {"data": self.run.output_hash("prepare"), "asked": self.asked, "base": self.base_hash, "evidence": self.decoding,
                "dtype": [self.recipe.train.dtype, self.recipe.evidence.dtype], "more": more}

    def prove(self, name: str, system_name: str, kind: str, seed: int) -> None:
        """Measure an adapter; one that is to be proved is followed by its controls."""
        super().prove(name, system_name, kind, seed)
        if kind == "adapter":
            plain = f"{PLAIN}-{seed}"
            if not self.recipe.adapter.folder:
                self.train(plain, seed)
                super().prove(plain, PLAIN, "rival", seed)
            self.match(name, seed)

    def match(self, name: str, seed: int) -> None:
        """Find the temperature on the dev prompts, then measure the base at it."""
        out, facts = f"{MATCHED}-{seed}", self.run.path("data", f"temperature-{seed}.json")

        def work():
            from scionwood.models.loading import load_adapter

            dev, dtype = self.task.cases("dev"), self.measuring
            adapter = self.system(name, "adapter", load_adapter(self.load_base(dtype), self.run.path("adapter", name, "best")), dtype=dtype)
            wanted = adapter.drawn_entropy(dev, MATCH_ANSWERS)
            del adapter
            base = self.load_base(dtype)

            def at(temperature: float) -> Writer:
                return self.system(MATCHED, "rival", base, dtype=dtype, temperature=temperature)

            found = match(lambda t: at(t).drawn_entropy(dev, MATCH_ANSWERS), wanted, self.run.echo)
            files.write_json(facts, found | {"prompts": len(dev), "answers": MATCH_ANSWERS})
            return self.write_predictions(out, at(found["temperature"])) | {"seed": seed} | files.read_json(facts)

        written = [f"predictions/{out}.jsonl", f"data/temperature-{seed}.json"]
        self.run.stage(out, self.inputs(self.run.output_hash(f"train-{name}")), written, work)

    # -- figures, card ----------------------------------------------------------------------------------------------------

    def task_code(self) -> str:
        """A hash of the task's source, the measures among it."""
        from scionwood.tasks.lantern import measures

        return files.text_hash([super().task_code(), [files.file_hash(p) for p in sorted(Path(measures.__file__).parent.glob("*.py"))]])

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.recipe.train.seeds

    def system_files(self) -> list[tuple]:
        out = super().system_files()
        out.append((f"predictions/{PROMPTED}.jsonl", PROMPTED, "rival", None))
        if not self.recipe.adapter.folder:
            out += [(f"predictions/{PLAIN}-{s}.jsonl", PLAIN, "rival", s) for s in self.seeds]
        return out + [(f"predictions/{MATCHED}-{s}.jsonl", MATCHED, "rival", s) for s in self.seeds]

    def recompute(self) -> dict:
        from scionwood.tasks.lantern.every_pair import every_pair

        return super().recompute() | {"pairs": every_pair(self.task, self.task.cases("test"), self.systems())}

    def render(self, figures: dict) -> dict[str, str]:
        from scionwood.evidence.card import render_card
        from scionwood.evidence.report import render_report
        from scionwood.tasks.lantern import plots, telling

        context = self.context()
        return {"README.md": render_card(figures, context, telling.sections),
                "report.html": render_report(figures, context, telling.sections, plots)}

    def context(self) -> dict:
        context = super().context()
        matched = {s: self.run.facts(f"{MATCHED}-{s}") for s in self.seeds}
        plain = [] if self.recipe.adapter.folder else [f"{PLAIN}-{s}" for s in self.seeds]
        context["rivals"] |= {n: about for n, about in ABOUT.items() if n != PLAIN or plain}
        context["training"] |= {n: self.run.facts(f"train-{n}") for n in plain}
        context["logs"] |= {n: files.read_jsonl(self.run.path("adapter", n, "log.jsonl")) for n in plain}
        return context | {"matched": matched, "options": self.task.options.model_dump(mode="json"), "samples": self.samples()}

    def samples(self) -> list[dict[str, Any]]:
        """The first prompt of each kind, with the first answer of each system."""
        firsts = {c.slices: c for c in reversed(self.task.cases("test"))}
        chosen = [c for c in self.task.cases("test") if firsts[c.slices] is c]
        texts = {(s.name, s.seed): {p["case"]: p for p in s.predictions} for s in self.systems() if s.seed in (None, self.seeds[0])}

        def first(row: dict) -> str:
            return row["answer"]["texts"][0] if row.get("answer") else ""

        return [{"case": c.id, "kind": ", ".join(c.slices), "prompt": c.input["prompt"],
                 "answers": {name: first(of[c.id]) for (name, _), of in texts.items()}} for c in chosen]

