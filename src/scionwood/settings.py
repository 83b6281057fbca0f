"""TOML settings checked by a pydantic schema: unknown keys, wrong types and bad values become one plain line."""

import copy
import json
import tomllib
from pathlib import Path
from typing import TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from scionwood.errors import UserError, nearest


class Settings(BaseModel):
    """Base of every settings table: unknown keys are refused, values are fixed once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


S = TypeVar("S", bound=Settings)


def read_toml(path: Path) -> dict:
    """Read a TOML file. Raises UserError where it is missing or broken."""
    try:
        return tomllib.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such recipe") from None
    except IsADirectoryError:
        raise UserError(f"{path}: a folder; a recipe is a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise UserError(f"{path}: not valid TOML ({e})") from None


def apply_sets(data: dict, sets: list[str]) -> dict:
    """Apply ``key.key=value`` strings in order. The value is read as JSON where it is JSON, else as a string."""
    data = copy.deepcopy(data)
    for item in sets:
        key, eq, value = item.partition("=")
        if not eq or not key.strip():
            raise UserError(f"--set {item}: expected key=value, for example --set train.epochs=4")
        at = data
        *path, last = key.strip().split(".")
        for part in path:
            at = at.setdefault(part, {})
            if not isinstance(at, dict):
                raise UserError(f"--set {item}: '{part}' is a value, not a table")
        try:
            at[last] = json.loads(value)
        except ValueError:
            at[last] = value
    return data


def _known_keys(schema: type[BaseModel], location: tuple) -> list[str]:
    """The keys of the table at ``location`` of a schema."""
    for part in location:
        if not isinstance(part, str) or part not in schema.model_fields:
            break
        inner = schema.model_fields[part].annotation
        for kind in (inner, *get_args(inner)):  # a table, or one that may be left out
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                schema = kind
    return list(schema.model_fields)


def check(data: dict, schema: type[S], where: str) -> S:
    """Validate ``data``; the first thing that is wrong is raised as one line naming ``where``, key, value and mend."""
    try:
        return schema.model_validate(data)
    except ValidationError as e:
        first = min(e.errors(), key=lambda error: error["type"] != "extra_forbidden")  # a misspelt key explains a missing one
        key = repr(".".join(str(p) for p in first["loc"]))[1:-1]  # a key may hold a line break: it is shown as \n
        if first["type"] == "extra_forbidden":
            *table, last = first["loc"]
            known = _known_keys(schema, tuple(table))
            raise UserError(f"{where}: unknown key '{key}'{nearest(str(last), known)} (known: {', '.join(known)})") from None
        if first["type"] == "missing":
            raise UserError(f"{where}: key '{key}' is missing") from None
        message = first["msg"].removeprefix("Value error, ")
        raise UserError(f"{where}: {key} = {first['input']!r}: {message}") from None


def load(path: Path, schema: type[S], sets: list[str] = ()) -> S:
    """Read a TOML file, apply ``--set`` strings and check the result against a schema."""
    return check(apply_sets(read_toml(path), list(sets)), schema, str(path))
