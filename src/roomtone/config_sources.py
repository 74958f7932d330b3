"""Where configuration comes from: a YAML file, ROOMTONE__ variables, credentials. And what is wrong with it.

Nothing here raises for a mistake a person made: mistakes are collected, so that all are shown at once.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import SecretStr
from pydantic_core import ErrorDetails

PREFIX = "ROOMTONE__"
LARGEST_FILE = 1_000_000
"""Bytes. A configuration is a page or two; what is larger was named by accident."""

CREDENTIAL = "credential:"
CREDENTIALS = Path("/etc/roomtone/credentials")
"""The household's secrets, a file each; the units load them all."""

SECRET_NAME = re.compile(r"key|token|passw|secret|credential|psk", re.IGNORECASE)
_URL_KEY = re.compile(rf"([?&;][^=&\s]*(?:{SECRET_NAME.pattern})[^=&\s]*=)[^&#\s]+", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(?<=://)([^/@\s]*):[^/@\s]*@")
_CREDENTIAL = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong: in which file or variable, at which dotted key, and what mends it."""

    where: str
    key: str
    wrong: str
    mend: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.key, f"{self.wrong}; {self.mend}") if part)


@dataclass(slots=True)
class Raw:
    """Values as they were written, before any checking, and where each came from."""

    file: str
    values: dict[str, Any] = field(default_factory=dict)
    variables: dict[tuple[str, ...], str] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)

    def where(self, key: Sequence[object]) -> str:
        """Name the variable that set this key, or something around it, else the file."""
        path = tuple(str(part) for part in key)
        for length in range(len(path), 0, -1):
            if path[:length] in self.variables:
                return self.variables[path[:length]]
        return self.file

    def mistake(self, key: Sequence[object], wrong: str, mend: str) -> None:
        """Note a mistake at a key."""
        self.mistakes.append(Mistake(self.where(key), ".".join(str(part) for part in key), wrong, mend))


def read(path: Path | None, env: Mapping[str, str]) -> Raw:
    """Read the file (None: there is none), lay the variables over it and resolve the credentials."""
    return completed(as_written(path), env)


def as_written(path: Path | None) -> Raw:
    """Read the file (None: there is none), and nothing else."""
    raw = Raw(str(path or ""))
    if path is not None:
        _read_file(path, raw)
    return raw


def completed(raw: Raw, env: Mapping[str, str]) -> Raw:
    """Lay the variables over what a file says and resolve its credentials."""
    _lay_variables_over(raw, env)
    raw.values = dict(_resolved(raw.values, (), raw, env))
    return raw


# ----------------------------------------------------------------------------------------------- file


class _Loader(yaml.SafeLoader):
    """YAML as people mean it: a key written twice is a mistake, not a silent choice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key that is no word", key.start_mark)
            if key.value in seen and key.tag == "tag:yaml.org,2002:str":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key.value}' stands here twice", key.start_mark
                )
            seen.add(key.value if isinstance(key.value, str) else id(key))
        return super().construct_mapping(node, deep)


def _read_file(path: Path, raw: Raw) -> None:
    text = read_text(path, raw)
    if text is not None:
        parse(text, raw)


def parse(text: str, raw: Raw) -> None:
    """Take a file's text as values, or note what is wrong with it."""
    try:
        values = yaml.load(text, _Loader)
        if values is not None and not isinstance(values, dict):
            kind = "a list" if isinstance(values, list) else "a single value"
            raw.mistake((), f"holds {kind}, not sections", "write it as in 'device: {room: kitchen}'")
        else:
            written = _with_text_keys(values or {})
            raw.values = {key: value for key, value in written.items() if value is not None}  # all commented out
    except yaml.MarkedYAMLError as error:
        raw.mistake((), *yaml_mistake(error))
    except yaml.YAMLError:
        raw.mistake((), "is not a text file", "write the configuration as YAML in UTF-8")
    except (RecursionError, ValueError) as error:
        what = "contains itself" if isinstance(error, RecursionError) else f"cannot be read ({error})"
        raw.mistake((), what, "write it without references and without odd dates")


