"""scion import: an adapter that was trained elsewhere becomes a run with figures, card and exports of its own."""

import json
import shutil

import pytest
from export_runs import make_run, open_tiny, scion

from scionwood.errors import UserError
from scionwood.export.exporter import export
from scionwood.models.settings import Adapter
from scionwood.settings import check


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = make_run(tmp_path_factory.mktemp("runs"))
    with pytest.MonkeyPatch.context() as m:
        export(open_tiny(folder, m), ["mlx"])
    return folder


def answers(folder):
    rows = [json.loads(line) for line in (folder / "predictions/adapter-0.jsonl").read_text().splitlines()]
    return [(r["case"], r["text"], r["confidence"]) for r in rows]


@pytest.mark.parametrize("where", ["export/mlx", "adapter/adapter-0/best"])
def test_an_adapter_from_elsewhere_answers_as_it_did_there(where, run, tmp_path, monkeypatch, capsys):
    code, out, err = scion(monkeypatch, capsys, "import", run / where, "--task", "tiny", "--base", run.parent / "base",
                           "--out", tmp_path / "again", "--set", "train.dtype=fp32", "--set", "train.device=cpu")
    assert code == 0 and "card:" in out, err
    for (case, text, p), (case2, text2, p2) in zip(answers(run), answers(tmp_path / "again"), strict=True):
        assert (case, text) == (case2, text2) and p == pytest.approx(p2, abs=1e-5)
    card = (tmp_path / "again/README.md").read_text()
    assert "was not trained here" in card and "whether it has seen the test cases is not known" in card
    assert not (tmp_path / "again/data/taught.jsonl").exists()
    assert scion(monkeypatch, capsys, "verify", tmp_path / "again")[0] == 0
    assert scion(monkeypatch, capsys, "export", tmp_path / "again", "--to", "mlx")[0] == 0  # and can be exported like any other


@pytest.mark.parametrize("given,said", [(["--base", "BASE", "--set", "evidence.shuffled_control=true"], "shuffled_control = false"),
                                        (["--base", "BASE", "--set", "train.seeds=[0,1]"], "one adapter is one seed"),
                                        (["--base", "embedded", "--set", "adapter.rank=0"], "adapter.rank = 0")])
def test_what_cannot_be_is_one_line(given, said, run, tmp_path, monkeypatch, capsys):
    given = [str(run.parent / "base") if g == "BASE" else g for g in given]
    code, _, err = scion(monkeypatch, capsys, "import", run / "export/mlx", "--task", "tiny", "--out", tmp_path / "x", *given)
    assert code == 2 and said in err.splitlines()[-1]


def test_a_folder_without_an_adapter(tmp_path, monkeypatch, capsys):
    code, _, err = scion(monkeypatch, capsys, "import", tmp_path, "--task", "tiny")
    assert code == 2 and "no adapter; a folder of mlx-lm holds adapters.safetensors" in err


def test_an_adapter_of_a_deeper_base(run, tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(run / "export/mlx", tmp_path / "deep")
    from safetensors.torch import load_file, save_file

    path = folder / "adapters.safetensors"
    save_file({k.replace("layers.1.", "layers.30."): v for k, v in load_file(path).items()}, path)
    code, _, err = scion(monkeypatch, capsys, "import", folder, "--task", "tiny", "--base", run.parent / "base", "--out", tmp_path / "x")
    assert code == 2 and "adapts layer 30, but base" in err.splitlines()[-1]


@pytest.mark.parametrize("kind", ["mlx-lm", "PEFT"])
def test_an_exported_adapter_of_the_embedded_base_finds_it(kind, run, tmp_path, monkeypatch, capsys):
    """It has a layer too many, so that the command stops where the base is known."""
    from safetensors.torch import load_file, save_file

    from scionwood.export.source import public_name

    where, weights, key = {"mlx-lm": ("export/mlx", "adapters.safetensors", "model"),
                           "PEFT": ("adapter/adapter-0/best", "adapter_model.safetensors", "base_model_name_or_path")}[kind]
    folder = shutil.copytree(run / where, tmp_path / "deep")
    save_file({k.replace("layers.1.", "layers.99."): v for k, v in load_file(folder / weights).items()}, folder / weights)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert public_name("embedded") != "embedded"
    (folder / "adapter_config.json").write_text(json.dumps(config | {key: public_name("embedded")}))
    code, _, err = scion(monkeypatch, capsys, "import", folder, "--task", "tiny", "--out", tmp_path / "x", "--set", "train.device=cpu")
    assert code == 2 and "adapts layer 99, but base 'embedded' has" in err.splitlines()[-1]


@pytest.mark.parametrize("targets,said", [(["embed_tokens"], "an update of 'embed_tokens' could not be exported, so it is not trained"),
                                          (["q_porj"], "did you mean 'q_proj'?"), ([], "name at least one matrix")])
def test_training_refuses_what_could_not_be_exported(targets, said):
    with pytest.raises(UserError, match="adapter.toml: targets") as e:
        check({"targets": targets}, Adapter, "adapter.toml")
    assert said in str(e.value) and "\n" not in str(e.value)
