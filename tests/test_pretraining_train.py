"""The training loop and the whole run: learning, resuming after kill -9, going on from a base, refusing what does not fit."""

import os
import shutil

import pytest
from hypothesis import given, strategies as st

from killing import run_killed_after
from scionwood import files
from scionwood.errors import UserError
from scionwood.pretraining import measure, run, train
from scionwood.pretraining.ngram import NgramModel
from scionwood.pretraining.settings import Pretraining
from scionwood.settings import check
from pretraining_tiny import make_corpus, recipe


class Quiet(run.Report):
    """A report that keeps what it is told."""

    def __init__(self):
        self.lines = []
        super().__init__(self.lines.append)
        self.live = False


def work(corpus, out, base=None, **changes):
    report = Quiet()
    facts = run.pretrain(recipe(**changes), corpus, out, base, report, "cpu")
    return facts, report.lines


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """A forked child cannot use the threads of its parent's OpenMP; with one thread it needs none."""
    import torch

    from scionwood.models import machine

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as m:
        m.setattr(machine, "limit_threads", lambda: "threads: 1 (a test)")
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def done(corpus, tmp_path_factory):
    """One undisturbed run; tests that change it copy it."""
    out = tmp_path_factory.mktemp("runs") / "base"
    facts, lines = work(corpus, out)
    return out, facts, lines


def weights(out) -> str:
    return files.file_hash(out / "model" / "model.safetensors")


def losses(out) -> list[float]:
    return [row["loss"] for row in files.read_jsonl(out / "log.jsonl")]


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 50))
def test_the_rate_warms_up_stays_and_decays_to_zero(steps, decay, warmup):
    decay = min(decay, steps)
    rates = [train.rate(i, steps, decay, warmup) for i in range(steps)]
    assert all(0 < r <= 1 for r in rates) and rates[-1] <= 1 / decay
    peak = rates.index(max(rates))
    assert all(a <= b for a, b in zip(rates[:peak], rates[1:])) and all(a >= b for a, b in zip(rates[peak:], rates[peak + 1 :]))
    assert all(r == 1 for r in rates[max(warmup - 1, 0) : steps - decay + 1])
    assert warmup == 0 or rates[0] <= max(1 / warmup, 1 / decay)


def test_a_run_has_all_its_parts(done):
    out, facts, lines = done
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "base.json", "README.md"):
        assert (out / "model" / name).exists(), name
    assert not list(out.rglob("*.part"))
    assert facts["tokens"] == sum(s["tokens"] for s in facts["sources"].values()) == 6 * 256
    assert facts == files.read_json(out / "model" / "base.json")
    assert "dtype: fp32 (asked for)" in lines and facts["dtype"] == "fp32"
    assert len(losses(out)) == 6 and facts["last_loss"] == pytest.approx(sum(losses(out)) / 6, abs=1e-3)
    assert facts["bits_per_byte"]["all"]["bytes"] > 0


def test_the_loss_falls(corpus, tmp_path):
    work(corpus, tmp_path / "r", schedule={"tokens": 40 * 256})
    got = losses(tmp_path / "r")
    assert got[0] == pytest.approx(6.24, abs=0.2)  # ln 512
    assert sum(got[-5:]) / 5 < got[0] - 2


def test_a_finished_run_is_only_measured_again(done, corpus, tmp_path):
    out, facts, _ = done
    copy = shutil.copytree(out, tmp_path / "copy")
    again, lines = work(corpus, copy, name="renamed", licence="mit")
    assert again == facts | {"name": "renamed", "licence": "mit"}
    assert "going on from step 6 of 6 (checkpoint of this folder)" in lines and weights(copy) == weights(out)
    assert files.file_hash(copy / "log.jsonl") == files.file_hash(out / "log.jsonl")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("first, more", [(1, 1), (2, 3)])
def test_killed_again_and_again_it_ends_in_the_same_base(done, corpus, tmp_path, first, more):
    """Kills fall between the files of the tokenizer, between streams, between steps, between the files of the finished base."""
    out, writes, kills = tmp_path / "killed", first, 0
    while not run_killed_after(writes, lambda: work(corpus, out)):
        writes, kills = writes + more, kills + 1
        assert kills < 40
        if (out / "log.jsonl").exists() and kills % 2:
            with open(out / "log.jsonl", "a") as f:
                f.write('{"step": 5, "loss": 9.9, "seconds": 1}\n{"step"')  # steps after the last checkpoint, and half a line
    assert kills >= 3
    assert weights(out) == weights(done[0]) and losses(out) == losses(done[0])
    assert not list(out.rglob("*.part"))
    told = files.read_json(out / "model" / "base.json")
    assert {k: v for k, v in told.items() if k != "minutes"} == {k: v for k, v in done[1].items() if k != "minutes"}


