"""Taking in a model from a folder: recognised, copied, checked, and only then put in its place."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from roomtone import models
from roomtone.core.errors import ModelError, UsageError
from roomtone.core.model_files import Flawed

FOREIGN = {
    "model.safetensors": "a Transformers model",
    "pytorch_model.bin": "a PyTorch model",
}
IMPORTED = "a CTranslate2 Whisper folder, a Piper voice's .onnx, a .gguf, an embedder's folder, a wake word's .json"
BLOCK = 4_000_000
_OF_A_FOLDER = ("faster-whisper-", "whisper-")


def recognise(path: Path, name: str | None = None) -> tuple[str, str, list[Path]]:
    """Return which kind of model a path holds, its name, and its files.

    A Whisper model is a folder with ``model.bin``; a voice is an ``.onnx`` with its ``.json``, or a folder with one
    such pair; a language model is a ``.gguf``; an embedder is a folder with ``model.onnx`` and ``tokenizer.json``; a
    wake word is a ``.json`` with its ``.tflite``.
    Raises ModelError, with what is wrong, for anything else.
    """
    try:
        if not path.exists():
            raise ModelError(f"{path}: there is no such file or folder; name {IMPORTED}")
        return _of_folder(path, name) if path.is_dir() else _of_file(path, name)
    except PermissionError as error:
        where = error.filename or path
        raise ModelError(
            f"{where} may not be read by who owns the models folder; run: sudo chmod -R a+rX {path}"
        ) from None


def _of_file(path: Path, name: str | None) -> tuple[str, str, list[Path]]:
    if path.is_file() and path.suffix == ".onnx":
        return _voice(path, name)
    if path.is_file() and path.suffix == ".gguf":
        return "llama", _name(name or path.stem, path, "llama"), [path]
    if path.is_file() and path.suffix in (".json", ".tflite") and path.with_suffix(".tflite").exists():
        return _word(path.with_suffix(".json"), name)
    raise ModelError(f"{path} is no model: name {IMPORTED}")


def _of_folder(path: Path, name: str | None) -> tuple[str, str, list[Path]]:
    for kind, file in (("whisper", "model.bin"), ("embed", "model.onnx")):
        if (path / file).exists() and not (path / f"{file}.json").exists():
            return kind, _name(name or _folder_name(path), path, kind), _inside(models.files_of(kind, path), path)
    voices = sorted(path.glob("*.onnx"))
    if len(voices) == 1:
        return _voice(voices[0], name)
    if voices:
        raise ModelError(f"{path} holds {len(voices)} voices; name one of them: {voices[0]}")
    for file, what in FOREIGN.items():
        if (path / file).exists():
            convert = f"ct2-transformers-converter --model {path} --output_dir NEW"
            raise ModelError(f"{path} holds {what}; convert it: {convert}")
    weights = sorted(path.glob("*.gguf"))
    if weights:
        raise ModelError(f"{path} is a folder; name the file: roomtone models import {weights[0]}")
    raise ModelError(f"{path} holds neither model.bin (a CTranslate2 Whisper model) nor an .onnx (a Piper voice)")


def _voice(path: Path, name: str | None) -> tuple[str, str, list[Path]]:
    if not path.with_name(f"{path.name}.json").exists():
        raise ModelError(
            f"{path.name}.json is missing beside {path}; a voice needs both: fetch it from where it came"
        )
    return "piper", _name(name or path.stem, path, "piper"), _inside(models.files_of("piper", path), path.parent)


def _word(path: Path, name: str | None) -> tuple[str, str, list[Path]]:
    """Return a wake word's files. Its name cannot be another: the one file names the other."""
    own = _name(path.stem, path, "wake")
    if name is not None and _name(name, path, "wake") != own:
        raise UsageError(f"a wake word keeps its name; run: roomtone models import {path}")
    return "wake", own, _inside(models.files_of("wake", path), path.parent)


def _folder_name(path: Path) -> str:
    """Name a model after its folder; in the hub's cache that is ``models--OWNER--NAME/snapshots/COMMIT``."""
    folder = path.resolve()
    name = folder.parent.parent.name.rpartition("--")[2] if folder.parent.name == "snapshots" else folder.name
    for prefix in _OF_A_FOLDER:
        name = name.removeprefix(prefix)
    return name


def _name(name: str, path: Path, kind: str) -> str:
    name = name.removeprefix(models.FORMS[kind].prefix)
    if not models.NAME.fullmatch(name):
        raise UsageError(f"'{name}' cannot be a model's name; give one: roomtone models import {path} --name NAME")
    return name


def _inside(files: list[Path], folder: Path) -> list[Path]:
    """Refuse what is missing, no plain file, or a link out of the folder (the hub's cache links within itself)."""
    folder = folder.resolve()
    root = folder.parent.parent if folder.parent.name == "snapshots" else folder
    for file in files:
        if not file.exists():
            raise ModelError(f"{file} is missing; fetch the model anew where it came from")
        if not file.is_file():
            raise ModelError(f"{file} is no plain file")
        if not file.resolve().is_relative_to(root):
            raise ModelError(f"{file} leads out of its folder, to {file.resolve()}; copy it there first")
    return files


def take_in(
    path: Path, folder: Path, name: str | None = None, expected: models.Pin | None = None
) -> tuple[str, str, models.Pin]:
    """Copy a model into the models folder; return its kind, its name and its pin.

    What was there under that name is replaced only by a model that is whole, of the right format, and what is
    ``expected`` of it. Raises ModelError, and UsageError for an impossible name, with nothing changed.
    """
    kind, name, files = recognise(path, name)
    typed = models.typed(kind, name)
    for file in files:
        try:
            models.check_format(file)
        except Flawed as error:
            raise ModelError(f"{file} {error}; nothing was changed") from None
        except OSError as error:
            raise _unreadable(file, error) from None
    models.need_room(folder, sum(file.stat().st_size for file in files), typed)
    incoming = models.incoming_of(kind, f"{name}.import", folder)
    shutil.rmtree(incoming, ignore_errors=True)
    try:
        incoming.mkdir(parents=True, mode=0o700)
        for file in files:
            _copy(file, incoming / _kept_as(file, kind, name))
        source = expected.source if expected else str(path.resolve())
        return kind, name, models.put_in_place(incoming, kind, name, folder, source, expected)
    except OSError as error:
        raise models.cannot_write(error, folder, typed) from error
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def _kept_as(file: Path, kind: str, name: str) -> str:
    """Return what a file of a model is called here: after the model, where that is what its kind's are called."""
    ending = next((ending for ending in reversed(models.FORMS[kind].endings) if file.name.endswith(ending)), None)
    return f"{name}{ending}" if ending else file.name


def _copy(file: Path, target: Path) -> None:
    """Copy a file; what is wrong with the side that is read is told as that, since sticks go bad too."""
    with target.open("wb") as copy:
        try:
            with file.open("rb") as content:
                while block := content.read(BLOCK):
                    copy.write(block)
        except OSError as error:
            if error.errno in (errno.EIO, errno.EACCES, errno.ENODEV, errno.ENOENT):
                raise _unreadable(file, error) from None
            raise


def _unreadable(file: Path, error: OSError) -> ModelError:
    return ModelError(f"{file} cannot be read ({error.strerror}); copy it anew onto the stick, or use another one")
