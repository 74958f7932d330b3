"""Personas: a folder each, read into who the room speaks as."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from roomtone.core.dialog import Persona, Voice
from roomtone.core.errors import PersonaError, PersonaNotFound

ID = re.compile(r"[a-z0-9_-]+")


class PersonaConfig(BaseModel):
    """The keys of ``config.yaml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    description: str = ""
    version: str = "1"
    voice: Voice = Voice()
    context_retention_hours: float = Field(1.0, gt=0, le=8760)


def load(folder: Path) -> Persona:
    """Read one persona's folder: ``config.yaml``, and ``system_prompt.md`` and ``jokes.<language>.yaml`` if there.

    Raises PersonaNotFound where there is no such folder, PersonaError with file, key and reason for what is wrong.
    """
    if not folder.is_dir():
        raise PersonaNotFound(f"there is no persona '{folder.name}' in {folder.parent}", persona=folder.name)
    if not ID.fullmatch(folder.name):
        raise PersonaError(f"{folder}: a persona's folder is named with a-z, 0-9, _ and - only", file=str(folder))
    config = _read_config(folder / "config.yaml")
    prompt = folder / "system_prompt.md"
    return Persona(
        id=folder.name,
        system_prompt=_read(prompt).strip() if prompt.exists() else "",
        jokes={path.name.split(".")[1]: _read_jokes(path) for path in folder.glob("jokes.*.yaml")},
        **{key: getattr(config, key) for key in PersonaConfig.model_fields},
    )


def ids(folder: Path) -> list[str]:
    """List the personas that a folder of personas holds, by id, whether or not they can be loaded."""
    return sorted(config.parent.name for config in folder.glob("*/config.yaml"))


def _read_jokes(path: Path) -> tuple[str, ...]:
    try:
        return TypeAdapter(tuple[str, ...]).validate_python(_read_yaml(path))
    except ValidationError as error:
        raise PersonaError(f"{path}: expected a list of texts such as '- A joke.'", file=str(path)) from error


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(_read(path))
    except yaml.YAMLError as error:
        raise PersonaError(f"{path}: not YAML: {_one_line(error)}", file=str(path)) from error


def _read_config(path: Path) -> PersonaConfig:
    content = _read_yaml(path)
    if not isinstance(content, dict):
        raise PersonaError(f"{path}: expected keys such as 'name: Companion'", file=str(path))
    try:
        return PersonaConfig.model_validate(content)
    except ValidationError as error:
        mistake = error.errors()[0]
        key = ".".join(str(part) for part in mistake["loc"])
        reason = "no such key" if mistake["type"] == "extra_forbidden" else mistake["msg"]
        raise PersonaError(f"{path}: {key}: {reason}", file=str(path), key=key) from error


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise PersonaError(f"{path}: {reason}", file=str(path)) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
