"""Engines: a folder is a seam, a file in it is an engine, the file's name is its name in the config.

An engine file holds

- ``Settings``: a frozen pydantic model; its fields are the keys under the seam's section in the config;
- ``missing(settings) -> str | None``: None where the engine can be opened on this machine, else one line that
  says what is missing and the command that mends it. It must be quick and must not import heavy libraries;
- ``open(settings)``: an async context manager that yields an object with the seam's one method and frees it. The
  library behind the engine is imported in there.

The seam's Protocol and ``AUTO``, the order in which ``auto`` tries engines, stand in the folder's ``__init__``.
A dotted name in the config (``mypackage.my_stt``) loads an engine from another package.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib import util
from typing import TYPE_CHECKING, Any, Protocol, cast

from roomtone import installed
from roomtone.core.errors import ConfigError, EngineUnavailable

if TYPE_CHECKING:
    from roomtone.engines._settings import EngineSettings as EngineSettings

SCRIPTED = ("script", "tone")
"""Engines for rehearsals, which hear and say what they were told."""

NAMING = ("voice", "model")
"""Keys that name what one engine has and those that stand in for it do not."""

SEAMS = ("audio", "vad", "wake", "echo", "stt", "llm", "tts", "embed", "tools")


def __getattr__(name: str) -> Any:
    """Import the base of every engine's Settings when it is asked for: a child goes without pydantic's 8 MB."""
    if name == "EngineSettings":
        return importlib.import_module("roomtone.engines._settings").EngineSettings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class EngineFile(Protocol):
    """What an engine's module holds."""

    Settings: type[EngineSettings]

    def missing(self, settings: Any) -> str | None:
        """Return why the engine cannot be opened here and what mends it, or None."""

    def open(self, settings: Any) -> AbstractAsyncContextManager[Any]:
        """Open the engine; it is freed when the context ends."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One engine of a seam as ``roomtone engines`` shows it."""

    seam: str
    name: str
    chosen: bool
    missing: str | None


def names(seam: str) -> list[str]:
    """List the engines that come with Roomtone for a seam, by name."""
    package = importlib.import_module(f"roomtone.engines.{seam}")
    return sorted(info.name for info in pkgutil.iter_modules(package.__path__) if not info.name.startswith("_"))


def auto_order(seam: str) -> tuple[str, ...]:
    """Return the engines that ``auto`` tries for a seam, best first."""
    return cast("tuple[str, ...]", importlib.import_module(f"roomtone.engines.{seam}").AUTO)


def load(seam: str, name: str) -> EngineFile:
    """Import an engine's file.

    Raises ConfigError for a name that is neither an engine of the seam nor an importable dotted name.
    """
    path = name if "." in name else f"roomtone.engines.{seam}.{name}"
    if "." not in name and name not in names(seam):
        raise ConfigError(
            f"{seam}.engine: there is no engine '{name}'; choose one of {', '.join(['auto', *names(seam)])}",
            seam=seam,
            engine=name,
        )
    try:
        found = util.find_spec(path)
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise ConfigError(f"{seam}.engine: the package of '{name}' is not installed; pip install it first")
    return cast("EngineFile", importlib.import_module(path))


def choose(
    seam: str, name: str, keys: Mapping[str, Any], given: Mapping[str, Any] | None = None
) -> tuple[str, EngineSettings]:
    """Settle which engine a section of the config means, and read its keys into that engine's Settings.

    ``auto`` takes the first engine of ``AUTO`` that can be opened here; keys that belong to another engine
    of the seam are then passed over. ``given`` holds what the rest of the configuration says (``models_dir``), for
    engines whose Settings have such a field. Raises EngineUnavailable where none can be opened, ConfigError for
    keys that no engine knows, pydantic's ValidationError for wrong values.
    """
    if name != "auto":
        engine = load(seam, name)
        return name, engine.Settings.model_validate({**_known(engine, given or {}), **keys})
    reasons = []
    for candidate in auto_order(seam):
        engine = load(seam, candidate)
        settings = engine.Settings.model_validate(_known(engine, {**(given or {}), **keys}))
        reason = engine.missing(settings)
        if reason is None:
            return candidate, settings
        reasons.append(f"{candidate}: {reason}")
    raise EngineUnavailable(f"no {seam} engine can be opened here; {'; '.join(reasons)}", seam=seam)


def spares(
    seam: str, chosen: str, keys: Mapping[str, Any], given: Mapping[str, Any] | None = None
) -> list[tuple[str, EngineSettings]]:
    """List the engines that stand in where the chosen one fails, with their settings: what ``auto`` tries after it.

    Nothing stands in for an engine that does as it is told: a rehearsed failure is meant to be seen.
    """
    order = auto_order(seam)
    if chosen in SCRIPTED:
        return []
    common = {key: value for key, value in keys.items() if key not in NAMING}
    found = []
    for candidate in order[order.index(chosen) + 1 :] if chosen in order else order:
        engine = load(seam, candidate)
        settings = engine.Settings.model_validate(_known(engine, {**(given or {}), **common}))
        if engine.missing(settings) is None:
            found.append((candidate, settings))
    return found


def _known(engine: EngineFile, keys: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in keys.items() if key in engine.Settings.model_fields}


def survey(seam: str, name: str, keys: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> list[Candidate]:
    """List a seam's engines with what each lacks here, and which one the config's choice comes to."""
    try:
        chosen = choose(seam, name, keys, given)[0]
    except EngineUnavailable:
        chosen = ""
    found = []
    for candidate in sorted({*names(seam), *([chosen] if chosen else [])}):
        engine = load(seam, candidate)
        reason = engine.missing(engine.Settings.model_validate(_known(engine, {**(given or {}), **keys})))
        found.append(Candidate(seam, candidate, candidate == chosen, reason))
    return found


def open_engine(seam: str, name: str, settings: EngineSettings) -> AbstractAsyncContextManager[Any]:
    """Open an engine chosen by ``choose``.

    Raises EngineUnavailable with one line of mending where something it needs is absent.
    """
    engine = load(seam, name)
    reason = engine.missing(settings)
    if reason is not None:
        raise EngineUnavailable(f"{seam} engine '{name}': {reason}", seam=seam, engine=name)
    return engine.open(settings)


def lacking(module: str, extra: str | None = None) -> str | None:
    """Return the line that installs a missing Python module, or None where it is there.

    ``extra`` is the extra of Roomtone's that brings it; without one the base install is broken.
    """
    if util.find_spec(module) is not None:
        return None
    mend = installed.bringing(extra) if extra else "pip install --force-reinstall roomtone"
    return f"the Python package {module} is not installed; run: {mend}"
