"""A whole run: stages, skipping, resuming after kill -9 at any point, verifying."""

import os
import signal

import pytest

from scionwood import files
from scionwood.errors import UserError
from scionwood.evidence.verify import verify
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


def run_killed_after(replaces: int, base, folder) -> bool:
    """Run in a forked child that kills itself with SIGKILL after so many atomic writes; returns whether it finished."""
    child = os.fork()
    if child == 0:
        try:
            real, count = os.replace, [0]

            def replace(*args):
                real(*args)
                count[0] += 1
                if count[0] == replaces:
                    os.kill(os.getpid(), signal.SIGKILL)

            os.replace = replace
            make_flow(recipe(base), folder).all()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the child failed by itself"
    return os.WIFEXITED(status)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("first, more", [(1, 1), (4, 3)])
def test_killed_again_and_again_it_ends_in_the_same_result(done, base, tmp_path, first, more):
    """Every atomic write of a run (stage records, predictions, each step's checkpoint) is a point where it may be killed.

    The second life lasts a little longer than the first, and so on; so kills fall on every stage and between training steps.
    """
    folder, writes, kills = tmp_path / "killed", first, 0
    while not run_killed_after(writes, base, folder):
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
