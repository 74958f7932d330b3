"""What the files of a persona's folder say, and every mistake in them. It reads no disk: files come as bytes."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath
from string import Formatter
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from roomtone.config_sources import describe, yaml_mistake
from roomtone.core.errors import ConfigError
from roomtone.core.persona import AdaptationMode, Example, KnowledgeFile, Persona
from roomtone.core.schedule import cron
from roomtone.mind.phrases import load_language
from roomtone.mind.prompt import mistakes_in
from roomtone.mind.skillfiles import shipped
from roomtone.personas.files import Files, fingerprint

CONFIG, PROMPT = "config.yaml", "system_prompt.md"

ELSEWHERE = {
    "id": "the folder's name is its id",
    "content": "is worked out of the files",
    "system_prompt": f"stands in {PROMPT}",
    "examples": "stand in examples/*.json",
    "knowledge": "stands in knowledge/*.md",
    "jokes": "stand in jokes.<language>.yaml",
    "phrases": "stand in phrases.<language>.yaml",
}
"""What a persona has and its config.yaml does not give."""

KEYS = tuple(name for name in Persona.model_fields if name not in ELSEWHERE)

BY_LANGUAGE = re.compile(r"(jokes|phrases)\.([a-z]{2,3}(?:-[A-Za-z0-9]{2,8})*)\.yaml")

GREETING = "{persona} here."
"""What stands for the phrase ``greeting``, which the room itself has not: what may be filled in is what is here."""

EXAMPLES = TypeAdapter(list[Example])
JOKES = TypeAdapter(list[str])
PHRASES = TypeAdapter(dict[str, str | list[str]])

Mistake = tuple[str, str, str]
"""A file, the key in it ("" for the whole file), and the reason."""

Note = Callable[[str, str, str], None]


class _Plain(yaml.SafeLoader):
    """YAML in which a time of day is a text: to YAML 1.1 an hour such as 22:00 is a number to the base of sixty."""


_Plain.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:int"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Plain.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789"))


def parse(persona: str, files: Files) -> tuple[Persona | None, list[Mistake]]:
    """Return what a folder's files come to, or None and the mistakes in them, those of config.yaml first."""
    mistakes: list[Mistake] = []

    def note(file: str, key: str, reason: str) -> None:
        mistakes.append((file, key, reason))

    config = _config(files, note)
    content = {
        **(config or {}),
        "id": persona,
        "content": fingerprint(files),
        "system_prompt": _prompt(files, note),
        "examples": tuple(_examples(files, note)),
        "knowledge": tuple(_knowledge(files, note)),
        **_by_language(files, note),
    }
    read = _validated(content, note) if config is not None else None
    if read is not None:
        _check(read, note)
    return (None if mistakes else read), sorted(mistakes, key=lambda mistake: mistake[0] != CONFIG)


def _config(files: Files, note: Note) -> dict[str, Any] | None:
    """Return what the config says, None where it says nothing that could be looked at."""
    if CONFIG not in files:
        note(CONFIG, "", "is missing; it needs at least a line such as 'name: Companion'")
        return None
    read = _yaml(files, CONFIG, note)
    if not isinstance(read, dict):
        if read is not _BROKEN:
            note(CONFIG, "", "holds no keys; write them as in 'name: Companion'")
        return None
    for key in [key for key in read if key not in KEYS]:
        note(CONFIG, str(key), ELSEWHERE.get(key) or f"there is no such key{_meant(str(key), KEYS)}")
    return {key: value for key, value in read.items() if key in KEYS}


def _validated(content: dict[str, Any], note: Note) -> Persona | None:
    try:
        return Persona.model_validate(content)
    except ValidationError as error:
        for key, reason in _told(error):
            note(CONFIG, key, reason)
    return None


def _check(persona: Persona, note: Note) -> None:
    """Note what each key alone does not show."""
    if persona.schedule_cron is not None:
        try:
            cron(persona.schedule_cron)
        except ValueError as error:
            note(CONFIG, "schedule_cron", str(error))
    if persona.button is not None and not persona.button.strip():
        note(CONFIG, "button", "is empty; give the name of a button, or leave the key out")
    if persona.adaptation_mode is AdaptationMode.INSTRUCTION_RAG and not persona.knowledge:
        note(CONFIG, "adaptation_mode", "instruction_rag needs notes; put some into knowledge/*.md")


def _prompt(files: Files, note: Note) -> str:
    if PROMPT not in files:
        note(PROMPT, "", "is missing; write into it who the persona is and how it speaks")
        return ""
    text = _text(files, PROMPT, note)
    if text is None:
        return ""
    if not text.strip():
        note(PROMPT, "", "is empty; write into it who the persona is and how it speaks")
    for placeholder, reason in mistakes_in(text):
        note(PROMPT, placeholder, reason)
    return text.strip()


def _examples(files: Files, note: Note) -> Iterator[Example]:
    for path in _within(files, "examples", ".json", note):
        text = _text(files, path, note)
        if text is None:
            continue
        try:
            read = json.loads(text)
        except (ValueError, RecursionError) as error:
            note(path, "", f"is not JSON: {_one_line(error)}")
            continue
        try:
            yield from EXAMPLES.validate_python(read if isinstance(read, list) else [read])
        except ValidationError as error:
            for key, reason in _told(error):
                note(path, key if isinstance(read, list) else key.partition(".")[2], reason)


