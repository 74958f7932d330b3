"""The models folder: where downloaded models lie, which are whole, and what was put there.

    <models>/whisper/<name>/           a CTranslate2 folder: config.json, model.bin, tokenizer.json, vocabulary.*
    <models>/piper/<voice>.onnx        and <voice>.onnx.json beside it
    <models>/llama/<name>.gguf         a language model, or an adapter (LoRA) for one
    <models>/embed/<name>/             a sentence embedder: model.onnx, tokenizer.json
    <models>/<kind>/<name>.roomtone.json   the record: where a model came from, its files' sizes and SHA-256
    <models>/.incoming/                what is on its way; moved to its place only when it is whole

The folder is ``models`` in the state folder. Engines look here, and nothing here imports what a model needs.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path

from roomtone.core.errors import ModelError, UsageError
from roomtone.core.model_files import Flawed, check_ct2, check_gguf, check_json, check_onnx, check_voice

NAME = re.compile(r"\w[\w.+-]{0,99}")


@dataclass(frozen=True, slots=True)
class Form:
    """How models of a kind lie on the disk, and what stands before their names as people type them.

    Either ``endings`` of files that are called as the model is, or the files of a folder: those it must have, and
    those it may have. No other file is ever taken.
    """

    prefix: str
    endings: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()

    def path(self, name: str, folder: Path) -> Path:
        """Return where a model is in the folder of its kind."""
        return folder / f"{name}{self.endings[0] if self.endings else ''}"

    def parts(self, model: Path) -> list[Path]:
        """List the files that the model at a path must have."""
        if not self.endings:
            return [model / name for name in self.needed]
        stem = model.name.removesuffix(self.endings[0])
        return [model.with_name(f"{stem}{ending}") for ending in self.endings]


FORMS = {
    "whisper": Form(
        "whisper-",
        needed=("config.json", "model.bin", "tokenizer.json"),
        extras=("vocabulary.json", "vocabulary.txt", "preprocessor_config.json"),
    ),
    "piper": Form("", endings=(".onnx", ".onnx.json")),
    "llama": Form("llm-", endings=(".gguf",)),
    "embed": Form("embed-", needed=("model.onnx", "tokenizer.json"), extras=("config.json",)),
}
KINDS = tuple(FORMS)

INCOMING, RECORD = ".incoming", ".roomtone.json"
LARGEST_JSON = 64 * 1024 * 1024
SPARE_BYTES = 50_000_000
"""Room that must be left on the disk beside a model: the household's own state needs some."""


def path_of(kind: str, name: str, models: Path) -> Path:
    """Return where a model lies or would lie: a folder, or the file whose name ends as the kind's do."""
    return FORMS[kind].path(name, models / kind)


def installed(kind: str, models: Path) -> list[str]:
    """List the models of a kind that are whole, by name."""
    return [name for name in present(kind, models) if lacking(kind, path_of(kind, name, models)) is None]


def present(kind: str, models: Path) -> list[str]:
    """List the models of a kind of which there is anything, whole or not, by name."""
    folder, endings = models / kind, FORMS[kind].endings
    if not endings:
        return sorted(path.name for path in folder.glob("*") if path.is_dir() and NAME.fullmatch(path.name))
    return sorted({path.name.removesuffix(ending) for ending in endings for path in folder.glob(f"*{ending}")})


def lacking(kind: str, model: Path) -> str | None:
    """Return what a model at a path lacks (one line, no mending), or None where all its files are there."""
    absent = [path for path in FORMS[kind].parts(model) if not path.is_file() or not path.stat().st_size]
    return f"{absent[0]} is missing or empty" if absent else None


def files_of(kind: str, model: Path) -> list[Path]:
    """List the files a model consists of, those it must have first, whether or not they are there."""
    extras = [model / name for name in FORMS[kind].extras]
    return [*FORMS[kind].parts(model), *(path for path in extras if path.is_file())]