@pytest.mark.parametrize("at", ["tokenizer", "copy", "weights"])
def test_half_written_folders_are_made_anew(done, corpus, tmp_path, monkeypatch, at):
    """A kill inside of a library's own writing: the half stays in a folder aside and is never read."""
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    out, base = tmp_path / "r", done[0] / "model" if at == "copy" else None

    def half(self, folder, *args, **kw):
        os.makedirs(folder, exist_ok=True)
        for name in ("tokenizer.json", "config.json", "model.safetensors"):
            open(os.path.join(folder, name), "w").write('{"half')
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        if at == "copy":
            m.setattr(shutil, "copy", lambda a, b: half(None, os.path.dirname(b)))
        else:
            m.setattr(PreTrainedTokenizerFast if at == "tokenizer" else PreTrainedModel, "save_pretrained", half)
        with pytest.raises(KeyboardInterrupt):
            work(corpus, out, base)
    work(corpus, out, base)
    assert base or weights(out) == weights(done[0])
    assert not list(out.rglob("*.part"))


def test_from_a_base_its_weights_and_tokenizer_are_taken_over(done, corpus, tmp_path, monkeypatch):
    base, first = done[0] / "model", done[1]
    seen = {}

    def look(model, recipe, folder, report, **kw):
        seen.update({n: p.detach().clone() for n, p in model.named_parameters()})
        return real(model, recipe, folder, report, **kw)

    real = train.train
    monkeypatch.setattr(train, "train", look)
    facts, lines = work(corpus, tmp_path / "r", base, shape={"hidden": 64})
    from safetensors.torch import load_file

    assert all((seen[n] == t.float()).all() for n, t in load_file(base / "model.safetensors").items() if n in seen) and len(seen) > 10
    assert (tmp_path / "r" / "model" / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    assert facts["shape"] == first["shape"]  # what the model has, not what the recipe would give a new one
    assert losses(tmp_path / "r")[0] < losses(done[0])[0]
    assert facts["tokens_before"] == first["tokens"] and facts["from"]["name"] == "tiny"
    assert "continued from tiny" in (tmp_path / "r" / "model" / "README.md").read_text()


def test_a_chain_of_runs_adds_up(done, corpus, tmp_path):
    base = shutil.copytree(done[0] / "model", tmp_path / "base")
    files.write_json(base / "base.json", {"name": "second", "tokens": 1000, "minutes": 2.5, "tokens_before": 300, "minutes_before": 1.5,
                                          "from": {"name": "first", "tokens": 300, "minutes": 1.5, "from": None}})
    facts, _ = work(corpus, tmp_path / "r", base)
    assert (facts["tokens_before"], facts["minutes_before"]) == (1300, 4.0)
    assert (facts["from"]["name"], facts["from"]["tokens"], facts["from"]["from"]["name"]) == ("second", 1300, "first")
    assert f"{1300 + facts['tokens']:,} tokens and 4 minutes in all" in (tmp_path / "r" / "model" / "README.md").read_text()
    # what an earlier base does not say is not made up
    for told, expected in (({"tokens": 5, "tokens_before": 2, "minutes": 1.0}, (7, None)), ({"tokens": 5}, (5, None)), ({}, (0, None))):
        files.write_json(base / "base.json", told)
        got = run.earlier(base)
        assert (got["tokens_before"], got["minutes_before"]) == expected
    (base / "base.json").unlink()
    assert run.earlier(base)["from"] == {"name": "base", "tokens": None, "minutes": None, "from": None}
    assert run.earlier(None)["from"] is None


def test_another_recipe_in_the_same_folder_is_refused(done, corpus, tmp_path):
    out = shutil.copytree(done[0], tmp_path / "copy")
    before = files.file_hash(out)
    for changes, named in (({"mix": {"plain": 1}}, "mix"), ({"schedule": {"muon_lr": 0.02}}, "schedule.muon_lr"), ({"dtype": "bf16"}, "dtype"),
                           ({"schedule": {"seed": 1}}, "schedule.seed"), ({"tokenizer_bytes": 9}, "tokenizer_bytes")):
        with pytest.raises(UserError, match=f"holds a run of another recipe .{named} is not the same.; name another folder"):
            work(corpus, out, **changes)
    with pytest.raises(UserError, match="from is not the same"):
        work(corpus, out, done[0] / "model")
    with pytest.raises(UserError, match="6 steps are trained"):
        work(corpus, out, schedule={"tokens": 20 * 256})
    assert files.file_hash(out) == before


def test_the_length_can_change_until_the_decay_begins(corpus, tmp_path, monkeypatch):
    """The stable part of a longer run begins with that of a shorter one, so the weights are the same as from one go."""
    work(corpus, tmp_path / "whole", schedule={"tokens": 10 * 256})
    real = train.save_checkpoint

    def stop_at(n):
        def save(path, model, optimisers, progress):
            real(path, model, optimisers, progress)
            if progress["step"] == n:
                raise KeyboardInterrupt
        return save

    for n in (3, 5):
        monkeypatch.setattr(train, "save_checkpoint", stop_at(n))
        with pytest.raises(KeyboardInterrupt):
            work(corpus, tmp_path / f"r{n}", schedule={"tokens": 6 * 256})  # stable: 4 steps
    monkeypatch.setattr(train, "save_checkpoint", real)
    work(corpus, tmp_path / "r3", schedule={"tokens": 10 * 256})
    assert weights(tmp_path / "r3") == weights(tmp_path / "whole")
    with pytest.raises(UserError, match=r"5 steps are trained.* fall from step 7 on \(before: 4\)"):
        work(corpus, tmp_path / "r5", schedule={"tokens": 10 * 256})


def test_answers_weigh_more_and_all_else_the_same():
    import torch

    think, end = 8, 9
    row = torch.tensor([[1, 9, 8, 2, 3, 9, 4, 8, 8, 5, 9, 9, 6], [2, 3, 9, 4, 5, 1, 1, 8, 2, 2, 2, 2, 2], [1] * 13])
    assert train.answer_weights(row, think, end, 5.0).tolist() == [
        [1, 1, 1, 5, 5, 5, 1, 1, 1, 5, 5, 1, 1], [1, 1, 1, 1, 1, 1, 1, 1, 5, 5, 5, 5, 5], [1] * 13]


def test_the_loss_does_not_depend_on_how_a_step_is_cut(done):
    """One step by hand: the weighted mean over all its tokens, in one pass or in many; the logged loss is the plain mean."""
    import contextlib

    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(done[0] / "model").float()
    rows = train.all_rows(recipe(), done[0])[1]
    weigh = lambda x: 1.0 + (x % 3 == 0) * 9.0  # noqa: E731
    x = torch.stack([torch.from_numpy(rows.row(i)) for i in range(4)])
    with torch.no_grad():
        each = -model(x).logits[:, :-1].log_softmax(-1).gather(2, x[:, 1:, None])[..., 0]
    weights = weigh(x)[:, 1:]
    for micro_tokens in (1, 128, 192, 10_000):
        passes = list(train.row_losses(model, rows, 0, 4, micro_tokens, weigh, contextlib.nullcontext))
        assert len(passes) == {1: 4, 128: 2, 192: 2, 10_000: 1}[micro_tokens]
        assert sum(p[0].item() for p in passes) == pytest.approx(((each * weights).sum() / weights.sum()).item(), rel=1e-5)
        assert sum(p[1].item() for p in passes) == pytest.approx(each.mean().item(), rel=1e-5)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_loss_or_gradient_that_is_not_finite_stops_the_run_before_it_is_saved(corpus, tmp_path, monkeypatch, what):
    real, calls = train.row_losses, []

    def poisoned(model, *args):
        for loss, plain in real(model, *args):
            calls.append(1)
            if len(calls) >= 5 and what == "gradient":  # two passes a step: in the third
                loss = loss + (model.model.norm.weight.sum() * 0).sqrt()
            yield loss, plain * float("nan") if len(calls) >= 5 and what == "loss" else plain

    monkeypatch.setattr(train, "row_losses", poisoned)
    with pytest.raises(UserError, match="at step 2; lower schedule.muon_lr"):
        work(corpus, tmp_path / "r")
    assert train.steps_done(tmp_path / "r") == 2
    monkeypatch.setattr(train, "row_losses", real)
    work(corpus, tmp_path / "r")
    assert all(x == x for x in losses(tmp_path / "r"))


def test_the_number_format_follows_the_machine_and_stays(corpus, tmp_path, monkeypatch):
    from scionwood.models import machine

    monkeypatch.setattr(machine, "probe_bf16", lambda: 2.0)
    facts, lines = work(corpus, tmp_path / "r", dtype="auto")
    assert facts["dtype"] == "bf16" and "dtype: bf16 (a probe ran 2.0 times as fast as fp32)" in lines
    monkeypatch.setattr(machine, "probe_bf16", lambda: 0.3)
    facts, lines = work(corpus, tmp_path / "r", dtype="auto")
    assert facts["dtype"] == "bf16" and "dtype: bf16 (as this run began)" in lines
    facts, lines = work(corpus, tmp_path / "s", dtype="auto")
    assert facts["dtype"] == "fp32" and "dtype: fp32 (bf16 ran only 0.3 times as fast in a probe)" in lines
    assert weights(tmp_path / "r") != weights(tmp_path / "s")


def test_bases_that_do_not_fit_are_refused(done, corpus, tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        work(corpus, tmp_path / "r", tmp_path / "nowhere")
    base = shutil.copytree(done[0] / "model", tmp_path / "base")
    with pytest.raises(UserError, match="rows of 256 tokens are longer than its 128 positions"):
        work(corpus, tmp_path / "r1", base, schedule={"row": 256})
    (base / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="no chat template"):
        work(corpus, tmp_path / "r2", base)
    (base / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="no tokenizer.json there"):
        work(corpus, tmp_path / "r3", base)
    (base / "model.safetensors").unlink()
    with pytest.raises(UserError, match="no safetensors weights"):
        work(corpus, tmp_path / "r4", base)


def test_a_corpus_without_held_out_text_is_told_and_nothing_is_claimed(tmp_path):
    folder = tmp_path / "c"
    folder.mkdir()
    (folder / "plain.txt").write_text("the old dog sees a small red house\n" * 800)
    facts, lines = work(folder, tmp_path / "r", mix={"plain": 1}, decay_mix={"plain": 1})
    assert any(line.startswith("held-out: no document falls into it") for line in lines)
    assert facts["bits_per_byte"] == {"all": {"bytes": 0, "repeated": None, "base": None, "xz": None, "ngram": None}}
    assert "nothing was measured" in (tmp_path / "r" / "model" / "README.md").read_text()


@pytest.mark.parametrize("changes, message", [
    ({"schedule": {"step_tokens": 1000}}, "schedule.row = 256: it must divide step_tokens = 1000"),
    ({"schedule": {"decay_row": 16384}}, "schedule.decay_row = 16384: it must divide"),
    ({"shape": {"heads": 3}}, "shape.kv_heads = 2: it must divide heads = 3"),
    ({"mix": {}}, "mix = {}"),
    ({"mix": {"a": -1}}, "mix.a = -1"),
    ({"mxi": {"a": 1}}, "unknown key 'mxi'; did you mean 'mix'?"),
])
def test_bad_recipes_are_one_line(changes, message):
    with pytest.raises(UserError) as e:
        check({"mix": {"a": 1}, "decay_mix": {"a": 1}} | changes, Pretraining, "r.toml")
    assert message in str(e.value) and "\n" not in str(e.value)


def test_the_shipped_recipe_is_valid():
    from scionwood.cli.common import shipped_recipes
    from scionwood.settings import load

    assert load(shipped_recipes() / "base-cpu.toml", Pretraining).name


# -- measuring --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(done):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = done[0] / "model"
    return AutoModelForCausalLM.from_pretrained(folder).float().eval(), AutoTokenizer.from_pretrained(folder)


def test_nats_are_the_models_own_loss(trained, monkeypatch):
    import torch

    model, tok = trained
    ids, end = tok.encode("the old dog sees a house 城市"), tok.convert_tokens_to_ids("<|endoftext|>")
    row = torch.tensor([[end, *ids]])
    with torch.no_grad():
        own = model(input_ids=row, labels=row).loss.item() * len(ids)
    assert measure.nats(model, ids, end) == pytest.approx(own, rel=1e-5)
    assert measure.nats(model, [], end) == 0
    monkeypatch.setattr(measure, "WINDOW", 5)  # windows know nothing of each other
    parts = [ids[i : i + 5] for i in range(0, len(ids), 5)]
    assert len(parts) > 1
    assert measure.nats(model, ids, end) == pytest.approx(sum(measure.nats(model, p, end) for p in parts), rel=1e-6)


def test_bits_per_byte_of_xz():
    import lzma

    texts = ["round and round " * 40, "城市"]
    assert measure.xz_bits(texts) == 8 * len(lzma.compress("\n".join(texts).encode(), preset=9 | lzma.PRESET_EXTREME))


def test_lines_that_training_documents_hold_too_are_counted(tmp_path):
    from scionwood.pretraining.corpus import is_held_out

    quoted, own = "this very line is quoted", "this line is not quoted at all"
    held = next(t for t in (f"{quoted}\n{own} {i}\nshort" for i in range(5000)) if is_held_out(t))
    kept = next(t for t in (f"{i}\n  {quoted}  \nshort" for i in range(50)) if not is_held_out(t))
    (tmp_path / "a.txt").write_text(held)
    (tmp_path / "b.txt").write_text(kept)
    known = {"a": tmp_path / "a.txt", "b": tmp_path / "b.txt"}
    assert measure.repeated_bytes({"a": [held], "b": []}, known) == {"a": len(quoted), "b": 0}


def test_the_figures_are_sums_over_bytes(done, trained, corpus):
    """bits per byte of each source and of all, worked out here from the parts."""
    import math

    import numpy as np

    from scionwood.pretraining import corpus as texts_of, streams

    out, facts, _ = done
    model, tok = trained
    rows = train.all_rows(recipe(), out)
    trained_on = measure.trained_tokens(out, rows)
    assert len(trained_on) == facts["tokens"]
    assert (trained_on[: 32] == rows[0].row(0)).all()
    ngram = NgramModel(trained_on, len(tok))
    end = tok.convert_tokens_to_ids("<|endoftext|>")
    known = texts_of.sources(corpus)
    size = base = grams = 0
    for name in known:
        texts = streams.held_out_texts(name, known[name], 60_000)
        ids = [tok.encode(t, add_special_tokens=False) for t in texts]
        here = [sum(len(t.encode()) for t in texts), sum(measure.nats(model, i, end) for i in ids) / math.log(2),
                -sum(ngram.log_probs(np.array([end, *i], dtype=np.uint16))[1:].sum() for i in ids) / math.log(2)]
        got = facts["bits_per_byte"][name]
        assert got["bytes"] == here[0] and got["base"] == pytest.approx(here[1] / here[0], abs=2e-3)
        assert got["ngram"] == pytest.approx(here[2] / here[0], abs=2e-3) and got["xz"] == round(measure.xz_bits(texts) / here[0], 3)
        size, base, grams = size + here[0], base + here[1], grams + here[2]
    whole = facts["bits_per_byte"]["all"]
    assert whole["bytes"] == size and whole["base"] == pytest.approx(base / size, abs=2e-3) and whole["ngram"] == pytest.approx(grams / size, abs=2e-3)


def test_progress_on_a_terminal_is_one_line(capsys):
    said = []
    report = run.Report(said.append)
    report.live = True
    for step in (1, 2, 3):
        report.last = 0.0
        report.step(step, 3, 2.0, 100.0)
    report("done")
    assert said == ["done"]
    assert capsys.readouterr().err.count("\n") == 1


def test_the_command_says_mistakes_in_one_line(corpus, tmp_path):
    from typer.testing import CliRunner

    from scionwood.cli.app import app

    def invoke(*args):
        return CliRunner().invoke(app, ["pretrain", "base-cpu", "--corpus", str(corpus), "--out", str(tmp_path / "r"), *args])

    assert "not a device; did you mean 'cuda'?" in str(invoke("--device", "cdua").exception)
    assert "no source" in str(invoke().exception)
    assert "unknown key 'shape.hiden'; did you mean 'hidden'?" in str(invoke("--set", "shape.hiden=3").exception)
    assert not (tmp_path / "r" / "recipe.json").exists()
