"""The catalogue: the models Roomtone knows, what each is for, and where it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from roomtone import models
from roomtone.config_sources import guess
from roomtone.core.errors import UsageError
from roomtone.shipped import shipped

MANY = "many"
"""The language of a model that knows several."""


@dataclass(frozen=True, slots=True)
class Board:
    """The least machine that a model suits: its name for people, ``memory`` in MB as its makers say it, its cores.

    ``quick`` ones have cores like a Pi 5's, or better.
    """

    name: str
    memory: int
    cores: int
    quick: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of the catalogue.

    ``files`` are paths in ``repo`` at ``revision``, or at ``url``; none of a model that comes with a package.
    ``megabytes`` on the disk and ``memory`` in MB while it is loaded, where known. ``hashes`` are SHA-256 by file.
    """

    kind: str
    name: str
    language: str
    licence: str
    use: str
    suits: Board
    files: tuple[str, ...] = ()
    repo: str = ""
    revision: str = "main"
    url: str = ""
    megabytes: int | None = None
    memory: int | None = None
    hashes: dict[str, str] = field(default_factory=dict)

    @property
    def typed(self) -> str:
        """The name as people type it."""
        return models.typed(self.kind, self.name)

    def kept_as(self, path: str) -> str:
        """Return the name under which a file of it is kept here."""
        return f"{self.name}.gguf" if self.kind == "llama" else path.rpartition("/")[2]

    def speaks(self, language: str) -> bool:
        """Tell whether it knows a language, given as in ``de`` or ``de-AT``."""
        return self.language == MANY or _bare(self.language) == _bare(language)


def _bare(language: str) -> str:
    return language.replace("_", "-").partition("-")[0].lower()


@cache
def catalogue(file: Path | None = None) -> dict[str, Entry]:
    """Read the catalogue that came with Roomtone: models by the names people type."""
    content = yaml.safe_load((file or shipped("models") / "catalogue.yaml").read_text("utf-8"))
    boards = {name: Board(**about) for name, about in content["boards"].items()}
    told = [
        *content["models"],
        *_words(content["wake"]),
        *_voices(content["voices"]),
    ]
    entries = [_entry(model, boards) for model in told]
    return {entry.typed: entry for entry in entries}


def _entry(told: dict[str, Any], boards: dict[str, Board]) -> Entry:
    kind, name = models.read_name(told["name"])
    files = told.get("files", ())
    about = {key: told[key] for key in told.keys() - {"name", "files", "suits"}}
    hashes = dict(files) if isinstance(files, dict) else {}
    return Entry(kind, name, suits=boards[told["suits"]], files=tuple(files), hashes=hashes, **about)


def _words(wake: dict[str, Any]) -> list[dict[str, Any]]:
    """Return wake words: those that come with the package, and those that are fetched."""
    common = {"licence": wake["licence"], "suits": wake["suits"]}
    use = "comes with roomtone[wake]"
    shipped = [{"name": name, "language": language, "use": use} for name, language in wake["shipped"].items()]
    return [{**common, **word} for word in [*shipped, *wake["models"]]]


def _voices(voices: dict[str, Any]) -> list[dict[str, Any]]:
    """Return voices; their names say where their files are."""
    told = []
    for name, size in voices["names"].items():
        locale, speaker, quality = name.split("-")
        path = f"{locale.partition('_')[0]}/{locale}/{speaker}/{quality}/{name}.onnx"
        about = {
            "name": name,
            "repo": voices["repo"],
            "revision": voices["revision"],
            "files": [f"{path}.json", path],
            "language": locale,
            "licence": voices["licences"].get(speaker, "see its MODEL_CARD"),
            "megabytes": size,
        }
        told.append(about | voices["qualities"][quality])
    return told


def find(text: str, known: dict[str, Entry], also: Iterable[str] = ()) -> Entry:
    """Return the entry that is meant. Raises UsageError with what was probably meant where there is none.

    ``also`` are words that might have been meant instead of a name.
    """
    prefixed = (f"{form.prefix}{text}" for form in models.FORMS.values() if form.prefix)
    for name in (text, text.removesuffix(".onnx"), *prefixed):
        if name in known:
            return known[name]
    near = guess(text, [*known, *also])
    hint = near if "mean" in near else "roomtone models list shows those there are"
    raise UsageError(f"there is no model '{text}'; {hint}", model=text)
