"""Putting models in their place, whole or not at all, and taking them out again."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from roomtone.core.errors import ModelError
from roomtone.core.model_files import Flawed
from roomtone.durable import sync
from roomtone.models.checking import check_format
from roomtone.models.kinds import FORMS, files_of, megabytes, path_of, size_of, typed
from roomtone.models.lock import Pin, pin, pinned, stamp

INCOMING = ".incoming"
SPARE_BYTES = 50_000_000
"""Room that must be left on the disk beside a model: the household's own state needs some."""


def need_room(models: Path, needed: int, what: str) -> None:
    """Make the models folder. Raises ModelError where its disk has not ``needed`` bytes to spare."""
    try:
        models.mkdir(parents=True, exist_ok=True, mode=0o700)
        free = shutil.disk_usage(models).free
    except OSError as error:
        raise cannot_write(error, models, what) from None
    if needed + SPARE_BYTES > free:
        raise ModelError(
            f"{what} needs {megabytes(needed + SPARE_BYTES)} free ({megabytes(SPARE_BYTES)} of them stay so), and "
            f"{models} has {megabytes(free)}; make room there, for example: roomtone models remove NAME",
            needed=needed,
            free=free,
        )


def cannot_write(error: OSError, models: Path, what: str) -> ModelError:
    """Say in a line why nothing can be written to the models folder, and what mends that."""
    if error.errno == errno.EROFS:
        mend = "the disk is mounted read-only: run: sudo mount -o remount,rw / (if that fails, the card is worn out)"
    elif error.errno in (errno.EACCES, errno.EPERM):
        mend = "run the same with sudo: it is then done as the folder's owner"
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        mend = "make room there, for example: roomtone models remove NAME; what has arrived is kept"
    else:
        mend = "see: roomtone doctor"
    return ModelError(f"{what} cannot be written to {models} ({error.strerror}); {mend}", errno=error.errno)


def put_in_place(incoming: Path, kind: str, name: str, models: Path, source: str, expected: Pin | None = None) -> Pin:
    """Move a whole model out of its incoming folder to its place, and pin it.

    What was there under that name is replaced only now. Raises ModelError, with nothing changed, where a file is
    missing, of another format, or not what is ``expected``. After a power cut on the way the model is told from a
    whole one by its pin, which is written first.
    """
    form = FORMS[kind]
    files = files_of(kind, form.path(name, incoming) if form.endings else incoming)
    for file in files:
        _look(file, typed(kind, name))
    made = Pin(source, {file.name: stamp(file) for file in files})
    if expected is not None and made.files != expected.files:
        shutil.rmtree(incoming, ignore_errors=True)
        raise ModelError(f"{typed(kind, name)} is not what models.lock pins, and was thrown away")
    target, before = path_of(kind, name, models), pinned(kind, name, models)
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for file in files:
        sync(file)
    pin(kind, name, models, made)
    try:
        _move(files, incoming, target, folder=not form.endings)
    except BaseException:
        pin(kind, name, models, before)
        raise
    sync(target.parent)
    shutil.rmtree(incoming, ignore_errors=True)
    return made


def _look(file: Path, what: str) -> None:
    try:
        check_format(file)
    except FileNotFoundError:
        raise ModelError(f"{what}: {file.name} is missing") from None
    except Flawed as error:
        raise ModelError(f"{what}: {file.name} {error}") from None


def _move(files: list[Path], incoming: Path, target: Path, *, folder: bool) -> None:
    if folder:
        _swap(incoming, files, target)
        return
    for file in reversed(files):  # the model itself last: it is there once it is
        file.replace(target.with_name(file.name))


def _swap(incoming: Path, files: list[Path], target: Path) -> None:
    """Let a new folder take an old one's place; the old one goes once the new one stands."""
    fresh, old = incoming / "new", incoming / "old"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    for file in files:
        file.rename(fresh / file.name)
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)  # of an earlier time that ended here
        target.rename(old)
    try:
        fresh.rename(target)
    except BaseException:
        if old.exists():
            old.rename(target)
        raise


def incoming_of(kind: str, name: str, models: Path) -> Path:
    """Return the folder in which a model is put together before it is moved to its place."""
    return models / INCOMING / f"{kind}-{name}"


def arrived(kind: str, name: str, models: Path) -> int:
    """Return how many bytes of a model have arrived and wait for the rest."""
    return sum(file.stat().st_size for file in incoming_of(kind, name, models).glob("*") if file.is_file())


def remove(kind: str, name: str, models: Path) -> int:
    """Remove a model, its pin, and what had begun to arrive of it; return how many bytes that frees.

    Raises ModelError where there is nothing of that name, or where it cannot be removed.
    """
    model, incoming = path_of(kind, name, models), incoming_of(kind, name, models)
    places = [*(FORMS[kind].parts(model) if FORMS[kind].endings else [model]), incoming]
    there = [place for place in places if os.path.lexists(place)]
    if not there and pinned(kind, name, models) is None:
        raise ModelError(f"there is no model {typed(kind, name)} in {models}; see: roomtone models list")
    freed = size_of(model) + arrived(kind, name, models)
    try:
        for place in there:
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink()
        pin(kind, name, models, None)
    except OSError as error:
        raise cannot_write(error, models, f"the removal of {typed(kind, name)}") from error
    return freed
