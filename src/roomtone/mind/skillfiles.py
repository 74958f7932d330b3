"""Reads a skill's folder (its shape is told in ``roomtone.mind.skills``) and refuses what is wrong with it."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hassil import Intents, recognize_all
from hassil.parse_expression import parse_sentence
from hassil.sample import sample_sentence
from hassil.util import normalize_for_matching
from pydantic import Field, TypeAdapter, ValidationError

from roomtone.core.dialog import Noun
from roomtone.core.errors import ConfigError
from roomtone.mind.grammar import Converter, Node, either
from roomtone.mind.own_code import OwnCode, own_accepts
from roomtone.mind.phrases import Phrases, Polite, load_language
from roomtone.mind.skills import Answering, Exchange, Heard, Match, Skill
from roomtone.shipped import shipped as place_of


class Words(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # C where it was built with it
    """YAML in which yes, no, on and off are words, as the people who write sentences mean them."""


Words.yaml_implicit_resolvers = {
    first: [(tag, words) for tag, words in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Words.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("true|false"), list("tf"))

SHIPPED = Path(__file__).parent / "skills"
NAME = re.compile(r"[a-z][a-z0-9_]*")
GLUED_TIME = re.compile(r"(?<=\d):(?=\d\d(?!\d))|(?<=\d)(?=[ap]\.?m\b)", re.IGNORECASE)
"""Where a written time of day holds two words: 7:30am is said as seven, thirty, a.m."""

NAMED = re.compile(r"[<{](\w+)")
"""The lists and rules that a template names."""


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
    agrees: bool | None = None
    replies: bool = False
    answers_ring: bool = False


class SkillFile(Noun):
    """A skill's file."""

    language: str
    about: str = ""
    everyones: bool = False
    places: tuple[str, ...] = ()
    intents: dict[str, IntentFile] = Field(min_length=1)
    lists: dict[str, dict[str, Any]] = Field(default_factory=dict)
    expansion_rules: dict[str, str] = Field(default_factory=dict)
    data: dict[str, Any] = Field(default_factory=dict)
    replies: dict[str, str | list[str]] = Field(default_factory=dict)


Given = Mapping[str, Mapping[str, str]]
"""By the name of a list, what is said and what it means: names that only this household knows."""

NOTHING_GIVEN: Given = {}

CALLED = "called"
"""The key under which a file beside a skill says what people call what is in it."""

DIALOGUES = TypeAdapter(dict[str, tuple[Exchange, ...]])


@dataclass(frozen=True, slots=True)
class Loaded:
    """A skill, and its templates: ``strict`` and ``loose`` for texts, ``spoken`` (by intent) as graphs of words."""

    path: Path
    skill: Skill
    file: SkillFile
    phrases: Phrases
    strict: Intents
    loose: Intents
    spoken: dict[str, Node]

    @property
    def is_filled(self) -> bool:
        """Whether some of its lists hold what the household gives."""
        return any("given" in values for values in self.file.lists.values())


def folders(place: Path, language: str) -> list[Path]:
    """List the skills in a folder that speak a language."""
    return sorted(found.parent for found in place.glob(f"*/{language}.yaml"))


@cache
def shipped(language: str) -> tuple[Loaded, ...]:
    """Read the skills that came with Roomtone, once."""
    return tuple(load(folder, language) for folder in folders(SHIPPED, language))


def load(folder: Path, language: str, given: Given = NOTHING_GIVEN) -> Loaded:
    """Read a skill's folder; its lists that are ``{given: ...}`` hold what is ``given`` under that name.

    Raises ConfigError with the file and the reason for one that is broken.
    """
    path = folder / f"{language}.yaml"
    if not NAME.fullmatch(folder.name):
        raise ConfigError(f"{folder}: a skill's folder is named with a-z, 0-9 and _ only", file=str(folder))
    with _refusing(path):
        file = _filled(_gathered(SkillFile.model_validate(_read(path)), folder), given)
        strict, loose = _intents(file, "sentences", "unfinished"), _intents(file, "loose")
        spoken = _graphs(strict, language)
    code = _code(folder)
    with _refusing(path):
        data = code.prepare(file.data) if code.prepare else file.data
    skill = Skill(
        name=folder.name,
        answer=code.answer,
        about=file.about,
        examples=_examples(file),
        texts=file.replies,
        places=file.places,
        data=data,
        accepts=code.accepts,
        dialogues=_dialogues(folder / f"dialogues.{language}.yaml"),
        persona=_persona_of(folder),
    )
    return Loaded(path, skill, file, Phrases.load(language).of(file.replies), strict, loose, spoken)


