"""The base of every engine's Settings."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class EngineSettings(BaseModel):
    """Base of every engine's Settings: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