def size_of(model: Path) -> int:
    """Return how many bytes of the model at a path are on the disk."""
    files = model.iterdir() if model.is_dir() else model.parent.glob(f"{glob.escape(model.name)}*")
    return sum(path.stat().st_size for path in files if path.is_file())


# --------------------------------------------------------------------------------------------- names


def typed(kind: str, name: str) -> str:
    """Return a model's name as people type it: ``whisper-base.en``, ``en_US-amy-low``, ``llm-qwen3-4b``."""
    return f"{FORMS[kind].prefix}{name}"


def read_name(text: str) -> tuple[str, str]:
    """Take a name that was typed apart, into kind and name. Raises UsageError for what can be no model's name."""
    kind = next((kind for kind, form in FORMS.items() if form.prefix and text.startswith(form.prefix)), "piper")
    name = text.removeprefix(FORMS[kind].prefix).removesuffix(".onnx")
    if not NAME.fullmatch(name):
        raise UsageError(f"'{text}' cannot be a model's name; roomtone models list shows those there are")
    return kind, name


# -------------------------------------------------------------------------------------------- record


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a file was when it was put there: ``size`` in bytes, ``sha256`` in hex."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Record:
    """Where a model came from, and what its files were. Kept beside the model."""

    source: str
    files: dict[str, Stamp]


def record_path(kind: str, name: str, models: Path) -> Path:
    """Return where a model's record lies."""
    return models / kind / f"{name}{RECORD}"


def read_record(kind: str, name: str, models: Path) -> Record | None:
    """Return a model's record; None where there is none, or none that can be read."""
    try:
        content = json.loads(record_path(kind, name, models).read_text("utf-8"))
        files = {str(file): Stamp(int(was["size"]), str(was["sha256"])) for file, was in content["files"].items()}
        return Record(str(content["source"]), files)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _write_record(path: Path, record: Record) -> None:
    files = {name: {"size": was.size, "sha256": was.sha256} for name, was in record.files.items()}
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(json.dumps({"v": 1, "source": record.source, "files": files}, indent=1) + "\n", "utf-8")
    _settle(fresh)
    fresh.replace(path)


def stamp(file: Path) -> Stamp:
    """Read a file and return its size and SHA-256."""
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256")
        return Stamp(content.tell(), digest.hexdigest())