def _gathered(file: SkillFile, folder: Path) -> SkillFile:
    """Fill the lists that are ``{files: recipes}`` with what the files in that folder are called, or hold.

    What the files hold is put into the skill's data under the folder's name, by their own names.
    """
    lists, data = dict(file.lists), dict(file.data)
    for name, values in file.lists.items():
        if "files" in values:
            found = sorted(folder.glob(f"{values['files']}/*.{file.language}.yaml"))
            data[values["files"]] = contents = {path.name.split(".")[0]: _mapping(path) for path in found}
            lists[name] = {"values": list(_said_of(contents, values.get("of", CALLED)))}
    return file.model_copy(update={"lists": lists, "data": data})


def _mapping(path: Path) -> dict[str, Any]:
    with _refusing(path):
        content = _read(path)
        if not isinstance(content, dict) or not isinstance(content.get(CALLED), list):
            raise ConfigError("expected keys, among them 'called: [pancakes]'")
        return content


def _said_of(contents: Mapping[str, Mapping[str, Any]], key: str) -> Iterator[dict[str, str]]:
    """Yield what is said and what it means: a file by what it is called, what it holds under another key as it is."""
    held = {
        str(text): name if key == CALLED else str(text)
        for name, each in contents.items()
        for text in each.get(key, ())
    }
    yield from ({"in": text.lower(), "out": meant} for text, meant in held.items())


def _filled(file: SkillFile, given: Given) -> SkillFile:
    lists = dict(file.lists)
    for name, values in file.lists.items():
        if "given" in values:
            known = given.get(values["given"], {})
            lists[name] = {**values, "values": [{"in": text, "out": value} for text, value in known.items()]}
    return file.model_copy(update={"lists": lists})


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn whatever is wrong with a file into a ConfigError with the file, the key and the reason."""
    try:
        yield
    except ValidationError as error:
        mistake = error.errors()[0]
        key = ".".join(str(part) for part in mistake["loc"])
        raise ConfigError(f"{path}: {key}: {mistake['msg']}", file=str(path), key=key) from error
    except (Exception, SystemExit) as error:  # hassil, and a household's code, fail with exceptions of every kind
        raise ConfigError(f"{path}: {_reason(error)}", file=str(path)) from error


def _read(path: Path) -> Any:
    return yaml.load(path.read_text("utf-8"), Words)


def _dialogues(path: Path) -> dict[str, tuple[Exchange, ...]]:
    if not path.is_file():
        return {}
    with _refusing(path):
        return DIALOGUES.validate_python(_read(path))


def plain(text: str) -> str:
    """Return a text as templates are written: without punctuation, a time of day word by word."""
    return GLUED_TIME.sub(" ", normalize_for_matching(text).text)


def match(text: str, one: Loaded, intents: Intents) -> Match | None:
    """Return what a text means in some of a skill's templates: the first meaning that the skill itself accepts."""
    for found in recognize_all(text, intents, language=one.file.language):
        intent = one.file.intents[found.intent.name]
        meant = Match(
            one.skill.name,
            found.intent.name,
            tuple((entity.name, entity.value) for entity in found.entities_list),
            unfinished=bool((found.intent_metadata or {}).get("unfinished")),
            dismisses=intent.dismisses,
            backchannel=intent.backchannel,
            opening=intent.opening,
            agrees=intent.agrees,
            text=text,
        )
        if one.skill.accepts is None or one.skill.accepts(Heard(meant, one.phrases, one.skill.data)):
            return meant
    return None


