"""Bases and adapters from a folder, a hub name, or the package itself. Only safetensors are read; no remote code runs."""

from __future__ import annotations

from pathlib import Path

from scionwood.errors import UserError
from scionwood.files import file_hash, read_json, text_hash

EMBEDDED = "embedded"
FAMILIES = ("qwen3", "llama", "mistral")


def embedded_folder() -> Path:
    """Where the embedded base lies; its weights may be missing."""
    return Path(__file__).parent / "embedded"


def folder_of(base: str) -> Path:
    """The local folder of a base: the embedded one, a path, or a hub name that is fetched (safetensors and JSON only)."""
    if base == EMBEDDED:
        folder = embedded_folder()
        if not (folder / "model.safetensors").exists():
            raise UserError("base 'embedded': this installation carries no weights; train one with 'scion pretrain' and name its folder")
        return folder
    path = Path(base).expanduser()
    if path.is_dir():
        return path
    if base.startswith((".", "/", "~")) or base.count("/") != 1:
        raise UserError(f"base '{base}': no such folder; name a folder, a hub model such as Qwen/Qwen3-1.7B, or '{EMBEDDED}'")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(base, allow_patterns=["*.json", "*.safetensors", "*.jinja", "*.txt", "LICENSE*"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as e:
        raise UserError(f"base '{base}': cannot be fetched from the hub ({first_line(e)}); name a local folder instead") from None


def check_folder(folder: Path, what: str) -> dict:
    """Refuse remote code, pickles and families that were not tested. Returns the config."""
    config = read_json(folder / "config.json")
    tokenizer = folder / "tokenizer_config.json"
    if "auto_map" in config or (tokenizer.exists() and "auto_map" in read_json(tokenizer)):
        raise UserError(f"{what}: its config asks for remote code (auto_map); remote code is never run")
    if config.get("model_type") not in FAMILIES:
        raise UserError(f"{what}: model type '{config.get('model_type')}' is not supported (known: {', '.join(FAMILIES)})")
    if config["model_type"] == "mistral" and config.get("sliding_window"):
        raise UserError(f"{what}: attends within a window of {config['sliding_window']} tokens, which training does not keep; use one without "
                        "(Mistral 7B from v0.2 on)")
    if not list(folder.glob("*.safetensors")):
        pickles = [p.name for pattern in ("*.bin", "*.pt", "*.pth") for p in folder.glob(pattern)]
        found = f" (found {pickles[0]}, which would have to be unpickled)" if pickles else ""
        raise UserError(f"{what}: no safetensors weights in {folder}{found}; convert it to safetensors first")
    return config


def base_identity(base: str) -> str:
    """A hash that stands for the weights, config and tokenizer of a base.

    Files of up to 100 MB are hashed by content; larger ones by name, size and time of change, since hashing gigabytes at
    every start would cost more than it proves.
    """
    folder = folder_of(base)
    parts = {}
    for p in sorted([*folder.glob("*.json"), *folder.glob("*.jinja"), *folder.glob("*.safetensors")]):
        if p.name == "base.json":
            continue
        stat = p.stat()
        parts[p.name] = file_hash(p) if stat.st_size <= 100_000_000 else [stat.st_size, stat.st_mtime_ns]
    return text_hash(parts)


def weights_size(base: str) -> int:
    """Bytes of a base's weights on disk."""
    return sum(p.stat().st_size for p in folder_of(base).glob("*.safetensors"))


def load_tokenizer(base: str):
    """The tokenizer of a base, after the same checks as its weights."""
    from transformers import AutoTokenizer

    folder = folder_of(base)
    check_folder(folder, f"base '{base}'")
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as e:  # the tokenizers library raises bare Exceptions
        raise UserError(f"base '{base}': its tokenizer cannot be read ({first_line(e)}); fetch or save tokenizer.json in {folder} anew") from None


def load_model(base: str, device, dtype):
    """A base in evaluation mode with frozen weights in ``dtype`` on ``device``."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    from scionwood.models import attention

    folder = folder_of(base)
    check_folder(folder, f"base '{base}'")
    try:
        model, loaded = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, trust_remote_code=False, use_safetensors=True, attn_implementation=attention.NAME,
            output_loading_info=True,
        )
        model.to(device)
    except torch.OutOfMemoryError:
        raise UserError(f"base '{base}': does not fit the memory of {device}; choose a smaller base or train.device = 'cpu'") from None
    except (SafetensorError, OSError, ValueError, RuntimeError) as e:
        raise UserError(f"base '{base}': its weights cannot be read ({first_line(e)}); fetch or save {folder} anew") from None
    if missing := sorted(loaded["missing_keys"]):  # transformers would draw them at random
        raise UserError(f"base '{base}': {len(missing)} of its weights are not in {folder}, first '{missing[0]}'; fetch or save it anew")
    model.requires_grad_(False)
    model.name_or_path = base  # what an adapter names as its base: not the folder of a download
    return model.eval()


def first_line(error: Exception) -> str:
    """What a library says, cut to its first line."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def load_adapter(model, folder: Path):
    """Put a PEFT adapter (safetensors only) on a base."""
    from peft import PeftModel
    from safetensors import SafetensorError

    folder = Path(folder)
    if not (folder / "adapter_model.safetensors").exists():
        raise UserError(f"{folder}: no adapter_model.safetensors; name a folder in PEFT format")
    try:
        return PeftModel.from_pretrained(model, folder, is_trainable=False).eval()
    except (SafetensorError, OSError, ValueError, RuntimeError) as e:  # torn files, or an adapter of another base
        raise UserError(f"{folder}: the adapter cannot be put on this base ({first_line(e)}); train it anew or name its own base") from None
