"""What a persona may use."""

from __future__ import annotations

from fnmatch import fnmatchcase

from roomtone.core.persona import Persona


def allowed(persona: Persona, name: str) -> bool:
    """Say whether a persona's ``tools`` hold a tool's family, its name or a pattern of it (weather.*)."""
    if persona.tools is None:
        return True
    family = name.partition(".")[0]
    return any(each == family or fnmatchcase(name, each) for each in persona.tools)
