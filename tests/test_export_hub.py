"""scion publish: what is uploaded is a run that verifies, and nothing else of this machine."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from export_runs import make_run, open_tiny, scion
from hub_server import Hub

from scionwood.export.exporter import export
from scionwood.export.hub import layout, portable_recipe, stage
from scionwood.export.source import source_of

TESTS = Path(__file__).parent
COMMAND = """
import sys; sys.path.insert(0, {tests!r})
import scionwood.flow
from tiny_flow import TinyTask
scionwood.flow.load_task = lambda name, **options: TinyTask()
from scionwood.cli import main
main()
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = make_run(tmp_path_factory.mktemp("runs"))
    with pytest.MonkeyPatch.context() as m:
        export(open_tiny(folder, m), ["gguf:q8_0", "mlx", "merged"])
    return folder


@pytest.fixture
def run(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "tiny")


def publish(hub, *arguments):
    """The command in a process of its own, since huggingface_hub reads the hub's address when it is imported."""
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_test", "HF_HUB_DISABLE_TELEMETRY": "1",
           "HF_HUB_DISABLE_XET": "1"}
    return subprocess.run([sys.executable, "-c", COMMAND.format(tests=str(TESTS)), "publish", *map(str, arguments)], env=env,
                          capture_output=True, text=True, timeout=120, check=False)


def test_a_dry_run_lists_files_and_sizes(run, monkeypatch, capsys):
    (run / "student").mkdir()
    (run / "student/student.json").write_text("{}")
    before = sorted(run.rglob("*"))
    code, out, _ = scion(monkeypatch, capsys, "publish", run, "--dry-run")
    listed = {line.split()[1]: int(line.split()[0].replace(",", "")) for line in out.splitlines()[:-2]}
    assert code == 0 and out.endswith("dry run: nothing was uploaded\n")
    assert {"README.md", "report.html", "figures.json", "recipe.lock.toml", "adapter_model.safetensors", "adapter_config.json",
            "export/tiny-q8_0.gguf", "export/serving.json", "export/mlx/adapters.safetensors", "predictions/adapter-0.jsonl",
            "student/student.json"} <= set(listed)
    assert listed["export/tiny-q8_0.gguf"] == (run / "export/tiny-q8_0.gguf").stat().st_size
    assert not any(name.startswith(("data/", "export/merged/")) for name in listed)
    assert sorted(run.rglob("*")) == before


def test_what_is_published_verifies_and_names_no_folder_of_this_machine(run, tmp_path, monkeypatch, capsys):
    flow = open_tiny(run, monkeypatch)
    folder = stage(layout(flow, source_of(flow)), tmp_path / "hub")
    code, out, _ = scion(monkeypatch, capsys, "verify", folder)
    assert code == 0, out
    for path in folder.rglob("*"):
        if path.is_file():
            assert str(tmp_path).encode() not in path.read_bytes() and str(run.parent).encode() not in path.read_bytes(), path
            assert b"pytest" not in path.read_bytes(), path
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "base"


@pytest.mark.parametrize("file,said", [("predictions/base.jsonl", "sha256"), ("README.md", "line"),
                                       ("export/tiny-q8_0.gguf", "was changed after its export")])
def test_a_run_that_does_not_hold_is_not_published(file, said, run, monkeypatch, capsys):
    path = run / file
    path.write_bytes(path.read_bytes()[:-1] + b" ")
    code, out, _ = scion(monkeypatch, capsys, "publish", run, "--dry-run")
    assert code == 1 and said in out and "not published" in out


def test_a_failed_check_is_not_published(run, monkeypatch, capsys):
    record = run / "stages/check-gguf-q8_0.json"
    data = json.loads(record.read_text())
    data["facts"]["failed"] = "it differs"
    record.write_text(json.dumps(data))
    code, out, _ = scion(monkeypatch, capsys, "publish", run, "--dry-run")
    assert code == 1 and "export/tiny-q8_0.gguf: its check failed (it differs)" in out


def test_upload_to_a_hub_on_loopback(run):
    with Hub() as hub:
        done = publish(hub, run, "--to", "tiny-specialist", "--private")
        assert done.returncode == 0, done.stderr
        sent = hub.created[0]
        assert sent["name"] == "tiny-specialist" and (sent.get("private") is True or sent.get("visibility") == "private")
        assert hub.files["README.md"] == (run / "README.md").read_bytes()
        assert hub.files["export/tiny-q8_0.gguf"] == (run / "export/tiny-q8_0.gguf").read_bytes()
        assert not list(run.glob(".publish-*"))


def test_a_hub_that_refuses(run):
    with Hub(status=403) as hub:
        done = publish(hub, run, "--to", "someone-else/tiny")
        assert done.returncode == 2 and "the hub refused it" in done.stderr and "Traceback" not in done.stderr
        bad = publish(hub, run, "--to", "a b")
        assert bad.returncode == 2 and "not a name that the hub takes" in bad.stderr


def test_paths_of_this_machine_leave_the_recipe():
    text = 'name = "x"\nbase = "/home/me/models/tiny"\n[adapter]\nfolder = "C:\\\\me\\\\lora"\n[lock]\nhome = "/home/me"\n'
    assert portable_recipe(text) == 'name = "x"\nbase = "tiny"\n\n[adapter]\nfolder = "lora"\n\n[lock]\nhome = "."\n'
