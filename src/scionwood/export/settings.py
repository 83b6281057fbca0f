"""What a run exports and proves: the ``[export]`` table of a recipe."""

from pydantic import Field, field_validator

from scionwood.errors import UserError
from scionwood.export.formats import check_formats
from scionwood.settings import Settings


class Export(Settings):
    """Formats that are written after training, best adapter first. GGUF files answer the whole test set again, as systems of their own."""

    to: tuple[str, ...] = Field((), description="formats to write and, where they are GGUF, to measure, such as ['gguf:f16', 'gguf:q8_0']")

    @field_validator("to")
    @classmethod
    def _known(cls, to: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(check_formats(list(to)))
        except UserError as e:
            raise ValueError(str(e).removeprefix("--to ")) from None
