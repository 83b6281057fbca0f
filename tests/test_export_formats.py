"""scion export: every format of a run, checked at once, skipped where it is up to date, refused where it is wrong."""

import json
import shutil
import stat

import pytest
import torch
from export_runs import make_run, open_tiny, scion

from scionwood.errors import UserError
from scionwood.export import exporter
from scionwood.export.check import sentence
from scionwood.export.exporter import export
from scionwood.export.formats import Loaded, check_formats
from scionwood.export.source import source_of
from scionwood.files import file_hash, sweep
from scionwood.serving.artifact import read_artifact

ALL = ["gguf:f16", "gguf:q8_0", "merged", "lora-gguf", "mlx", "ollama"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A run with every format, exported by the command."""
    folder = make_run(tmp_path_factory.mktemp("runs"))
    with pytest.MonkeyPatch.context() as m:
        flow = open_tiny(folder, m)
        done = export(flow, ALL)
    return folder, done


@pytest.fixture
def run(exported, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(exported[0], tmp_path / "tiny")


def test_every_format_is_there_and_passes(exported):
    folder, done = exported
    assert [d.format for d in done] == ALL and not any(d.failed for d in done)
    assert {p.name for p in (folder / "export").iterdir()} == {
        "tiny-f16.gguf", "tiny-q8_0.gguf", "tiny-lora.gguf", "merged", "mlx", "Modelfile", "serving.json", "checks.json", "tokenizer.json",
        "tokenizer_config.json", "chat_template.jinja"}
    checks = json.loads((folder / "export/checks.json").read_text())["checks"]
    for name in ("gguf:f16", "lora-gguf", "merged"):
        found = checks[name]
        assert found["prompts"] >= 50 and found["answer_tokens"] >= 100
        assert found["equal"] + len(found["splits"]) == found["prompts"] and found["equal"] >= 40  # the weights are random: near ties
    assert checks["merged"]["equal"] == checks["merged"]["prompts"]


def test_the_sidecar_finds_what_it_needs(exported):
    about = json.loads((exported[0] / "export/serving.json").read_text())
    assert (about["task"], about["model"], about["adapter"], about["base"]) == ("tiny", "tiny-q8_0.gguf", "adapter-0", "base")
    assert len(about["run"]) == 64 and set(about["files"]) == set(ALL)
    assert "/" not in json.dumps({k: about[k] for k in ("model", "base", "files")})  # no path of this machine


def test_the_merged_folder_is_the_adapter_on_its_base(exported):
    from scionwood.models.loading import load_adapter, load_model

    folder, cpu, ids = exported[0], torch.device("cpu"), torch.arange(40)[None] * 11
    base = str(folder.parent / "base")
    ours = load_adapter(load_model(base, cpu, torch.float32), folder / "adapter/adapter-0/best")
    theirs = load_model(str(folder / "export/merged"), cpu, torch.float32)
    plain = load_model(base, cpu, torch.float32)
    with torch.no_grad():
        assert torch.allclose(ours(ids).logits, theirs(ids).logits, atol=1e-4)
        assert not torch.allclose(plain(ids).logits, theirs(ids).logits, atol=1e-2)  # the adapter does something


def test_what_is_up_to_date_is_left(run, monkeypatch, capsys):
    before = {p: p.stat().st_mtime_ns for p in (run / "export").glob("*.gguf")}
    code, out, err = scion(monkeypatch, capsys, "export", run, "--to", "gguf:f16", "lora-gguf")
    assert code == 0 and "export-gguf-f16: skipped" in err and "check-lora-gguf: skipped" in err
    assert before == {p: p.stat().st_mtime_ns for p in (run / "export").glob("*.gguf")}
    assert "token ids equal" in out and " MB " in out and len(out.splitlines()) == 2


def test_a_changed_file_is_written_anew(run, monkeypatch):
    path = run / "export/tiny-q8_0.gguf"
    good = path.read_bytes()
    path.write_bytes(good[:-64] + bytes(64))
    export(open_tiny(run, monkeypatch), ["gguf:q8_0"])
    assert path.read_bytes() == good


def test_exports_of_another_adapter_are_removed(run, monkeypatch):
    from safetensors.torch import load_file, save_file

    weights = run / "adapter/adapter-0/best/adapter_model.safetensors"
    save_file({k: v * 2 for k, v in load_file(weights).items()}, weights, metadata={"format": "pt"})
    export(open_tiny(run, monkeypatch), ["mlx"])
    assert {p.name for p in (run / "export").iterdir()} == {"mlx", "serving.json", "checks.json", "tokenizer.json",
                                                            "tokenizer_config.json", "chat_template.jinja"}
    assert json.loads((run / "export/serving.json").read_text())["model"] is None


def test_a_kill_between_two_files_leaves_none_under_the_hash_of_another(run, monkeypatch):
    """Files of two adapters are equally long, so the sidecar could not tell which one it has."""
    from safetensors.torch import load_file, save_file

    weights = run / "adapter/adapter-0/best/adapter_model.safetensors"
    save_file({k: v * 2 for k, v in load_file(weights).items()}, weights, metadata={"format": "pt"})
    before, real = file_hash(run / "export/tiny-q8_0.gguf"), exporter.write

    def killed(name, *rest):
        if name == "gguf:f16":
            raise KeyboardInterrupt
        return real(name, *rest)

    monkeypatch.setattr(exporter, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        export(open_tiny(run, monkeypatch), ["gguf:q8_0", "gguf:f16"])
    assert file_hash(run / "export/tiny-q8_0.gguf") != before  # it is the new adapter's already
    about = json.loads((run / "export/serving.json").read_text())
    for entry in about["files"].values():
        path = run / "export" / entry["file"]
        assert not path.exists() or file_hash(path) == entry["sha256"] or path.is_dir()
    with pytest.raises(UserError, match="scion export"):
        read_artifact(run)
    monkeypatch.setattr(exporter, "write", real)
    export(open_tiny(run, monkeypatch), ["gguf:q8_0", "gguf:f16"])
    assert read_artifact(run).rev == file_hash(run / "export/tiny-q8_0.gguf")[:12]


def broken(kind, monkeypatch):
    """Spoil the converter in a way that a file does not show."""
    import scionwood.export.gguf as module

    real = module.write_gguf
    if kind == "order":
        def spoilt(model, *rest):
            state = model.state_dict()
            for name in [n for n in state if n.endswith("q_proj.weight")]:
                state[name].copy_(state[name].flip(0))
            return real(model, *rest)
    else:
        def spoilt(model, tokenizer, *rest):
            import copy

            other = copy.deepcopy(tokenizer)
            data = json.loads(other.backend_tokenizer.to_str())
            data["model"]["merges"] = data["model"]["merges"][:20]
            other._tokenizer = type(other.backend_tokenizer).from_str(json.dumps(data))
            return real(model, other, *rest)
    monkeypatch.setattr(module, "write_gguf", spoilt)


@pytest.mark.parametrize("kind,said", [("order", "log-probability of an answer token differs"), ("merges", "other token ids in llama.cpp")])
def test_a_broken_converter_is_seen(kind, said, run, monkeypatch, capsys):
    if kind == "order":  # the reference must stay what it was
        class Own(Loaded):
            """Merges anew each time."""

            merged = property(lambda self: Loaded.merged.func(self))

        monkeypatch.setattr("scionwood.export.exporter.Loaded", Own)
    shutil.rmtree(run / "export")
    broken(kind, monkeypatch)
    code, out, _ = scion(monkeypatch, capsys, "export", run, "--to", "gguf:f16")
    assert code == 1 and said in out and "do not ship it" in out
    code, out, _ = scion(monkeypatch, capsys, "export", run, "--to", "gguf:f16")  # a failed check stays one
    assert code == 1 and "FAILED" in out


def test_a_quantiser_of_the_users_is_called(run, tmp_path, monkeypatch):
    """A stand-in on PATH that copies: what it is given and what becomes of its output."""
    tool = tmp_path / "bin" / "llama-quantize"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\necho "$3" > "$(dirname "$0")/kind"\n[ -n "$FAIL" ] && { echo "no room" >&2; exit 3; }\ncp "$1" "$2"\n')
    tool.chmod(tool.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=":")
    flow = open_tiny(run, monkeypatch)
    done = export(flow, ["gguf:q4_k_m"])
    assert (tool.parent / "kind").read_text() == "Q4_K_M\n" and done[0].path == "export/tiny-q4_k_m.gguf" and not done[0].failed
    monkeypatch.setenv("FAIL", "1")
    with pytest.raises(UserError, match=r"gguf:q5_k_m: llama-quantize failed with code 3 \(no room\)"):
        export(flow, ["gguf:q5_k_m"])
    assert not list((run / "export").glob(".*"))


@pytest.mark.parametrize("what", ["gguf:q4_k_m", "lora-gguf"])
def test_what_a_kill_leaves_of_a_whole_model_is_swept(what, run, tmp_path, monkeypatch):
    """Both write the whole model beside their own file for a while: gigabytes that no command would remove after a kill -9."""
    folder, whole = tmp_path / "killed", []

    def seen(model, tokenizer, out, *rest):
        (folder / out.name).parent.mkdir(exist_ok=True)
        (folder / out.name).write_bytes(b"GGUF")
        whole.append(out.name)
        raise KeyboardInterrupt

    monkeypatch.setattr("scionwood.export.quantize.write_gguf" if what != "lora-gguf" else "scionwood.export.gguf.write_gguf", seen)
    monkeypatch.setattr("scionwood.export.quantize.find_quantizer", lambda kind: "llama-quantize")
    monkeypatch.setattr("scionwood.export.exporter.find_quantizer", lambda kind: "llama-quantize")
    (run / "stages/check-lora-gguf.json").unlink()
    with pytest.raises(KeyboardInterrupt):
        export(open_tiny(run, monkeypatch), [what])
    sweep(folder)
    assert whole and not list(folder.iterdir())


def test_without_a_quantiser_one_line(run, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nowhere")
    code, _, err = scion(monkeypatch, capsys, "export", run, "--to", "gguf:q4_k_m")
    assert code == 2 and err.startswith("scion: gguf:q4_k_m: needs llama-quantize on PATH") and err.count("\n") == 1


@pytest.mark.parametrize("given,meant", [("q8_0", "gguf:q8_0"), ("q8", "gguf:q8_0"), ("Q4_0", "gguf:q4_0"), ("q4km", "gguf:q4_k_m"),
                                         ("gguf:q8", "gguf:q8_0"), ("merge", "merged"), ("olama", "ollama")])
def test_unknown_formats(given, meant):
    with pytest.raises(UserError, match=rf"^--to {given}: no such format; did you mean '{meant}'\? \(known: [^\n]+\)$"):
        check_formats([given])


def test_a_format_like_no_other():
    with pytest.raises(UserError, match=r"^--to xyz: no such format \(known: "):
        check_formats(["xyz"])


def test_ollama_brings_a_model_along():
    assert check_formats(["ollama"]) == ["gguf:q8_0", "ollama"]
    assert check_formats(["ollama", "gguf:f16", "gguf:f16"]) == ["gguf:f16", "ollama"]


def test_the_best_adapter_is_chosen_on_the_dev_split(exported, monkeypatch):
    flow = open_tiny(exported[0], monkeypatch)
    flow.recipe = flow.recipe.model_copy(update={"train": flow.recipe.train.model_copy(update={"seeds": (0, 1, 2)})})
    dev = {"train-adapter-0": 0.5, "train-adapter-1": 0.7, "train-adapter-2": 0.7}
    monkeypatch.setattr(flow.run, "facts", lambda stage: {"dev": dev[stage]})
    with pytest.raises(UserError, match="adapter 'adapter-1' is not trained yet"):
        source_of(flow)
    assert source_of(flow, "adapter-0").adapter == "adapter-0"
    with pytest.raises(UserError, match="has no adapter 'adapter-9'"):
        source_of(flow, "adapter-9")


def test_sentences():
    split = [{"prompt": 3, "token": 5, "margin": 0.001}, {"prompt": 4, "token": 1, "margin": 0.4}]
    found = {"prompts": 50, "answer_tokens": 120, "mean_difference": 0.001, "largest_difference": 0.01, "equal": 48, "splits": split,
             "failed": ""}
    assert "48 continuations equal, 2 not (1 at a near tie; the first at prompt 3, token 5, margin 0.001)" in sentence(found)
