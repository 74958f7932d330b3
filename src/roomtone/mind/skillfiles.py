"""Reads a skill's folder (its shape is told in ``roomtone.mind.skills``) and refuses what is wrong with it."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from hassil import Intents, recognize
from hassil.parse_expression import parse_sentence
from hassil.sample import sample_sentence
from pydantic import Field, ValidationError

from roomtone.core.dialog import Noun
from roomtone.core.errors import ConfigError
from roomtone.mind.grammar import Converter, Node, either
from roomtone.mind.phrases import Polite
from roomtone.mind.skills import Answering, Skill

SHIPPED = Path(__file__).parent / "skills"
NAME = re.compile(r"[a-z][a-z0-9_]*")


class IntentFile(Noun):
    """One intent of a skill's file."""

    sentences: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    loose: tuple[str, ...] = ()
    samples: tuple[str, ...] = ()
    dismisses: bool = False
    backchannel: bool = False
    bare: bool = False
    opening: bool = False


class SkillFile(Noun):
    """A skill's file."""

    language: str
    about: str = ""
    intents: dict[str, IntentFile] = Field(min_length=1)
    lists: dict[str, dict[str, Any]] = Field(default_factory=dict)
    expansion_rules: dict[str, str] = Field(default_factory=dict)
    replies: dict[str, str | list[str]] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A skill, and its templates: ``strict`` and ``loose`` for texts, ``spoken`` (by intent) as graphs of words."""

    path: Path
    skill: Skill
    file: SkillFile
    strict: Intents
    loose: Intents
    spoken: dict[str, Node]


def folders(place: Path, language: str) -> list[Path]:
    """List the skills in a folder that speak a language."""
    return sorted(found.parent for found in place.glob(f"*/{language}.yaml"))


def load(folder: Path, language: str) -> Loaded:
    """Read a skill's folder. Raises ConfigError with the file and the reason for one that is broken."""
    path = folder / f"{language}.yaml"
    if not NAME.fullmatch(folder.name):
        raise ConfigError(f"{folder}: a skill's folder is named with a-z, 0-9 and _ only", file=str(folder))
    try:
        file = SkillFile.model_validate(yaml.safe_load(path.read_text("utf-8")))
        strict, loose = _intents(file, "sentences", "unfinished"), _intents(file, "loose")
        spoken = _graphs(strict, language)
        _graphs(loose, language)
    except ValidationError as error:
        mistake = error.errors()[0]
        key = ".".join(str(part) for part in mistake["loc"])
        raise ConfigError(f"{path}: {key}: {mistake['msg']}", file=str(path), key=key) from error
    except Exception as error:  # hassil says what is wrong with a template by exceptions of every kind
        raise ConfigError(f"{path}: {_reason(error)}", file=str(path)) from error
    skill = Skill(folder.name, _code(folder), file.about, _examples(file), file.replies)
    return Loaded(path, skill, file, strict, loose, spoken)


def check(loaded: Loaded) -> None:
    """Hold a skill to its own samples, and to having something to say.

    Raises ConfigError for a sample that is not understood as its intent, or a missing reply.
    """
    for name, intent in loaded.file.intents.items():
        if loaded.skill.answer is None and name not in loaded.file.replies:
            raise ConfigError(f"{loaded.path}: replies: there is none for '{name}', and no code that gives one")
        for sample in intent.samples:
            found = recognize(sample, loaded.strict) or recognize(sample, loaded.loose)
            if found is None or found.intent.name != name:
                raise ConfigError(f"{loaded.path}: {name}: its sample is not understood so: {sample}")


def polite(templates: Polite, language: str) -> tuple[str, Node | None]:
    """Return what may stand around a command as a regular expression, and as a graph what is spoken of it."""
    spoken = [parse_sentence(template) for template in templates.spoken]
    typed = [parse_sentence(template) for template in templates.typed]
    spelt = [text.strip() for sentence in (*spoken, *typed) for text in sample_sentence(sentence)]
    longest_first = "|".join(map(re.escape, sorted(spelt, key=len, reverse=True)))
    return longest_first, either(Converter(language, {}, {}).node(sentence.expression) for sentence in spoken)


def _intents(file: SkillFile, *kinds: str) -> Intents:
    """Put the templates of some kinds into the form that hassil searches, in the file's order.

    Each is a block of its own, as within a block hassil tries those with wildcards first.
    """
    blocks = {
        name: [
            {"sentences": [template], "metadata": {"unfinished": kind == "unfinished"}}
            for kind in kinds
            for template in getattr(intent, kind)
        ]
        for name, intent in file.intents.items()
    }
    content = {
        "language": file.language,
        "intents": {name: {"data": data} for name, data in blocks.items() if data},
        "lists": file.lists,
        "expansion_rules": file.expansion_rules,
    }
    return Intents.from_dict(content)


def _graphs(intents: Intents, language: str) -> dict[str, Node]:
    converter = Converter(language, intents.slot_lists, intents.expansion_rules)
    graphs = {
        name: either(converter.node(sentence.expression) for data in intent.data for sentence in data.sentences)
        for name, intent in intents.intents.items()
    }
    return {name: graph for name, graph in graphs.items() if graph is not None}


def _examples(file: SkillFile) -> tuple[str, ...]:
    return tuple(intent.samples[0] for intent in file.intents.values() if intent.samples)


def _code(folder: Path) -> Answering | None:
    """Import a skill's code, which for a household's own skill stands outside any package."""
    path = folder / "__init__.py"
    if not path.is_file():
        return None
    name = f"{'roomtone.mind.skills' if folder.parent == SHIPPED else 'roomtone_household_skills'}.{folder.name}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path}: cannot be imported", file=str(path))
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        return cast("Answering", module.answer)
    except Exception as error:
        raise ConfigError(f"{path}: {_reason(error)}", file=str(path)) from error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
