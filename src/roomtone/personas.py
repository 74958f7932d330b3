"""Personas: a folder each, read into who the room speaks as."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from roomtone.core.errors import PersonaError, PersonaNotFound
from roomtone.core.persona import Persona

ID = re.compile(r"[a-z0-9_-]+")


class Library:
    """The personas of a household: its own ``folders`` first, then those that came with Roomtone.

    A folder of an earlier place hides one of the same id in a later place.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)

    def ids(self) -> list[str]:
        """List the personas by id, whether or not they can be loaded."""
        return sorted({each for folder in self._folders for each in ids(folder)})

    def folder(self, persona: str) -> Path:
        """Return a persona's folder. Raises PersonaNotFound."""
        for place in self._folders:
            if (place / persona).is_dir():
                return place / persona
        known = ", ".join(self.ids())
        raise PersonaNotFound(f"there is no persona '{persona}'; choose one of {known}", persona=persona)

    def load(self, persona: str) -> Persona:
        """Read a persona, from memory where its files are as they were.

        Raises PersonaNotFound, and PersonaError with file, key and reason for one that is broken.
        """
        return load(self.folder(persona))


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
    return _persona(
        folder,
        {
            "id": folder.name,
            "system_prompt": _read(prompt).strip() if prompt.exists() else "",
            "jokes": {path.name.split(".")[1]: _read_jokes(path) for path in folder.glob("jokes.*.yaml")},
            **config,
        },
    )


def _persona(folder: Path, content: dict[str, Any]) -> Persona:
    path = folder / "config.yaml"
    try:
        return Persona.model_validate(content)
    except ValidationError as error:
        mistake = error.errors()[0]
        key = ".".join(str(part) for part in mistake["loc"])
        reason = "no such key" if mistake["type"] == "extra_forbidden" else mistake["msg"]
        raise PersonaError(f"{path}: {key}: {reason}", file=str(path), key=key) from error


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


def _read_config(path: Path) -> dict[str, Any]:
    content = _read_yaml(path)
    if not isinstance(content, dict):
        raise PersonaError(f"{path}: expected keys such as 'name: Companion'", file=str(path))
    return content


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise PersonaError(f"{path}: {reason}", file=str(path)) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
