"""What an adapter looks like: the ``[adapter]`` table of a recipe."""

from typing import Any, Literal

from pydantic import Field, field_validator

from scionwood.errors import nearest
from scionwood.settings import Settings

# The modules of Qwen3 and Llama decoders that llama.cpp can carry a LoRA for.
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
Target = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Adapter(Settings):
    """A LoRA adapter. The update is scaled by alpha / rank, or alpha / sqrt(rank) with rsLoRA."""

    rank: int = Field(16, ge=1, le=1024, description="size of the update: each adapted matrix gets two thin ones of this width")
    alpha: float = Field(32, gt=0, description="strength of the update, which is scaled by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of the adapter's inputs that is left out at random while training")
    targets: tuple[Target, ...] = Field(TARGETS, description="which matrices of each layer are adapted")
    last_layers: int | None = Field(None, ge=1, description="adapt the last N layers only; the others become a cached trunk")
    rslora: bool = Field(False, description="scale by alpha / sqrt(rank) instead (rsLoRA)")
    folder: str | None = Field(None, description="an adapter that is there already, of PEFT or mlx-lm: it is measured, nothing is trained")

    @field_validator("targets", mode="before")
    @classmethod
    def _exportable(cls, targets: Any) -> Any:
        if isinstance(targets, (list, tuple)):
            if not targets:
                raise ValueError("name at least one matrix")
            for target in targets:
                if target not in TARGETS:
                    raise ValueError(f"an update of '{target}' could not be exported, so it is not trained{nearest(str(target), TARGETS)} "
                                     f"(known: {', '.join(TARGETS)})")
        return targets
