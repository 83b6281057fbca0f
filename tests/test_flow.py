"""A whole run: stages, skipping, resuming after kill -9 at any point, verifying."""

import os

import pytest

from scionwood import files
from scionwood.errors import UserError
from scionwood.evidence.verify import verify
from scionwood.teaching import stages
from killing import run_killed_after
from tiny_flow import make_base, make_flow, recipe


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def done(base, tmp_path_factory):
    """One undisturbed run that the tests look at; tests that change something copy it."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    with pytest.MonkeyPatch.context() as m:
        make_flow(recipe(base), folder, m).all()
    return folder


def copy(done, tmp_path):
    import shutil

    return shutil.copytree(done, tmp_path / "copy")


def result(folder) -> dict[str, str]:
    """The hashes of all that a run proves: weights, predictions without latencies, refusals."""
    rows = {p.stem: [{k: v for k, v in r.items() if k != "latency_ms"} for r in files.read_jsonl(p)] for p in sorted((folder / "predictions").iterdir())}
    weights = {p.parent.parent.name: files.file_hash(p) for p in sorted(folder.glob("adapter/*/best/adapter_model.safetensors"))}
    return {"rows": rows, "weights": weights, "taught": files.file_hash(folder / "data" / "taught.jsonl")}


def test_a_run_has_all_its_parts(done):
    for part in ("recipe.lock.toml", "figures.json", "README.md", "report.html", "predictions/base.jsonl", "adapter/adapter-0/best",
                 "predictions/shuffled-labels.jsonl", "adapter/adapter-0/log.jsonl"):
        assert (done / part).exists(), part
    assert len(files.read_jsonl(done / "predictions" / "adapter-0.jsonl")) == 24


def test_a_second_run_skips_every_stage(done, base, tmp_path, monkeypatch):
    folder, lines = copy(done, tmp_path), []
    before = files.file_hash(folder / "stages")
    make_flow(recipe(base), folder, monkeypatch, lines).all()
    stages = [line for line in lines if ": " in line]
    assert stages and all("skipped" in line for line in stages), lines
    assert files.file_hash(folder / "stages") == before


def test_a_changed_setting_redoes_what_depends_on_it_and_no_more(done, base, tmp_path, monkeypatch):
    folder, lines = copy(done, tmp_path), []
    make_flow(recipe(base, lr=0.02), folder, monkeypatch, lines).all()
    said = "\n".join(lines)
    for stage in ("prepare", "rivals", "base", "teach"):
        assert f"{stage}: skipped" in said
    assert "train-adapter-0: done again (its inputs have changed)" in said and "figures: done again" in said
    assert result(folder)["weights"] != result(done)["weights"]


def test_a_changed_output_is_made_again(done, base, tmp_path, monkeypatch):
    folder, lines = copy(done, tmp_path), []
    with open(folder / "predictions" / "base.jsonl", "a") as f:
        f.write("\n")
    make_flow(recipe(base), folder, monkeypatch, lines).all()
    assert any(line == "base: done again (predictions/base.jsonl was changed)" for line in lines), lines
    assert result(folder) == result(done)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("first, more", [(1, 1), (4, 3)])
def test_killed_again_and_again_it_ends_in_the_same_result(done, base, tmp_path, first, more):
    """Every atomic write of a run (stage records, predictions, each step's checkpoint) is a point where it may be killed.

    The second life lasts a little longer than the first, and so on; so kills fall on every stage and between training steps.
    """
    folder, writes, kills = tmp_path / "killed", first, 0
    while not run_killed_after(writes, lambda: make_flow(recipe(base), folder).all()):
        writes, kills = writes + more, kills + 1
        assert kills < 60
    assert kills >= 3
    assert result(folder) == result(done)


def test_verify_passes_and_fails_on_any_edit(done, base, tmp_path, monkeypatch):
    folder = copy(done, tmp_path)
    flow = make_flow(recipe(base), folder, monkeypatch)

    def differences():
        return list(verify(folder, flow.task, flow.recompute, flow.render))

    assert differences() == []
    for name in ("README.md", "report.html", "figures.json", "predictions/adapter-0.jsonl"):
        path = folder / name
        good = path.read_text()
        assert "0." in good
        edited = good.replace('"status": "ok"', '"status": "error"', 1) if name.startswith("pred") else good.replace("0.", "1.", 1)
        path.write_text(edited)
        assert differences(), name
        path.write_text(good)
    assert differences() == []


def test_two_processes_do_not_share_a_run(done, tmp_path):
    from scionwood.run import Run

    with Run(tmp_path / "r").lock():
        with pytest.raises(UserError, match="another process is working in this run"):
            with Run(tmp_path / "r").lock():
                pass


def test_a_loss_that_is_not_finite_names_its_case(base, tmp_path, monkeypatch):
    import torch

    from scionwood.training import loop

    real = loop.row_loss

    def poisoned(model, plan, chosen, *args, **kw):
        value = real(model, plan, chosen, *args, **kw)
        return value * float("nan") if any(plan.examples.items[i].id == "train-5" for i in chosen) else value

    monkeypatch.setattr(loop, "row_loss", poisoned)
    with pytest.raises(UserError, match="the loss became nan at step .* in case train-5"):
        make_flow(recipe(base), tmp_path / "r", monkeypatch).all()
    assert torch.is_grad_enabled()


def test_a_leak_stops_the_run(base, tmp_path, monkeypatch):
    from tiny_flow import TinyTask

    real = TinyTask.cases
    monkeypatch.setattr(TinyTask, "cases", lambda self, split: real(self, split) + (real(self, "train")[:1] if split == "test" else []))
    with pytest.raises(UserError, match="source 'train-source-0'"):
        make_flow(recipe(base), tmp_path / "r", monkeypatch).all()


# -- what a rerun must notice, and what it must leave alone ----------------------------------------------------------------


def said(flow_lines) -> dict[str, str]:
    return {line.split(": ")[0]: line.split(": ", 1)[1] for line in flow_lines if ": " in line and not line.startswith("  ")}


def test_nothing_is_left_behind(done):
    assert not (done / ".cache").exists()
    assert sorted(p.name for p in done.rglob("*") if p.name.endswith((".part", ".started"))) == []
    assert sorted(p.name for p in (done / "adapter" / "adapter-0").iterdir()) == ["best", "log.jsonl"]


def test_an_edited_prompt_puts_every_answer_out_of_date(done, base, tmp_path, monkeypatch):
    from tiny_flow import TinyTask

    folder, lines = copy(done, tmp_path), []
    monkeypatch.setattr(TinyTask, "messages", lambda self, case: [{"role": "user", "content": "Which colour? " + case.input["text"]}])
    make_flow(recipe(base), folder, monkeypatch, lines).all()
    for stage in ("rivals", "base", "train-adapter-0", "prove-adapter-0", "train-shuffled-labels"):
        assert f"{stage}: done again (its inputs have changed)" in lines, stage


def test_another_number_format_is_asked_of_the_base_too(done, base, tmp_path, monkeypatch):
    folder, lines = copy(done, tmp_path), []
    make_flow(recipe(base, dtype="bf16"), folder, monkeypatch, lines).all()
    assert "base: done again (its inputs have changed)" in lines


def test_how_a_teacher_is_asked_does_not_train_again(done, base, tmp_path, monkeypatch):
    folder, lines, other = copy(done, tmp_path), [], recipe(base)
    other = other.model_copy(update={"teacher": other.teacher.model_copy(update={"temperature": 2.0})})
    make_flow(other, folder, monkeypatch, lines).all()
    assert said(lines)["train-adapter-0"].startswith("skipped")


def test_a_seed_less_leaves_a_run_that_verifies(done, base, tmp_path, monkeypatch):
    folder, lines = copy(done, tmp_path), []
    make_flow(recipe(base, seeds=[0, 1]), folder, monkeypatch, lines).all()
    assert (folder / "predictions" / "adapter-1.jsonl").exists()
    flow = make_flow(recipe(base), folder, monkeypatch, lines)
    flow.all()
    assert "predictions/adapter-1.jsonl: removed (the recipe no longer names this system)" in lines
    assert list(verify(folder, flow.task, flow.recompute, flow.render)) == []


# -- tasks of other kinds --------------------------------------------------------------------------------------------------


def test_a_gate_that_answers_everything_is_an_error(base, tmp_path, monkeypatch):
    from tiny_flow import TinyTask

    monkeypatch.setattr(TinyTask, "gate", lambda self, case: case.reference)
    with pytest.raises(UserError, match="its gate answers every training case"):
        make_flow(recipe(base), tmp_path / "r", monkeypatch).all()


@pytest.mark.parametrize("kind", ["free text", "JSON", "mixed"])
def test_a_whole_run_of_answers_that_are_not_choices(kind, base, tmp_path, monkeypatch):
    from scionwood.task import Choices, JsonSchema
    from tiny_flow import COLOURS, TinyTask

    rules = {"free text": lambda case: None, "JSON": lambda case: JsonSchema({"enum": list(COLOURS)}),
             "mixed": lambda case: JsonSchema({"enum": list(COLOURS)}) if case.id == "test-59" else Choices(COLOURS)}  # the very last case
    monkeypatch.setattr(TinyTask, "constraint", lambda self, case: rules[kind](case))
    monkeypatch.setattr(TinyTask, "parse", lambda self, case, text: text.strip('"'))
    monkeypatch.setattr("scionwood.systems.json_decoding.MAX_NEW_TOKENS", 8)
    flow = make_flow(recipe(base, epochs=1), tmp_path / "r", monkeypatch)
    flow.all()
    assert list(verify(tmp_path / "r", flow.task, flow.recompute, flow.render)) == []


def with_teacher(base, teacher, **keys):
    from scionwood.recipe import Recipe

    return Recipe.model_validate(recipe(base, epochs=1).model_dump() | {"teacher": {"kind": "local", "model": str(teacher), **keys}})


@pytest.fixture(scope="module")
def other_tokenizer(tmp_path_factory):
    """A base whose tokenizer has the same words under other numbers, and another turn end."""
    import json

    folder = make_base(tmp_path_factory.mktemp("teacher"))
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text().replace("<|im_end|>", "<|endoftext|>"))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    if "chat_template" in config:
        config["chat_template"] = config["chat_template"].replace("<|im_end|>", "<|endoftext|>")
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def test_a_local_teacher_is_decoded_with_its_own_turn_end(base, other_tokenizer, tmp_path, monkeypatch):
    from tiny_flow import TinyTask

    monkeypatch.setattr(TinyTask, "constraint", lambda self, case: None)
    flow = make_flow(with_teacher(base, other_tokenizer), tmp_path / "r", monkeypatch)
    system, tokenizer = stages.local_teacher(flow), flow.renderer.tokenizer
    assert system.turn_end == tokenizer.convert_tokens_to_ids("<|endoftext|>")
    ours = flow.system("dev", "adapter", system.model)
    assert ours.turn_end == tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_a_local_teacher_beside_the_recipe_is_found_and_its_weights_count(base, tmp_path, monkeypatch):
    import shutil

    shutil.copytree(base, tmp_path / "home" / "teacher")
    flow = make_flow(with_teacher(base, "teacher"), tmp_path / "r", monkeypatch)
    flow.home = tmp_path / "home"
    first = flow.teacher_hash
    assert stages.local_teacher(flow).name == "teacher"
    with open(tmp_path / "home" / "teacher" / "config.json", "a") as f:
        f.write("\n")
    del flow.teacher_hash
    assert flow.teacher_hash != first


def test_the_control_learns_nothing_from_a_teachers_logits(base, tmp_path, monkeypatch):
    from scionwood.training import loop

    told = {}
    real = loop.train

    def train(model, plan, *args, **kw):
        told[plan.folder.name] = plan.teacher is not None
        return real(model, plan, *args, **kw)

    monkeypatch.setattr(loop, "train", train)
    make_flow(with_teacher(base, base, logits=True), tmp_path / "r", monkeypatch).all()
    assert told == {"adapter-0": True, "shuffled-labels": False}


def test_no_memory_while_training_is_one_line(base, tmp_path, monkeypatch):
    import torch

    from scionwood.training import loop

    def full(*args, **kw):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loop, "row_loss", full)
    with pytest.raises(UserError, match="does not fit the memory of cpu; lower train.micro_tokens"):
        make_flow(recipe(base), tmp_path / "r", monkeypatch).all()
