"""Taking in all the models of a folder, such as a USB stick's or another machine's; and which sticks there are."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from roomtone import models
from roomtone.core.errors import ModelError, UsageError
from roomtone.model_supply.catalogue import catalogue
from roomtone.model_supply.taking_in import recognise, take_in

DEEPEST = 6
"""Folders below the one that is named in which models are looked for."""

LIKE_MODELS = (".bin", ".onnx", ".gguf", ".tflite", ".safetensors", ".pt", ".pth", ".ggml", ".zip", ".tar", ".gz")
"""Endings of files that might be meant to be models: of these it is said that they were skipped."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of something that was found: ``taken``, ``here`` already, ``broken``, or ``skipped`` as unknown.

    ``typed`` is the model's name where it is one; ``why`` says why it was not taken.
    """

    path: Path
    state: str
    typed: str | None = None
    why: str | None = None


def take_all(root: Path, folder: Path) -> Iterator[Outcome]:
    """Take in every model below a folder; tell of each, and of each file that looks like one and is none.

    A model that the ``models.lock`` beside it pins is compared with that. One that cannot be taken, for want of room
    too, hinders no other. Raises ModelError where there is nothing at all, or where nothing can be written.
    """
    found, strange = candidates(root)
    if not found:
        recognise(root)  # which says what it is instead
        raise ModelError(f"{root} holds no model")
    held = _locks(root)
    for path in found:
        yield _taken(path, folder, held)
    for path in strange:
        yield Outcome(path, "skipped", why="is no model that Roomtone knows")


def _taken(path: Path, folder: Path, held: dict[str, models.Pin]) -> Outcome:
    typed = None
    try:
        known = _known_name(path)
        kind, name, _ = recognise(path, known)
        typed = models.typed(kind, name)
        pin = held.get(typed)
        if pin is not None and _is_here(kind, name, folder, pin):
            return Outcome(path, "here", typed)
        take_in(path, folder, known, pin)
    except (ModelError, UsageError) as error:
        if error.details.get("errno") in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise  # it is the same for all of them
        return Outcome(path, "broken", typed, error.message)
    return Outcome(path, "taken", typed)


def _known_name(path: Path) -> str | None:
    """Return what the catalogue calls a language model's file, which its makers call otherwise."""
    made = (entry for entry in catalogue().values() if entry.kind == "llama" and path.name in entry.files)
    return next((entry.name for entry in made), None)


def _is_here(kind: str, name: str, folder: Path, pin: models.Pin) -> bool:
    own = models.pinned(kind, name, folder)
    return own is not None and own.files == pin.files and not models.verify(kind, name, folder, thorough=False)


def _locks(root: Path) -> dict[str, models.Pin]:
    """Return what the locks on a stick pin: its own, and that of a models folder on it."""
    return models.pins(root / "models") | models.pins(root)


def candidates(root: Path) -> tuple[list[Path], list[Path]]:
    """Return the models below a folder (folders and files), and the files that only look like some."""
    found: list[Path] = []
    strange: list[Path] = []
    for at, folders, files in os.walk(root):
        here = Path(at)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "$")))
        if len(here.relative_to(root).parts) >= DEEPEST:
            folders.clear()
        if _is_folder_of_one(files):
            found.append(here)
            folders.clear()
            continue
        for name in sorted(name for name in files if not name.startswith(".")):
            if _is_file_of_one(name, files):
                found.append(here / name)
            elif name.endswith(LIKE_MODELS) and not _belongs(name, files):
                strange.append(here / name)
    return found, strange


def _is_folder_of_one(files: list[str]) -> bool:
    return "model.bin" in files or {"model.onnx", "tokenizer.json"} <= set(files)


def _is_file_of_one(name: str, files: list[str]) -> bool:
    if name.endswith(".json") and f"{name.removesuffix('.json')}.tflite" in files:
        return True
    return name.endswith((".onnx", ".gguf"))


def _belongs(name: str, files: list[str]) -> bool:
    return name.endswith(".tflite") and f"{name.removesuffix('.tflite')}.json" in files


# ---------------------------------------------------------------------------------------------- sticks


@dataclass(frozen=True, slots=True)
class Stick:
    """A USB disk that is plugged in: its device, such as /dev/sda1, and where it is mounted, if it is."""

    device: str
    mounted: Path | None

    @property
    def mounting(self) -> str:
        """The command that mounts it so that it can be read."""
        return f"sudo mkdir -p /media/usb && sudo mount -o ro {self.device} /media/usb"


def plugged(root: Path = Path("/")) -> list[Stick]:
    """List the partitions of USB disks, as the kernel tells of them below ``root``."""
    mounted = _mounts(root / "proc/self/mounts")
    names = [path.name for path in sorted((root / "sys/class/block").glob("*")) if _is_on_usb(path)]
    whole = {name for name in names if any(other != name and other.startswith(name) for other in names)}
    return [Stick(f"/dev/{name}", mounted.get(f"/dev/{name}")) for name in names if name not in whole]


def _is_on_usb(block: Path) -> bool:
    """Say whether a disk or partition hangs on USB: its place in the tree of devices says so."""
    return re.search(r"/usb\d", os.path.realpath(block)) is not None and not block.name.startswith(("loop", "ram"))


def _mounts(file: Path) -> dict[str, Path]:
    try:
        lines = file.read_text("utf-8", "replace").splitlines()
    except OSError:
        return {}
    return {parts[0]: Path(_unescaped(parts[1])) for parts in map(str.split, lines) if len(parts) > 1}


def _unescaped(text: str) -> str:
    r"""Undo how the kernel writes blanks in paths (``\040``)."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
