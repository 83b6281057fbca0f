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
    refused(folder, f"model type '{family}' is not supported (known: qwen3, llama)")


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
