"""Whether models are whole: cheaply before one is opened, and by every byte now and then."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path

from roomtone.core.model_files import (
    Flawed,
    check_ct2,
    check_gguf,
    check_json,
    check_onnx,
    check_tflite,
    check_voice,
    check_wake,
)
from roomtone.models.kinds import FORMS, KINDS, files_of, path_of, present, read_name, typed
from roomtone.models.lock import Pin, Stamp, mark, pinned, pins, stamp

log = logging.getLogger(__name__)

LARGEST_JSON = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a model: the file, and what, in a few words."""

    file: Path
    wrong: str

    def __str__(self) -> str:
        return f"{self.file} {self.wrong}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What verifying a model came to. Without a pin (``pinned``) it was judged by its format alone."""

    kind: str
    name: str
    faults: list[Fault]
    pinned: bool

    @property
    def typed(self) -> str:
        """The name as people type it."""
        return typed(self.kind, self.name)


def verify(kind: str, name: str, models: Path, *, thorough: bool = True) -> list[Fault]:
    """Return what is wrong with a model; nothing where it is whole.

    A pinned model is compared with the lock: its files are there and of their sizes, and it was not found spoilt; if
    ``thorough``, also by format and SHA-256. One that is not pinned is judged by its format alone.
    """
    model, pin = path_of(kind, name, models), pinned(kind, name, models)
    faults = []
    for file in sorted({*files_of(kind, model), *_pinned_files(pin, kind, model)}):
        wrong = _wrong_with(file, pin.files.get(file.name) if pin else None, thorough)
        if wrong is not None:
            faults.append(Fault(file, wrong))
    if not faults and not thorough and pin is not None and pin.spoilt:
        faults.append(Fault(model, pin.spoilt))
    return faults


def verify_all(models: Path, wanted: Sequence[tuple[str, str]] | None = None) -> list[Verdict]:
    """Read every byte of all models (or those ``wanted``, by kind and name) and compare it with the lock.

    A model that is not what was pinned is noted in the lock as spoilt, and is not opened until it was fetched anew or
    found whole; one that is pinned and not there is told. Takes as long as the disk takes to read them. Never raises
    for what a model is; a folder that cannot be written costs the note alone.
    """
    verdicts = []
    for kind, name in there(models) if wanted is None else wanted:
        faults, pin = verify(kind, name, models), pinned(kind, name, models)
        try:
            mark(kind, name, models, faults[0].wrong if faults else None)
        except OSError as error:
            log.warning("%s cannot be noted as spoilt: %s", typed(kind, name), error.strerror)
        verdicts.append(Verdict(kind, name, faults, pin is not None))
    return verdicts


def there(models: Path) -> list[tuple[str, str]]:
    """List the models that are there or pinned, by kind and name."""
    here = [(kind, name) for kind in KINDS for name in present(kind, models)]
    return [*here, *(found for found in map(read_name, pins(models)) if found not in here)]


def flaw(kind: str, name: str, models: Path) -> str | None:
    """Return what is wrong with a model as far as its files tell it, and what mends it; None where it is whole."""
    faults, pin = verify(kind, name, models, thorough=False), pinned(kind, name, models)
    return f"{faults[0]}; {mending(kind, name, not (pin and pin.source.startswith('/')))}" if faults else None


def flaw_at(model: Path) -> str | None:
    """Return what is wrong with the model at a path, as ``flaw`` does; None too where it is in no models folder.

    For whoever is about to load it: it may have been whole when the engine was opened, and its process starts later.
    """
    kind = model.parent.name
    if kind not in FORMS:
        return None
    endings = FORMS[kind].endings
    name = model.name.removesuffix(endings[0]) if endings else model.name
    return flaw(kind, name, model.parent.parent)


def mending(kind: str, name: str, known: bool) -> str:
    """Return the command that mends a model; ``known``: it can be fetched by its name."""
    if known:
        return f"run: roomtone models pull {typed(kind, name)}"
    return f"take it in anew: roomtone models import PATH --name {name}"


def _pinned_files(pin: Pin | None, kind: str, model: Path) -> Iterator[Path]:
    """List the files that are pinned. A name with a path in it is not one that was ever written there."""
    folder = model.parent if FORMS[kind].endings else model
    for name in pin.files if pin else ():
        if "/" not in name:
            yield folder / name


def _wrong_with(file: Path, was: Stamp | None, thorough: bool) -> str | None:
    try:
        if not file.is_file():
            return "is missing"
        size = file.stat().st_size
        if was is not None and size < was.size:
            return f"is cut short: {size} of {was.size} bytes"
        if was is not None and size != was.size:
            return f"is not what was put there: {size} bytes instead of {was.size}"
        if was is None or thorough:
            check_format(file)
        if thorough and was is not None and stamp(file).sha256 != was.sha256:
            return "has been altered since it was put there"
    except Flawed as error:
        return str(error)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None


CHECKS = {".bin": check_ct2, ".gguf": check_gguf, ".onnx": check_onnx, ".tflite": check_tflite}


def check_format(file: Path) -> None:
    """Look whether a model's file is of the format its name says. Raises Flawed, OSError."""
    size = file.stat().st_size
    if not size:
        raise Flawed("is empty")
    if file.suffix == ".json":
        if size > LARGEST_JSON:
            raise Flawed("is too large to be a configuration")
        content = check_json(file.read_bytes())
        if file.name.endswith(".onnx.json"):
            check_voice(content)
        elif file.with_suffix(".tflite").exists():
            check_wake(content, file.with_suffix(".tflite").name)
    elif file.suffix in CHECKS:
        with file.open("rb") as opened, mmap(opened.fileno(), 0, access=ACCESS_READ) as content:
            CHECKS[file.suffix](content)
