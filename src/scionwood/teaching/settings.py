"""The ``[teacher]`` table of a recipe."""

from typing import Literal

from pydantic import Field, model_validator

from scionwood.settings import Settings
from scionwood.teaching.endpoint import Endpoint

NEEDS = {"endpoint": ("endpoint", "a table [teacher.endpoint]"), "local": ("model", "a model"), "recorded": ("path", "a path")}


class Teacher(Settings):
    """Who labels the training cases. ``none`` trains on the references; keys of the other kinds may stay where they are, so
    that ``--set teacher.kind=...`` is enough to change teachers."""

    kind: Literal["none", "endpoint", "local", "recorded"] = Field("none", description="who labels; none trains on the references")
    path: str | None = Field(None, description="recorded: JSON lines of case and text, or a teacher journal")
    endpoint: Endpoint | None = Field(None, description="endpoint: where it is and how it is asked")
    model: str | None = Field(None, description="local: folder or name of the model")
    logits: bool = Field(False, description="local: distil from the teacher's logits, not from its text alone")
    temperature: float = Field(1.0, gt=0, description="logits: softens both distributions")
    weight: float = Field(0.5, ge=0, le=1, description="logits: share of the distillation loss in the whole")

    @model_validator(mode="after")
    def _complete(self) -> "Teacher":
        key, what = NEEDS.get(self.kind, (None, ""))
        if key and not getattr(self, key):
            raise ValueError(f"kind = '{self.kind}' needs {what}")
        if self.logits and self.kind != "local":
            raise ValueError(f"logits = true needs kind = 'local' (kind = '{self.kind}' shows no logits)")
        return self
