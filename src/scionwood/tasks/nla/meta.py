"""nla_meta.yaml: what a checkpoint or a set of activations says about itself, checked against the live tokenizer.

A checkpoint keeps it as ``nla_meta.yaml`` in its folder, a Parquet file beside itself as ``<file>.parquet.nla_meta.yaml``.
Keys that are not known here are kept, so that files of other programs survive being read and written.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from scionwood import files
from scionwood.errors import UserError

NAME = "nla_meta.yaml"
ROLES = {"actor": "av", "critic": "ar"}  # what files written while training say


class Part(BaseModel):
    """Base of the tables of a sidecar."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)


class Tokens(Part):
    """The token that a vector takes the place of, its two neighbours in the prompt, and the end of the reconstructor's input."""

    injection_char: str
    injection_token_id: int
    injection_left_neighbor_id: int | None = None
    injection_right_neighbor_id: int | None = None
    critic_suffix_ids: list[int] | None = None


class Templates(Part):
    """The prompts of both halves: see template.py for their placeholders."""

    av: str | None = None
    ar: str | None = None


class Scales(Part):
    """``injection_scale``: the norm that injected vectors get. ``mse_scale``: the norm of vectors in the loss; None is raw."""

    injection_scale: float | None = Field(None, gt=0)
    mse_scale: float | None = None


class Critic(Part):
    """What a reconstructor's sidecar says of the activations that it rebuilds."""

    extraction_layer_index: int | None = Field(None, ge=0)


class Checkpoint(Part):
    """The sidecar of a verbalizer (role av) or a reconstructor (role ar)."""

    kind: Literal["nla_model"] = "nla_model"
    schema_version: int = 2
    role: Literal["av", "ar"]
    stage: str | None = None
    base_checkpoint: str | None = None
    d_model: int = Field(gt=0)
    extraction: Scales = Scales()
    extraction_layer_index: int | None = Field(None, ge=0)
    tokens: Tokens | None = None
    prompt_templates: Templates = Templates()
    critic: Critic | None = None
    trained_on: Any = None
    parent_checkpoints: list = []
    created_at: str | None = None
    created_by: str | None = None
    training: dict = {}

    @field_validator("role", mode="before")
    @classmethod
    def _released(cls, role: Any) -> Any:
        return ROLES.get(role, role) if isinstance(role, str) else role

    @field_validator("created_at", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return value.isoformat() if isinstance(value, datetime.date) else value  # YAML reads a bare date as one


class Extraction(Part):
    """How activations were taken: output of block ``layer_index`` (0-based) of ``base_model``, never normalised."""

    base_model: str | None = None
    d_model: int | None = Field(None, gt=0)
    layer_index: int | None = Field(None, ge=0)
    norm: str | None = "none"
    corpus: str | None = None
    corpus_slice: Any = None
    positions_per_doc: Any = None


class Describer(Part):
    """Which model described the texts, and how it was asked."""

    model: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    instruction_prompt: str | None = None


class Dataset(Part):
    """The sidecar of a Parquet file of activations."""

    kind: Literal["nla_dataset"] = "nla_dataset"
    schema_version: int = 1
    dataset_id: str | None = None
    stage: str | None = None
    row_count: int | None = Field(None, ge=0)
    extraction: Extraction = Extraction()
    api_summaries: Describer | None = None
    parent_datasets: list = []
    git_commit: str | None = None
    tokens: Tokens | None = None
    prompt_templates: Templates = Templates()


def sidecar_of(path: Path) -> Path:
    """Where the sidecar of a checkpoint folder or of a file of vectors lies."""
    path = Path(path)
    return path / NAME if path.is_dir() else path.with_name(f"{path.name}.{NAME}")


def write_meta(path: Path, meta: Checkpoint | Dataset) -> None:
    """Write the sidecar of the checkpoint folder or file ``path``, atomically."""
    import yaml

    side, data = Path(path) / NAME if isinstance(meta, Checkpoint) else sidecar_of(path), meta.model_dump(mode="json")
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    if yaml.safe_load(text) != data:  # PyYAML writes some line breaks (U+0085) as they are, and reads them as blanks
        text = yaml.safe_dump(data, sort_keys=False)
    files.write_text(side, text)


def read_meta(path: Path) -> Checkpoint | Dataset:
    """Read the sidecar of a checkpoint folder or a file of vectors. UserError where it is missing, broken or of another kind."""
    import yaml

    side = sidecar_of(path)
    try:
        data = yaml.safe_load(side.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{side}: no such file; a checkpoint or a set of activations needs its sidecar") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as e:
        raise UserError(f"{side}: not valid YAML ({' '.join(str(e).split())[:200]})") from None
    kinds = {"nla_model": Checkpoint, "nla_dataset": Dataset}
    kind = data.get("kind") if isinstance(data, dict) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise UserError(f"{side}: kind = {kind!r} is not known (known: {', '.join(kinds)})")
    try:
        return kinds[kind].model_validate(data)
    except ValidationError as e:
        first = e.errors()[0]
        raise UserError(f"{side}: {'.'.join(str(p) for p in first['loc'])} = {first['input']!r}: "
                        f"{first['msg'].removeprefix('Value error, ')}") from None


def find(key: str, explicit=None, checkpoint: Checkpoint | None = None, dataset: Dataset | None = None) -> tuple[Any, str]:
    """The value of a dotted key and where it comes from: what is given explicitly wins over the checkpoint, that over the data.

    A key is found under its name in each kind of sidecar: ``extraction_layer_index`` of a checkpoint is ``extraction.layer_index``
    of a data set. ``(None, "")`` where nobody says.
    """
    if explicit is not None:
        return explicit, "given"
    other = {"extraction_layer_index": "extraction.layer_index", "d_model": "extraction.d_model",
             "base_checkpoint": "extraction.base_model"}
    for meta, name, path in ((checkpoint, "checkpoint", key), (dataset, "dataset", other.get(key, key))):
        value: Any = meta
        for part in path.split("."):
            value = getattr(value, part, None)
        if value is not None:
            return value, name
    return None, ""


def check_tokens(tokens: Tokens, marker, tokenizer, suffix: list[int] | None = None, where: str = "nla_meta.yaml") -> None:
    """Assert that a sidecar's ids are what the live tokenizer gives. A tokenizer that was changed would inject at another place.

    ``marker``: what template.py finds with this tokenizer in this prompt; ``suffix``: the end of the reconstructor's input.
    """
    ids = tokenizer.encode(tokens.injection_char, add_special_tokens=False)
    if ids != [tokens.injection_token_id]:
        raise UserError(f"{where}: '{tokens.injection_char}' should be token {tokens.injection_token_id}, this tokenizer gives {ids}; "
                        "use the tokenizer of its base")
    for side, wanted, got in (("left", tokens.injection_left_neighbor_id, marker.left),
                              ("right", tokens.injection_right_neighbor_id, marker.right)):
        if wanted is not None and wanted != got:
            raise UserError(f"{where}: the {side} neighbour of '{tokens.injection_char}' should be token {wanted}, this tokenizer and "
                            f"prompt give {got}; use the tokenizer of its base and the prompt of its sidecar")
    if suffix is not None and tokens.critic_suffix_ids is not None and suffix != tokens.critic_suffix_ids:
        raise UserError(f"{where}: critic_suffix_ids = {tokens.critic_suffix_ids}, this tokenizer gives {suffix}; "
                        "use the tokenizer of its base")
