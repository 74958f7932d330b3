"""The models folder: where downloaded models lie, which are whole, and which one is best.

    <models>/whisper/<name>/           a CTranslate2 folder: config.json, model.bin, tokenizer.json, vocabulary.*
    <models>/piper/<voice>.onnx        and <voice>.onnx.json beside it

The folder is ``models`` in the state folder. Engines look here, and nothing here imports what a model needs.
"""

from __future__ import annotations

from pathlib import Path

KINDS = ("whisper", "piper")


def path_of(kind: str, name: str, models: Path) -> Path:
    """Return where a model lies or would lie: a folder for Whisper, the .onnx file for a Piper voice."""
    return models / kind / (name if kind == "whisper" else f"{name}.onnx")


def installed(kind: str, models: Path) -> list[str]:
    """List the models of a kind that are whole, by name."""
    if kind == "whisper":
        found = [path.parent.name for path in (models / kind).glob("*/model.bin")]
    else:
        found = [path.stem for path in (models / kind).glob("*.onnx")]
    return sorted(name for name in found if lacking(path_of(kind, name, models)) is None)


def lacking(model: Path) -> str | None:
    """Return what a model at a path lacks (one line, no mending), or None where all its files are there."""
    if model.suffix == ".onnx":
        needed = [model, model.with_name(f"{model.name}.json")]
    else:
        needed = [model / name for name in ("config.json", "model.bin", "tokenizer.json")]
    absent = [path for path in needed if not path.is_file() or not path.stat().st_size]
    return f"{absent[0]} is missing or empty" if absent else None