# -------------------------------------------------------------------------------------------- verify


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a model: the file, and what, in a few words."""

    file: Path
    wrong: str

    def __str__(self) -> str:
        return f"{self.file} {self.wrong}"


def verify(kind: str, name: str, models: Path, *, thorough: bool = True) -> list[Fault]:
    """Return what is wrong with a model; nothing where it is whole.

    Looks whether its files are there, of the size in the record, and of the right format; if ``thorough``, also
    whether their SHA-256 is that of the record. A model without a record is judged by its format alone.
    """
    model = path_of(kind, name, models)
    record = read_record(kind, name, models)
    faults = []
    for file in sorted({*files_of(kind, model), *_recorded(record, kind, model)}):
        was = record.files.get(file.name) if record else None
        wrong = _wrong_with(file, was, thorough)
        if wrong is not None:
            faults.append(Fault(file, wrong))
    return faults


def flaw(kind: str, name: str, models: Path) -> str | None:
    """Return what is wrong with a model as far as its files tell it, and what mends it; None where it is whole."""
    faults = verify(kind, name, models, thorough=False)
    return f"{faults[0]}; run: roomtone models pull {typed(kind, name)}" if faults else None


def mending(kind: str, name: str, known: bool) -> str:
    """Return the command that mends a model; ``known``: it is in the catalogue."""
    if known:
        return f"run: roomtone models pull {typed(kind, name)}"
    return f"take it in anew: roomtone models import PATH --name {name}"


def _recorded(record: Record | None, kind: str, model: Path) -> Iterator[Path]:
    """List the files a record names. A name with a path in it is not one that was ever written there."""
    folder = model.parent if FORMS[kind].endings else model
    for name in record.files if record else ():
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
        check_format(file)
        if thorough and was is not None and stamp(file).sha256 != was.sha256:
            return "has been altered since it was put there"
    except Flawed as error:
        return str(error)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None


CHECKS = {".bin": check_ct2, ".gguf": check_gguf, ".onnx": check_onnx}


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
    elif file.suffix in CHECKS:
        with file.open("rb") as opened, mmap(opened.fileno(), 0, access=ACCESS_READ) as content:
            CHECKS[file.suffix](content)


# --------------------------------------------------------------------------------------- taking in, out


def need_room(models: Path, needed: int, what: str) -> None:
    """Make the models folder. Raises ModelError where its disk has not ``needed`` bytes to spare."""
    try:
        models.mkdir(parents=True, exist_ok=True, mode=0o700)
        free = shutil.disk_usage(models).free
    except OSError as error:
        raise ModelError(
            f"{models} cannot be made ({error.strerror}); run: sudo mkdir -p {models} && sudo chown $USER {models}"
        ) from None
    if needed + SPARE_BYTES > free:
        raise ModelError(
            f"{what} needs {megabytes(needed)} and {models} has {megabytes(free)} free; make room there, "
            "for example: roomtone models remove NAME",
            needed=needed,
            free=free,
        )


def megabytes(size: int) -> str:
    """Write a size for a person."""
    return f"{size / 1e6:.0f} MB" if size >= 10e6 else f"{size / 1e6:.1f} MB"


def put_in_place(incoming: Path, kind: str, name: str, models: Path, source: str) -> Record:
    """Move a whole model out of its incoming folder to its place, and write its record.

    What was there under that name is replaced only now. Raises ModelError, with nothing changed, where a file is
    missing or of another format.
    """
    form = FORMS[kind]
    files = files_of(kind, form.path(name, incoming) if form.endings else incoming)
    for file in files:
        wrong = _wrong_with(file, None, False)
        if wrong is not None:
            raise ModelError(f"{typed(kind, name)}: {file.name} {wrong}")
    record = Record(source, {file.name: stamp(file) for file in files})
    target = path_of(kind, name, models)
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for file in files:
        _settle(file)
    record_path(kind, name, models).unlink(missing_ok=True)
    if not form.endings:
        _swap(incoming, files, target)
    else:
        for file in reversed(files):  # the model itself last: it is there once it is
            file.replace(target.with_name(file.name))
    _write_record(record_path(kind, name, models), record)
    _settle(target.parent)
    shutil.rmtree(incoming, ignore_errors=True)
    return record


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


def _settle(path: Path) -> None:
    """Bring a file, or a folder's list of names, to the disk: a power cut must not leave an empty model."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def incoming_of(kind: str, name: str, models: Path) -> Path:
    """Return the folder in which a model is put together before it is moved to its place."""
    return models / INCOMING / f"{kind}-{name}"


def remove(kind: str, name: str, models: Path) -> int:
    """Remove a model, its record, and what had begun to arrive of it; return how many bytes that frees.

    Raises ModelError where there is nothing of that name.
    """
    model, incoming = path_of(kind, name, models), incoming_of(kind, name, models)
    places = [*(FORMS[kind].parts(model) if FORMS[kind].endings else [model]), incoming]
    there = [place for place in [*places, record_path(kind, name, models)] if os.path.lexists(place)]
    if not there:
        raise ModelError(f"there is no model {typed(kind, name)} in {models}; see: roomtone models list")
    freed = size_of(model) + arrived(kind, name, models)
    for place in there:
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink()
    return freed


def arrived(kind: str, name: str, models: Path) -> int:
    """Return how many bytes of a model have arrived and wait for the rest."""
    return sum(file.stat().st_size for file in incoming_of(kind, name, models).glob("*") if file.is_file())