def read_text(path: Path, raw: Raw, largest: int = LARGEST_FILE) -> str | None:
    """Read a file of at most ``largest`` bytes; None where it is none, and that is noted."""
    try:
        if path.is_dir():
            raw.mistake((), "is a folder", f"name the file in it, such as {path / 'config.yaml'}")
        elif path.exists() and not path.is_file():
            raw.mistake((), "is not a regular file", "name a YAML file")
        elif path.exists() and path.stat().st_size > largest:
            raw.mistake((), f"is larger than {largest // 1000} kB", "name the configuration file")
        else:
            return path.read_text("utf-8-sig")
    except FileNotFoundError:
        raw.mistake((), "there is no such file", "create it, or name another with --config")
    except PermissionError:
        raw.mistake((), "may not be read by this user", f"run: sudo chmod g+r {path} (and join its group)")
    except UnicodeDecodeError:
        raw.mistake((), "is not a text file", "write the configuration as YAML in UTF-8")
    except (OSError, ValueError) as error:
        raw.mistake((), f"cannot be read ({getattr(error, 'strerror', None) or error})", "name a readable file")
    return None


def yaml_mistake(error: yaml.MarkedYAMLError) -> tuple[str, str]:
    """Say in a person's words what is wrong with a text that is no YAML, and what mends it."""
    mark = error.problem_mark or error.context_mark
    line = f"line {mark.line + 1}: " if mark else ""
    problem = error.problem or "this is not YAML"
    if "'\\t'" in problem:
        return f"{line}there is a tab", "indent with spaces"
    if "stands here twice" in problem:
        return line + problem, "keep one of the two"
    return f"{line}broken YAML: {problem}", "check the indentation, colons and quotes there"


