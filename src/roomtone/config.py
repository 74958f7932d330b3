"""Configuration: YAML, environment and credentials become one frozen settings tree; every mistake at once.

The file is the one named by ``--config``, else by ``ROOMTONE_CONFIG``, else ``/etc/roomtone/config.yaml``, else
``config.yaml`` in the user's own folder; with none of them everything has its default. A variable such as
``ROOMTONE__LISTEN__MODE`` goes before the file. A value ``credential:NAME`` is read from
``$CREDENTIALS_DIRECTORY`` (systemd: NAME, or roomtone_NAME of the folder that the units load), else from that folder,
``/etc/roomtone/credentials``, or from the variable NAME, and is never printed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import platformdirs
from pydantic import ValidationError
from pydantic_core import ErrorDetails, to_jsonable_python

from roomtone import engines
from roomtone.config_sources import SECRET_NAME, Raw, describe, dotted, guess, read, without_password
from roomtone.core.errors import ConfigError
from roomtone.settings import OPTIONAL, SEAMS, Provider, Settings, default_state_dir, room_beside

__all__ = [
    "LAST_GOOD",
    "SYSTEM_FILE",
    "Settings",
    "checked",
    "default_state_dir",
    "fallbacks",
    "find_file",
    "flat",
    "keep",
    "load",
    "load_or_last_good",
    "masked",
    "room_beside",
]

SYSTEM_FILE = Path("/etc/roomtone/config.yaml")
LAST_GOOD = "config.last-good.yaml"

ALL_SECRET = ("headers", "env")
"""Sections in which every value may be a key, whatever it is called."""


# -------------------------------------------------------------------------------------------- loading


def find_file(path: Path | None, env: Mapping[str, str]) -> Path | None:
    """Return the file to read: the one named, else the machine's, else the user's; None where there is none."""
    named = path or env.get("ROOMTONE_CONFIG")
    if named:
        return Path(named)
    own = Path(platformdirs.user_config_dir("roomtone")) / "config.yaml"
    return next((candidate for candidate in (SYSTEM_FILE, own) if os.path.lexists(candidate)), None)


def load(path: Path | None = None, env: Mapping[str, str] = os.environ) -> Settings:
    """Read, check and return the configuration.

    Raises ConfigError with every mistake: a line each in the message, and as ``details["mistakes"]``.
    """
    return _load(find_file(path, env), env)


def _load(file: Path | None, env: Mapping[str, str]) -> Settings:
    raw = read(file, env)
    settings = checked(raw)
    if raw.mistakes or settings is None:
        lines = [str(mistake) for mistake in raw.mistakes]
        raise ConfigError("\n".join(lines), mistakes=lines)
    return settings


def load_or_last_good(
    path: Path | None = None, state_dir: Path | None = None, env: Mapping[str, str] = os.environ
) -> tuple[Settings, list[str]]:
    """Return the configuration, or where it is wrong the last good one, or the defaults; and the mistakes.

    The variables of the environment go before the file and before the defaults, as far as they are right.
    """
    try:
        return load(path, env), []
    except ConfigError as error:
        return fallbacks(state_dir, env)[0], list(error.details["mistakes"])


def fallbacks(state_dir: Path | None = None, env: Mapping[str, str] = os.environ) -> list[Settings]:
    """Return what to go on with where the configuration cannot be used: the last good one, then the defaults."""
    kept = (state_dir or default_state_dir(env)) / LAST_GOOD
    plain = {name: value for name, value in env.items() if not name.startswith("ROOMTONE__")}
    last_good = [(kept, env), (kept, plain)] if kept.is_file() else []
    found = []
    for candidate, variables in (*last_good, (None, env)):
        try:
            found.append(_load(candidate, variables))
        except ConfigError:
            continue
    return [*found, Settings()]


def keep(path: Path | None = None, state_dir: Path | None = None, env: Mapping[str, str] = os.environ) -> list[str]:
    """Keep a copy of a file that worked in ``state_dir``; return what hinders that, if anything.

    ``state_dir`` None is the default one, so that the copy is found again when the file that names another cannot
    be read.
    """
    return _keep(find_file(path, env), (state_dir or default_state_dir(env)) / LAST_GOOD)


def _keep(file: Path | None, kept: Path) -> list[str]:
    """Copy a good file beside the state; written only when it has changed, since SD cards wear out."""
    try:
        if file is None:
            kept.unlink(missing_ok=True)
            return []
        text = file.read_bytes()
        if kept.is_file() and kept.read_bytes() == text:
            return []
        kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = kept.with_suffix(".new")
        fresh.touch(0o600)
        fresh.write_bytes(text)
        fresh.replace(kept)
    except OSError as error:
        return [f"{kept}: the last good configuration cannot be kept ({error.strerror}); mend the state folder"]
    return []


# ------------------------------------------------------------------------------------------- checking


def checked(raw: Raw) -> Settings | None:
    """Check values against the settings tree; what is wrong with them is noted in ``raw.mistakes``."""
    try:
        settings = Settings.model_validate(raw.values)
    except ValidationError as error:
        settings = None
        for detail in error.errors(include_url=False):
            fields = _fields_at(detail["loc"][:-1])
            raw.mistake(detail["loc"], *describe(detail, fields, dotted(Settings.model_fields)))
    for path, seam, section in _engine_sections(raw.values):
        _check_engine(raw, path, seam, section)
    if settings is not None:
        for name in settings.llm.route:
            if name not in settings.llm.providers:
                raw.mistake(("llm", "route"), f"there is no provider '{name}'", guess(name, settings.llm.providers))
    return settings


def _fields_at(loc: tuple[int | str, ...]) -> list[str]:
    """List the keys possible in the section at ``loc``."""
    model: Any = Settings
    for part in loc:
        fields = getattr(model, "model_fields", {})
        # what is no field is an entry of a mapping: its values are of the last type argument
        model = fields[part].annotation if part in fields else (get_args(model) or (None,))[-1]
    return list(getattr(model, "model_fields", {}))


def _engine_sections(values: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], str, dict[str, Any]]]:
    """List the sections that hold an engine's own keys: where each stands, for which seam, and what is in it."""
    for seam in (*SEAMS, *OPTIONAL):
        if isinstance(values.get(seam), dict):
            yield (seam,), seam, values[seam]
    llm = values.get("llm")
    providers = llm.get("providers") if isinstance(llm, dict) else None
    if isinstance(providers, dict):
        for name, section in providers.items():
            if isinstance(section, dict) and "engine" in section:
                yield ("llm", "providers", name), "llm", section


