"""Boards of buttons and lights: a file each. A new one is a file, here or anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from roomtone.core.board import Board
from roomtone.core.errors import ConfigError

HERE = Path(__file__).parent


def names() -> list[str]:
    """List the boards that came with Roomtone."""
    return sorted(path.stem for path in HERE.glob("*.yaml"))


def load(board: str) -> Board:
    """Read a board by its name, or by the path of its file (``.yaml``).

    Raises ConfigError, one line, for one that is not there or that is broken.
    """
    path = Path(board).expanduser() if board.endswith((".yaml", ".yml")) else HERE / f"{board}.yaml"
    if path.parent == HERE and board not in names():
        raise ConfigError(
            f"gpio.board: there is no board '{board}'; choose one of {', '.join(names())}, or a .yaml file"
        )
    try:
        return Board.model_validate(_read(path))
    except ValidationError as error:
        mistake = error.errors()[0]
        key = ".".join(str(part) for part in mistake["loc"])
        reason = (
            "no such key" if mistake["type"] == "extra_forbidden" else mistake["msg"].removeprefix("Value error, ")
        )
        raise ConfigError(f"{path}: {key + ': ' if key else ''}{reason}", file=str(path), key=key) from error


def _read(path: Path) -> Any:
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"gpio.board: {path}: {reason}", file=str(path)) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}", file=str(path)) from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected keys such as 'name: My board'", file=str(path))
    return content