def _knowledge(files: Files, note: Note) -> Iterator[KnowledgeFile]:
    for path in _within(files, "knowledge", ".md", note):
        text = _text(files, path, note)
        if text is not None:
            yield KnowledgeFile(name=PurePosixPath(path).stem, text=text)


def _by_language(files: Files, note: Note) -> dict[str, dict[str, Any]]:
    """Return jokes and phrases, each by language."""
    found: dict[str, dict[str, Any]] = {"jokes": {}, "phrases": {}}
    for path in files:
        kind = path.partition(".")[0]
        if kind not in found or "/" in path:
            continue
        named = BY_LANGUAGE.fullmatch(path)
        if named is None:
            note(path, "", f"is not read; name it as in {kind}.en.yaml")
            continue
        content = _yaml(files, path, note)
        if content is not _BROKEN:
            read = _jokes if kind == "jokes" else _phrases
            found[kind][named[2]] = read(path, named[2], content, note)
    return found


def _jokes(path: str, _: str, content: Any, note: Note) -> tuple[str, ...]:
    try:
        return tuple(JOKES.validate_python(content))
    except ValidationError:
        note(path, "", "expected a list of texts such as '- A joke.'")
    return ()


def _phrases(path: str, language: str, content: Any, note: Note) -> dict[str, str | list[str]]:
    try:
        own = PHRASES.validate_python(content)
        usual = {"greeting": GREETING, **load_language(language).say, **_replies(own, language)}
    except ValidationError as error:
        for key, reason in _told(error):
            note(path, key, reason)
        return {}
    except ConfigError as error:
        note(path, "", error.message)
        return {}
    for key, texts in own.items():
        if key in usual:
            _check_wordings(path, key, texts, _fields(usual[key]), note)
        else:
            note(path, key, f"the room says nothing of this name{_meant(key, usual)}")
    return own


def _replies(own: Iterable[str], language: str) -> dict[str, str | list[str]]:
    """Return the replies of skills, by names such as ``timer.set``, where a persona has some of its own."""
    if not any("." in key for key in own):
        return {}
    return {f"{one.skill.name}.{key}": text for one in shipped(language) for key, text in one.skill.texts.items()}


def _check_wordings(path: str, key: str, texts: str | list[str], known: set[str], note: Note) -> None:
    wordings = [texts] if isinstance(texts, str) else texts
    if not wordings or not all(text.strip() for text in wordings):
        note(path, key, "is empty; write a sentence, or leave the key out")
        return
    try:
        strange = _fields(wordings) - known
    except ValueError as error:
        note(path, key, f"has an odd brace ({error}); write {{{{ for a brace")
        return
    for name in sorted(strange):
        there = f"choose of {', '.join(f'{{{each}}}' for each in sorted(known))}" if known else "none is filled in"
        note(path, key, f"there is no {{{name}}} to fill in here; {there}")


def _fields(texts: str | Iterable[str]) -> set[str]:
    """Return what is filled into texts. Raises ValueError for one whose braces do not match."""
    wordings = [texts] if isinstance(texts, str) else texts
    return {name for text in wordings for _, name, _, _ in Formatter().parse(text) if name is not None}


def _within(files: Files, folder: str, kind: str, note: Note) -> Iterator[str]:
    """Yield the paths of a folder's files in order, and note those of another kind."""
    for path in sorted(files):
        if path.startswith(f"{folder}/"):
            if path.endswith(kind) and path.count("/") == 1:
                yield path
            else:
                note(path, "", f"is not read: {folder}/ holds files that end in {kind} and no folders")


_BROKEN = object()


def _yaml(files: Files, path: str, note: Note) -> Any:
    text = _text(files, path, note)
    if text is None:
        return _BROKEN
    try:
        return yaml.load(text, _Plain)
    except yaml.MarkedYAMLError as error:
        wrong, mend = yaml_mistake(error)
        note(path, "", f"is not YAML: {wrong}; {mend}")
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # odd dates, and what contains itself
        note(path, "", f"is not YAML: {_one_line(error)}")
    return _BROKEN


def _text(files: Files, path: str, note: Note) -> str | None:
    try:
        return files[path].decode("utf-8-sig")
    except UnicodeDecodeError:
        note(path, "", "is not UTF-8 text")
    return None


def _told(error: ValidationError) -> Iterator[tuple[str, str]]:
    """Yield the key and the reason of each mistake, an entry of a list counted from one."""
    for mistake in error.errors(include_url=False):
        key = ".".join(str(part + 1) if isinstance(part, int) else str(part) for part in mistake["loc"])
        reason = mistake["msg"].removeprefix("Value error, ")
        if mistake["type"] == "extra_forbidden":
            reason = "there is no such key"
        elif mistake["type"] == "missing":
            reason = "is missing"
        elif reason.startswith("Input should"):
            reason = "; ".join(describe(mistake, ()))
        if not key:
            key, _, reason = reason.rpartition(": ") if ": " in reason else ("", "", reason)
        yield key, _one_line(reason)


def _meant(key: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(key.lower(), list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _one_line(error: object) -> str:
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) <= 200 else f"{said[:200]}..."