def _check_engine(raw: Raw, path: tuple[str, ...], seam: str, section: dict[str, Any]) -> None:
    """Check an engine's own keys with that engine's Settings; with ``auto``, against all of the seam's."""
    own = Provider.model_fields if seam == "llm" else type(Settings.model_fields[seam].default).model_fields
    keys = {key: value for key, value in section.items() if key not in own}
    name = section.get("engine", "auto")
    if not isinstance(name, str):
        return  # reported as a wrong type
    try:
        shipped = engines.names(seam)
        order = [each for each in engines.auto_order(seam) if each in shipped]
        candidates = {each: engines.load(seam, each).Settings for each in (shipped if name == "auto" else [name])}
    except Exception as error:  # another package's module may raise anything
        wrong = f"there is no engine '{name}'" if "." not in name else f"'{name}' cannot be imported ({error})"
        raw.mistake((*path, "engine"), wrong, guess(name, ["auto", *engines.names(seam)]))
        return
    known = {*own, *(key for candidate in candidates.values() for key in candidate.model_fields)}
    for key in keys.keys() - known:
        of_whom = "" if name == "auto" or seam == "llm" else f" of '{name}'"
        raw.mistake((*path, key), "unknown key" + of_whom, guess(key, known))
    for candidate in order if name == "auto" else [name]:
        fields = candidates[candidate].model_fields
        _check_values(raw, path, candidates[candidate], {key: keys[key] for key in keys if key in fields})


def _check_values(raw: Raw, path: tuple[str, ...], model: type[engines.EngineSettings], keys: dict[str, Any]) -> None:
    try:
        model.model_validate(keys)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            raw.mistake((*path, *detail["loc"]), *describe(_placed(detail, path), model.model_fields))


def _placed(detail: ErrorDetails, path: tuple[str, ...]) -> ErrorDetails:
    return {**detail, "loc": (*path, *detail["loc"])}


# --------------------------------------------------------------------------------------------- showing


def masked(settings: Settings) -> dict[str, Any]:
    """Return the settings as plain data, every secret replaced by ``***``."""
    plain: dict[str, Any] = to_jsonable_python(settings.model_dump(), fallback=str, serialize_unknown=True)
    return {name: _masked(name, value) for name, value in plain.items()}


def _masked(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        secret = name in ALL_SECRET
        return {key: "***" if secret else _masked(key, inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_argument(name, *pair) for pair in zip(["", *value], value, strict=False)]
    if value in (None, ""):
        return value
    if isinstance(value, str):
        return "***" if SECRET_NAME.search(name) or set(value) == {"*"} else without_password(value)
    return value


def _argument(name: str, before: Any, value: Any) -> Any:
    """Mask an item of a list as ``_masked``, and what a program is given as ``--token X`` or ``--token=X``."""
    if not isinstance(value, str):
        return _masked(name, value)
    option, joint, _ = value.partition("=")
    if joint and option.startswith("-") and SECRET_NAME.search(option):
        return f"{option}=***"
    is_secret = isinstance(before, str) and re.match(r"-[^=]*\Z", before) and SECRET_NAME.search(before)
    return "***" if is_secret else _masked(name, value)


def flat(settings: Settings) -> Iterator[tuple[str, Any]]:
    """List dotted keys and their masked values, in the order of the README."""
    return _flat(masked(settings), "")


def _flat(values: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