def _with_text_keys(values: Any) -> Any:
    if isinstance(values, dict):
        return {str(key): _with_text_keys(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_with_text_keys(value) for value in values]
    return values


# ---------------------------------------------------------------------------------- variables, credentials


def _lay_variables_over(raw: Raw, env: Mapping[str, str]) -> None:
    for name in sorted(env):
        if not name.startswith(PREFIX):
            continue
        path = tuple(name.removeprefix(PREFIX).lower().split("__"))
        if not all(path):
            raw.mistakes.append(Mistake(name, "", "names no key", "write it as in ROOMTONE__LISTEN__MODE"))
            continue
        raw.variables[path] = name
        _put(raw.values, path, _variable_value(env[name], path, raw))


def _variable_value(text: str, path: tuple[str, ...], raw: Raw) -> Any:
    if text.lstrip()[:1] not in ("[", "{"):
        return text
    try:
        return _with_text_keys(yaml.load(text, _Loader))
    except (yaml.YAMLError, ValueError, RecursionError):
        raw.mistake(path, "broken YAML", "write lists as [a, b] and sections as {key: value}")
        return text


def _put(values: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    *sections, key = path
    for section in sections:
        inner = values.setdefault(section, {})
        if inner is None:
            inner = values[section] = {}
        if not isinstance(inner, dict):
            return  # what stands there is wrong by itself and will be reported
        values = inner
    values[key] = value


def _resolved(values: Any, path: tuple[object, ...], raw: Raw, env: Mapping[str, str]) -> Any:
    if isinstance(values, dict):
        shown = {key: value for key, value in values.items() if not _is_hidden(value, env)}
        return {key: _resolved(value, (*path, key), raw, env) for key, value in shown.items()}
    if isinstance(values, list):
        return [_resolved(value, (*path, index), raw, env) for index, value in enumerate(values)]
    if isinstance(values, str) and values.startswith(CREDENTIAL):
        return _credential(values.removeprefix(CREDENTIAL).strip(), path, raw, env)
    return values


def _credential(name: str, path: tuple[object, ...], raw: Raw, env: Mapping[str, str]) -> SecretStr:
    if not _CREDENTIAL.fullmatch(name) or name in (".", ".."):
        raw.mistake(path, f"'{name[:40]}' cannot be a credential's name", "write it as in credential:anthropic")
        return SecretStr("")
    for file in _credential_files(name, env):
        try:
            if file.exists():
                return SecretStr(file.read_text("utf-8").strip())
        except (OSError, UnicodeDecodeError) as error:
            wrong = (
                f"the credential '{name}' cannot be read ({getattr(error, 'strerror', None) or 'it is not a text'})"
            )
            raw.mistake(path, wrong, f"write it anew to {CREDENTIALS / name}")
            return SecretStr("")
    for variable in _variables(name):
        if env.get(variable):
            return SecretStr(env[variable])
    mend = f"write it to {CREDENTIALS / name} and restart roomtone, or set the variable {variable}"
    raw.mistake(path, f"there is no credential '{name}'", mend)
    return SecretStr("")


def _is_hidden(value: Any, env: Mapping[str, str]) -> bool:
    """Say whether a value is a credential that this user may not see: who only asks the daemon does without it."""
    if not isinstance(value, str) or not value.startswith(CREDENTIAL) or env.get("CREDENTIALS_DIRECTORY"):
        return False
    variables = _variables(value.removeprefix(CREDENTIAL).strip())
    return os.path.isdir(CREDENTIALS) and not os.access(CREDENTIALS, os.X_OK) and not any(map(env.get, variables))


def _variables(name: str) -> tuple[str, str]:
    return name, re.sub(r"[-.]", "_", name).upper()


def _credential_files(name: str, env: Mapping[str, str]) -> list[Path]:
    """List where a credential may be: systemd puts a file of a loaded folder under the folder's name and its own.

    Who asks by hand and may read the household's folder, which root alone may, finds what the service would.
    """
    loaded = env.get("CREDENTIALS_DIRECTORY")
    if loaded:
        return [Path(loaded) / name, Path(loaded) / f"roomtone_{name}"]
    return [CREDENTIALS / name] if os.access(CREDENTIALS, os.X_OK) else []


# ------------------------------------------------------------------------------------------ describing


def describe(error: ErrorDetails, known: Iterable[str], elsewhere: Iterable[str] = ()) -> tuple[str, str]:
    """Say in a person's words what pydantic found wrong and what mends it.

    ``known`` are the keys possible at that place, ``elsewhere`` dotted keys of the whole tree.
    """
    kind, shown = error["type"], _shown(error["input"], error["loc"])
    if kind == "extra_forbidden":
        return "unknown key", guess(str(error["loc"][-1]), known, elsewhere)
    if kind == "literal_error":
        expected = str(error["ctx"]["expected"])
        return f"{shown} is not possible", f"choose {expected}"
    if isinstance(error["input"], SecretStr):
        return "this key takes no credential", "write its value here"
    return _DESCRIBED.get(kind, _other)(shown, error)


def _other(shown: str, error: ErrorDetails) -> tuple[str, str]:
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, ValueError):
        wrong, _, mend = str(cause).partition("; ")
        return f"{shown} {wrong}", mend or "see the README"
    should = re.sub(r"^(Input|Value) should (be |have )?", "", error["msg"])
    return f"{shown} is not possible", f"it should be {should[:1].lower()}{should[1:]}"


_NOT_SECTION = ("must be a section", "write its keys indented under it, or as {key: value}")
_DESCRIBED: dict[str, Callable[[str, ErrorDetails], tuple[str, str]]] = {
    "missing": lambda _, __: ("is missing", "add it"),
    "string_type": lambda shown, _: (f"{shown} is not a text", "put it in quotes"),
    "bool_type": lambda shown, _: (f"{shown} is neither true nor false", "write true or false"),
    "bool_parsing": lambda shown, _: (f"{shown} is neither true nor false", "write true or false"),
    "int_type": lambda shown, _: (f"{shown} is not a whole number", "write one such as 3"),
    "int_parsing": lambda shown, _: (f"{shown} is not a whole number", "write one such as 3"),
    "int_from_float": lambda shown, _: (f"{shown} is not a whole number", "write one such as 3"),
    "float_type": lambda shown, _: (f"{shown} is not a number", "write one such as 1.5"),
    "float_parsing": lambda shown, _: (f"{shown} is not a number", "write one such as 1.5"),
    "list_type": lambda shown, _: (f"{shown} is not a list", "write it as [a, b]"),
    "tuple_type": lambda shown, _: (f"{shown} is not a list", "write it as [a, b]"),
    "model_type": lambda _, __: _NOT_SECTION,
    "dict_type": lambda _, __: _NOT_SECTION,
}


def _shown(value: Any, loc: Sequence[object]) -> str:
    if isinstance(value, SecretStr) or any(SECRET_NAME.search(str(part)) for part in loc):
        return "the value"
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "this section"  # it may hold secrets
    text = without_password(str(value) if isinstance(value, (int, float)) else repr(value))
    return text if len(text) <= 60 else text[:57] + "..."


def without_password(text: str) -> str:
    """Mask the password in a URL, and what its query names a key or the like."""
    return _URL_KEY.sub(r"\1***", _URL_PASSWORD.sub(r"\1:***@", text))


def guess(key: str, known: Iterable[str], elsewhere: Iterable[str] = ()) -> str:
    """Say which key was probably meant."""
    here = sorted(known)
    close = difflib.get_close_matches(key.lower(), here, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    for dotted in elsewhere:
        if dotted.rpartition(".")[2] == key:
            return f"did you mean {dotted}?"
    return f"possible here: {', '.join(here)}" if here else "take it out"


def dotted(fields: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """List the dotted keys of a tree of models' fields."""
    for name, info in fields.items():
        yield prefix + name
        inner = getattr(info.annotation, "model_fields", None)
        if inner:
            yield from dotted(inner, f"{prefix}{name}.")
