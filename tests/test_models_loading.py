"""Only safetensors of known families are loaded; everything else is one line that says what to do."""

import json
import shutil

import pytest
import torch

from conftest import tiny_model
from scionwood.errors import UserError
from scionwood.models.adapters import add_adapter
from scionwood.models.loading import base_identity, embedded_folder, load_adapter, load_model, load_tokenizer
from scionwood.models.settings import Adapter

CPU, IDS = torch.device("cpu"), torch.tensor([[1, 2, 3, 4]])


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a tiny base and the shipped tokenizer."""
    folder = tmp_path_factory.mktemp("base")
    tiny_model(layers=1).save_pretrained(folder)
    for p in embedded_folder().glob("*token*"):
        shutil.copy(p, folder)
    shutil.copy(embedded_folder() / "chat_template.jinja", folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of it that a test may spoil."""
    return shutil.copytree(saved, tmp_path / "base")


def edit(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **values}), "utf-8")


def refused(base, *parts):
    """Both loaders refuse, in one line that holds every part."""
    for load in (lambda: load_model(str(base), CPU, torch.float32), lambda: load_tokenizer(str(base))):
        with pytest.raises(UserError) as e:
            load()
        text = str(e.value)
        assert "\n" not in text and text.startswith(f"base '{base}'")
        assert all(part in text for part in parts), text


def test_a_saved_model_loads(saved, tokenizer):
    model = load_model(str(saved), CPU, torch.float32)
    with torch.no_grad():
        assert torch.equal(model(IDS).logits, tiny_model(layers=1)(IDS).logits)
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert load_tokenizer(str(saved)).encode("住在成都 <|im_end|>") == tokenizer.encode("住在成都 <|im_end|>")


def test_the_wanted_dtype_is_given(saved):
    assert {p.dtype for p in load_model(str(saved), CPU, torch.bfloat16).parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_remote_code_is_refused(name, folder):
    edit(folder / name, auto_map={"AutoModelForCausalLM": "modeling.Sly"})
    (folder / "modeling.py").write_text("raise SystemExit('this ran')")
    refused(folder, "auto_map", "remote code is never run")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "weights.pth"])
def test_pickles_are_refused(name, folder):
    (folder / "model.safetensors").unlink()
    torch.save({"w": torch.zeros(1)}, folder / name)
    refused(folder, name, "unpickled", "convert it to safetensors first")


def test_a_pickle_beside_safetensors_is_not_read(folder):
    (folder / "pytorch_model.bin").write_bytes(b"not even a pickle")
    load_model(str(folder), CPU, torch.float32)


def test_a_folder_without_weights_is_refused(folder):
    (folder / "model.safetensors").unlink()
    refused(folder, "no safetensors weights", "convert it to safetensors first")


@pytest.mark.parametrize("family", ["gpt2", None])
def test_unknown_families_are_refused(family, folder):
    edit(folder / "config.json", model_type=family)
    refused(folder, f"model type '{family}' is not supported (known: qwen3, llama, mistral)")


@pytest.mark.parametrize("base", ["./no/such", "/no/such/folder", "~/no/such", "nosuch", "a/b/c"])
def test_missing_folders_are_refused(base):
    refused(base, "no such folder; name a folder, a hub model such as Qwen/Qwen3-1.7B, or 'embedded'")


def test_a_hub_name_that_cannot_be_fetched_is_refused():
    refused("nobody/nothing", "cannot be fetched from the hub", "name a local folder instead")


def test_a_folder_without_a_config_is_refused(tmp_path):
    with pytest.raises(UserError, match="config.json: no such file"):
        load_model(str(tmp_path), CPU, torch.float32)


def test_the_identity_is_of_weights_config_and_tokenizer(saved, folder):
    assert base_identity(str(folder)) == base_identity(str(saved))
    (folder / "README.md").write_text("a note")
    assert base_identity(str(folder)) == base_identity(str(saved))
    edit(folder / "tokenizer_config.json", model_max_length=7)
    assert base_identity(str(folder)) != base_identity(str(saved))


def test_an_adapter_is_loaded_from_safetensors_alone(saved, tmp_path):
    model = add_adapter(load_model(str(saved), CPU, torch.float32), Adapter(rank=2), seed=0)
    for name, p in model.named_parameters():
        if "lora_B" in name:
            p.data.fill_(0.1)
    model.save_pretrained(tmp_path / "adapter")
    loaded = load_adapter(load_model(str(saved), CPU, torch.float32), tmp_path / "adapter")
    with torch.no_grad():
        assert torch.equal(loaded(IDS).logits, model.eval()(IDS).logits)
    assert not any(p.requires_grad for p in loaded.parameters())
    (tmp_path / "adapter" / "adapter_model.safetensors").rename(tmp_path / "adapter" / "adapter_model.bin")
    with pytest.raises(UserError, match="no adapter_model.safetensors; name a folder in PEFT format"):
        load_adapter(load_model(str(saved), CPU, torch.float32), tmp_path / "adapter")


def test_weights_that_are_missing_are_not_drawn_at_random(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.0.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="1 of its weights are not in .*, first 'model.layers.0.mlp.up_proj.weight'"):
        load_model(str(folder), CPU, torch.float32)


def test_torn_weights_are_one_line(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match="its weights cannot be read .*; fetch or save"):
        load_model(str(folder), CPU, torch.float32)


@pytest.mark.parametrize("spoil", [lambda p: p.write_text("{}"), lambda p: p.write_text("torn {"), lambda p: p.unlink()], ids=["empty", "torn", "gone"])
def test_a_bad_tokenizer_is_one_line(spoil, folder):
    spoil(folder / "tokenizer.json")
    with pytest.raises(UserError, match="its tokenizer cannot be read") as e:
        load_tokenizer(str(folder))
    assert "\n" not in str(e.value)


def test_no_memory_on_the_device_is_one_line(saved, monkeypatch):
    def full(self, *args, **kw):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.nn.Module, "to", full)
    with pytest.raises(UserError, match="does not fit the memory of cpu; choose a smaller base"):
        load_model(str(saved), CPU, torch.float32)


def test_an_adapter_names_its_base_as_it_was_named(saved, tmp_path, monkeypatch):
    """Not the folder of the download; and saving it asks nothing of the hub."""
    import peft.utils.save_and_load as peft_saving

    from scionwood.models import loading
    from scionwood.training.loop import save_adapter

    monkeypatch.setattr(loading, "folder_of", lambda base: saved)
    model = add_adapter(load_model("Some/Model", CPU, torch.float32), Adapter(rank=2), seed=0)
    asked = []
    monkeypatch.setattr(peft_saving, "check_file_exists_on_hf_hub", lambda *args, **kw: asked.append(args))
    save_adapter(model, tmp_path / "best")
    assert json.loads((tmp_path / "best" / "adapter_config.json").read_text())["base_model_name_or_path"] == "Some/Model"
    assert not asked


def test_a_torn_adapter_and_one_of_another_base_are_one_line(saved, tmp_path):
    add_adapter(tiny_model(layers=1), Adapter(rank=2), seed=0).save_pretrained(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    good = path.read_bytes()
    path.write_bytes(good[:300])
    with pytest.raises(UserError, match="the adapter cannot be put on this base"):
        load_adapter(tiny_model(layers=1), tmp_path)
    path.write_bytes(good)
    config = tiny_model(layers=1).config
    config.intermediate_size = 96
    with pytest.raises(UserError, match="the adapter cannot be put on this base"):
        load_adapter(type(tiny_model(layers=1))(config), tmp_path)