def check(loaded: Loaded) -> None:
    """Hold a skill to its own samples, to lists and rules that are there, and to having something to say.

    Raises ConfigError for a sample that is not understood as its intent, or a missing reply.
    """
    with _refusing(loaded.path):
        _graphs(loaded.loose, loaded.file.language)
    for name, intent in loaded.file.intents.items():
        if loaded.skill.answer is None and name not in loaded.file.replies:
            raise ConfigError(f"{loaded.path}: replies: there is none for '{name}', and no code that gives one")
        for sample in intent.samples:
            found = match(plain(sample), loaded, loaded.strict) or match(plain(sample), loaded, loaded.loose)
            if found is None or found.name != name:
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
    lists, rules = _shared(file)
    content = {
        "language": file.language,
        "intents": {name: {"data": data} for name, data in blocks.items() if data},
        "lists": {**lists, **file.lists},
        "expansion_rules": {**rules, **file.expansion_rules},
    }
    return Intents.from_dict(content)


def _shared(file: SkillFile) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what a skill uses of the lists and rules of its language; reading all of them would take time."""
    language = load_language(file.language)
    templates = [text for intent in file.intents.values() for text in (*intent.sentences, *intent.unfinished)]
    templates += [text for intent in file.intents.values() for text in intent.loose]
    unread, used = [*templates, *file.expansion_rules.values()], set[str]()
    while unread:
        named = set(NAMED.findall(unread.pop())) - used
        used |= named
        unread += [language.expansion_rules[name] for name in named if name in language.expansion_rules]
    lists = {name: values for name, values in language.lists.items() if name in used}
    return lists, {name: rule for name, rule in language.expansion_rules.items() if name in used}


def _graphs(intents: Intents, language: str) -> dict[str, Node]:
    converter = Converter(language, intents.slot_lists, intents.expansion_rules)
    graphs = {
        name: either(converter.node(sentence.expression) for data in intent.data for sentence in data.sentences)
        for name, intent in intents.intents.items()
    }
    return {name: graph for name, graph in graphs.items() if graph is not None}


def _examples(file: SkillFile) -> tuple[str, ...]:
    return tuple(intent.samples[0] for intent in file.intents.values() if intent.samples)


@dataclass(frozen=True, slots=True)
class Code:
    """What a skill's code defines."""

    answer: Answering | None = None
    accepts: Callable[[Heard], bool] | None = None
    prepare: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None


def _code(folder: Path) -> Code:
    """Import a skill's code, which for a household's own skill stands outside any package."""
    path = folder / "__init__.py"
    if not path.is_file():
        return Code()
    ours, persona = is_ours(folder), _persona_of(folder)
    place = (
        "roomtone.mind.skills"
        if folder.parent == SHIPPED
        else "roomtone_skills"
        if ours
        else "roomtone_household_skills"
    )
    name = ".".join(filter(None, [place, persona, folder.name]))
    with _refusing(path):
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise ConfigError("cannot be imported")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # where dataclasses look up their annotations
        spec.loader.exec_module(module)
        if not inspect.iscoroutinefunction(module.answer) or len(inspect.signature(module.answer).parameters) != 1:
            raise ConfigError("answer must be: async def answer(asked)")
        accepts, prepare = getattr(module, "accepts", None), getattr(module, "prepare", None)
        if ours:
            return Code(module.answer, accepts, prepare)
        return Code(OwnCode(folder.name, module.answer), accepts and own_accepts(folder.name, accepts), prepare)


def is_ours(folder: Path) -> bool:
    """Say whether a skill came with Roomtone, for everyone or as a shipped persona's own: it never blocks."""
    return folder.parent == SHIPPED or folder.resolve().is_relative_to(place_of("personas").resolve())


def _persona_of(folder: Path) -> str | None:
    """Return the id of the persona in whose folder a skill stands, None for a skill of the whole household."""
    home = folder.parent.parent
    return home.name if folder.parent != SHIPPED and (home / "config.yaml").is_file() else None


def _reason(error: BaseException) -> str:
    said = " ".join(str(error).split())
    return said if " " in said else f"{type(error).__name__}{said and ': '}{said}"
