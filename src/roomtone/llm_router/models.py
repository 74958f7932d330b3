"""What is known of language models: how much they read, what they can do, what they cost.

What comes with Roomtone stands in ``models.yaml`` beside this; the household's own ``llm_models.yaml``, in the
state folder, is looked through first.
"""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from roomtone.config_sources import LARGEST_FILE, describe, yaml_mistake
from roomtone.core.dialog import Tokens

log = logging.getLogger(__name__)

FILE = "llm_models.yaml"

CAUTIOUS_CONTEXT = 8192
"""Tokens that are taken to fit where nothing is known: few models in use have less."""

MILLION = 1_000_000


class Model(BaseModel):
    """What is known of the models whose names fit one of the patterns of ``match``.

    ``context`` is in tokens. ``tools``: it can call tools; ``schema``: it can be held to a JSON schema;
    ``streaming``: its words come one by one. ``input``, ``cached`` and ``output`` are US dollars for a million
    tokens, None unknown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    match: tuple[str, ...] = ()
    context: int = Field(CAUTIOUS_CONTEXT, ge=256)
    tools: bool = True
    knows_schema: bool = Field(True, alias="schema")
    streaming: bool = True
    input: float | None = Field(None, ge=0)
    cached: float | None = Field(None, ge=0)
    output: float | None = Field(None, ge=0)

    def cost(self, tokens: Tokens) -> float:
        """Return what tokens cost in US dollars, 0 where the price is not known."""
        read = self.input or 0.0
        again = read if self.cached is None else self.cached
        fresh = max(0, tokens.read - tokens.cached)
        return (fresh * read + tokens.cached * again + tokens.written * (self.output or 0.0)) / MILLION


UNKNOWN = Model()


class Registry:
    """Models by the patterns of their names."""

    def __init__(self, models: Sequence[Model]) -> None:
        self._models = tuple(models)

    def of(self, name: str) -> Model:
        """Return what is known of a model, cautious guesses where nothing is."""
        bare = name.lower().rpartition("/")[2]
        fits = (each for each in self._models if any(fnmatch.fnmatchcase(bare, one) for one in each.match))
        return next(fits, UNKNOWN)


def registry(state_dir: Path | None = None) -> Registry:
    """Read what is known of models; a mistake in the household's file is a line in the log and costs that entry."""
    shipped, wrong = read(Path(__file__).with_name("models.yaml"))
    assert not wrong, wrong
    own, mistakes = read(state_dir / FILE) if state_dir is not None else ([], [])
    for mistake in mistakes:
        log.warning("%s", mistake)
    return Registry([*own, *shipped])


def read(file: Path) -> tuple[list[Model], list[str]]:
    """Return the entries of a file that are right, and a line for each that is not; no file is no entry."""
    try:
        if not file.exists():
            return [], []
        if file.stat().st_size > LARGEST_FILE:
            return [], [f"{file}: is larger than 1 MB; name a list of models"]
        entries = yaml.safe_load(file.read_text("utf-8"))
    except yaml.MarkedYAMLError as error:
        return [], [f"{file}: {'; '.join(yaml_mistake(error))}"]
    except (yaml.YAMLError, OSError, ValueError, RecursionError) as error:
        return [], [f"{file}: cannot be read ({str(error).splitlines()[0]}); write a list of models as YAML in UTF-8"]
    if entries is None:
        return [], []
    if not isinstance(entries, list):
        return [], [f"{file}: holds no list; write entries as in '- {{match: [my-model*], context: 4096}}'"]
    models, mistakes = [], []
    for place, entry in enumerate(entries, 1):
        model, wrong = _entry(entry)
        if model is not None:
            models.append(model)
        mistakes += [f"{file}: entry {place}: {line}" for line in wrong]
    return models, mistakes


def _entry(entry: Any) -> tuple[Model | None, list[str]]:
    fields = [field.alias or name for name, field in Model.model_fields.items()]
    if isinstance(entry, dict) and isinstance(entry.get("match"), str):
        entry = {**entry, "match": [entry["match"]]}
    if not isinstance(entry, dict) or not entry.get("match"):
        return None, ["names no models; add match: [a pattern of their names]"]
    try:
        model = Model.model_validate({**entry, "match": [str(one).lower() for one in entry["match"]]})
    except (ValidationError, TypeError) as error:
        if not isinstance(error, ValidationError):
            return None, ["match: is no list; write it as [a, b]"]
        details = error.errors(include_url=False)
        return None, [f"{_dotted(each['loc'])}: {'; '.join(describe(each, fields))}" for each in details]
    return model, []


def _dotted(loc: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in loc)
