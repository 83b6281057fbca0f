"""An adapter that was trained elsewhere, taken into a run to be measured: in PEFT's format or mlx-lm's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scionwood.errors import UserError
from scionwood.export.lora import Lora, read_peft, write_peft
from scionwood.export.mlx import read_mlx
from scionwood.files import file_hash, write_jsonl

if TYPE_CHECKING:
    from scionwood.flow import Flow
    from scionwood.recipe import Recipe


def read_adapter(folder: Path) -> tuple[Lora, str]:
    """The weights of an adapter folder and the name of its format, told by the files in it."""
    folder = Path(folder)
    if (folder / "adapters.safetensors").exists():
        return read_mlx(folder), "mlx-lm"
    if (folder / "adapter_model.safetensors").exists():
        return read_peft(folder), "PEFT"
    raise UserError(f"{folder}: no adapter; a folder of mlx-lm holds adapters.safetensors, one of PEFT adapter_model.safetensors")


def named_base(name: str) -> str:
    """The base that an adapter names, as it is loaded: exported files call the embedded base by its public name."""
    from scionwood.export.source import public_name
    from scionwood.models.loading import EMBEDDED

    return EMBEDDED if name == public_name(EMBEDDED) and not Path(name).is_dir() else name


def check_possible(recipe: "Recipe") -> None:
    """An adapter that is there already has one set of weights and no training that could be repeated on shuffled labels."""
    if recipe.adapter.folder and recipe.evidence.shuffled_control:
        raise UserError("adapter.folder: what was trained elsewhere cannot be trained again on shuffled labels; "
                        "set evidence.shuffled_control = false")
    if recipe.adapter.folder and len(recipe.train.seeds) > 1:
        raise UserError(f"adapter.folder: one adapter is one seed, train.seeds names {len(recipe.train.seeds)}; leave one")


def adopt(flow: "Flow") -> None:
    """The stage that stands for training: the adapter is checked against the base and written in PEFT's format."""
    folder, name = flow.local(flow.recipe.adapter.folder), f"adapter-{flow.recipe.train.seeds[0]}"
    lora, kind = read_adapter(folder)

    def work():
        from scionwood.files import read_json
        from scionwood.models.loading import folder_of

        layers = read_json(folder_of(flow.base) / "config.json")["num_hidden_layers"]
        if lora.layers()[-1] >= layers:
            raise UserError(f"{folder}: adapts layer {lora.layers()[-1]}, but base '{flow.recipe.base}' has {layers} layers; "
                            "name its own base")
        write_peft(lora, flow.run.path("adapter", name, "best"))
        write_jsonl(flow.run.path("adapter", name, "log.jsonl"), [])
        return {"imported": kind, "rank": lora.rank, "scale": lora.scale, "layers": len(lora.layers()), "targets": lora.targets(),
                "trainable": sum(a.numel() + b.numel() for a, b in lora.pairs.values())}

    flow.run.stage(f"train-{name}", {"adopted": file_hash(folder), "base": flow.base_hash}, [f"adapter/{name}"], work)


def told(facts: dict) -> dict:
    """What the card says in place of a teacher."""
    return {"teacher": "imported", **{k: facts[k] for k in ("imported", "rank", "scale", "layers", "targets")}}
