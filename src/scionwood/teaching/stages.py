"""The stage ``teach``, and the teacher measured as one more system: what a recipe's teacher does in a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Sequence

from scionwood import files
from scionwood.errors import UserError
from scionwood.task import Case

if TYPE_CHECKING:
    from scionwood.flow import Flow


def teach(flow: Flow) -> None:
    """The training answers: the references, or a teacher's answers behind the gold filter."""
    from scionwood.teaching.gold import keep

    teacher = flow.recipe.teacher

    def work():
        cases = [c for c in flow.task.cases("train") if flow.task.gate(c) is None]
        if not cases:
            raise UserError(f"task '{flow.task.name}': its gate answers every training case, so there is nothing to learn; "
                        "narrow its gate()")
        if teacher.kind == "none" or teacher.logits:
            accepted = [{"case": c.id, "job": c.job, "text": flow.task.target(c)} for c in cases]
            files.write_jsonl(flow.run.path("data", "taught.jsonl"), accepted)
            files.write_jsonl(flow.run.path("data", "refused.jsonl"), [])
            return {"teacher": "the references", "accepted": len(accepted), "refused": 0}
        kept = keep(flow.task, cases, ask_teacher(flow, cases))
        files.write_jsonl(flow.run.path("data", "taught.jsonl"), kept.accepted)
        files.write_jsonl(flow.run.path("data", "refused.jsonl"), kept.refused)
        if not kept.accepted:
            reason = kept.refused[0]["reason"] if kept.refused else "it was asked nothing"
            raise UserError(f"teacher: not one answer agreed with the references (the first: {reason})")
        return {"teacher": teacher.kind, "accepted": len(kept.accepted), "refused": len(kept.refused),
                "agreement": kept.agreement, "counts": kept.counts}

    inputs = {"data": flow.run.output_hash("prepare"), "asked": flow.asked, "teacher": teacher.model_dump(mode="json"),
              "weights": flow.teacher_hash}
    if teacher.kind == "recorded":
        inputs["recorded"] = files.file_hash(recorded_path(flow))
    flow.run.stage("teach", inputs, ["data/taught.jsonl", "data/refused.jsonl"], work)


def ask_teacher(flow: Flow, cases: Sequence[Case]) -> dict[str, dict]:
    """Rows by case id from whatever the recipe names as teacher."""
    teacher = flow.recipe.teacher
    if teacher.kind == "recorded":
        from scionwood.teaching.recorded import recall_all

        return recall_all(recorded_path(flow), [c.id for c in cases])
    if teacher.kind == "endpoint":
        from scionwood.teaching.endpoint import ask_all, requests_for
        from scionwood.teaching.journal import Journal

        with Journal(flow.run.path("data", "teacher.jsonl")) as journal:
            return ask_all(teacher.endpoint, requests_for(flow.task, cases), journal)
    from scionwood.systems.base import evaluate

    answers = evaluate(local_teacher(flow), flow.task, cases)
    return {p.case: {"case": p.case, "text": p.text, "status": p.status, "reason": p.reason} for p in answers}


def recorded_path(flow: Flow) -> Path:
    """The journal of a recorded teacher."""
    path = flow.local(flow.recipe.teacher.path)
    if not path.is_file():
        raise UserError(f"[teacher] path = '{flow.recipe.teacher.path}': no such file ({path})")
    return path


def local_teacher(flow: Flow):
    """A local teacher as a system, with its own tokenizer and template."""
    from scionwood.models.loading import load_model, load_tokenizer
    from scionwood.models.prompts import Renderer

    name = flow.model_name(flow.recipe.teacher.model)
    return flow.system("teacher", "teacher", load_model(name, *flow.machine), Renderer(load_tokenizer(name)))


def logit_teacher(flow: Flow):
    """A local teacher as a model whose logits are distilled; it must share the base's tokenizer."""
    from scionwood.models.loading import load_model, load_tokenizer

    name = flow.model_name(flow.recipe.teacher.model)
    theirs, ours = load_tokenizer(name).get_vocab(), flow.renderer.tokenizer.get_vocab()
    if theirs != ours:
        raise UserError(f"teacher.logits: base '{flow.recipe.base}' and teacher '{name}' have different tokenizers; set logits = false")
    device, dtype = flow.machine
    return load_model(name, device, dtype)


def measure_teacher(flow: Flow) -> None:
    """The teacher on the test cases, as one more system, where the recipe asks for it."""
    teacher = flow.recipe.teacher
    if teacher.kind == "recorded" or teacher.kind == "none":
        raise UserError(f"evidence.measure_teacher: a teacher of kind '{teacher.kind}' cannot answer test cases; set it to false")

    def work():
        if teacher.kind == "local":
            return flow.write_predictions("teacher", local_teacher(flow))
        from scionwood.systems.endpoint import EndpointSystem
        from scionwood.teaching.journal import Journal

        with Journal(flow.run.path("data", "teacher-test.jsonl")) as journal:
            return flow.write_predictions("teacher", EndpointSystem(flow.task, teacher.endpoint, journal, name="teacher"))

    inputs = {"data": flow.run.output_hash("prepare"), "asked": flow.asked, "teacher": teacher.model_dump(mode="json"),
              "weights": flow.teacher_hash}
    flow.run.stage("teacher", inputs, ["predictions/teacher.jsonl"], work)
