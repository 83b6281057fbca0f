"""The [store] table: where a recording lies and for how long."""

from __future__ import annotations

from pydantic import Field

from scionwood.settings import Settings


class Keeping(Settings):
    """What the recorder keeps."""

    path: str = Field("lumen.db", description="the SQLite file")
    keep_days: float = Field(30.0, ge=0, description="days after which readings and states are dropped; 0 keeps everything")
    waiting: int = Field(1800, ge=1, description="readings held in memory while the disk cannot be written; older ones are dropped")
