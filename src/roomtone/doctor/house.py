"""What the household set up: configuration, engines, models, personas, skills."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from roomtone import engines, installed, models
from roomtone.app import persona_library
from roomtone.core.errors import EngineUnavailable, RoomtoneError
from roomtone.core.recurrence import next_time
from roomtone.doctor.findings import Finding, split
from roomtone.mind.sentences import Skills
from roomtone.model_supply.catalogue import catalogue
from roomtone.personas.answers import mistakes_of
from roomtone.settings import SEAMS, Settings

WAKE_EXTRA = f"run: {installed.bringing('wake')}, or set listen.mode: open"


def configuration(mistakes: Iterable[str]) -> Iterator[Finding]:
    """Tell every mistake of the configuration."""
    told = [split("configuration", "fail", mistake) for mistake in mistakes]
    yield from told or [Finding("configuration", "ok", "no mistakes")]


# ------------------------------------------------------------------------------------------- engines


def engines_of(settings: Settings) -> Iterator[Finding]:
    """Tell which engine serves each seam, or why none does; and which better one could be there."""
    for seam in SEAMS:
        try:
            name, keys = settings.engine(seam)
            reason = engines.load(seam, name).missing(keys)
        except EngineUnavailable:
            yield from _none(seam, settings)
            continue
        except (RoomtoneError, ValidationError) as error:
            yield split(seam, "fail", getattr(error, "message", " ".join(str(error).split())))
            continue
        yield split(seam, "fail", f"{name}: {reason}") if reason else _chosen(settings, seam, name)


def _none(seam: str, settings: Settings) -> Iterator[Finding]:
    """Tell of each engine that ``auto`` tried what it lacks."""
    for candidate in engines.survey(seam, "auto", settings.section(seam).keys, settings.given):
        if candidate.missing is not None and candidate.name in engines.auto_order(seam):
            yield split(seam, "fail", f"{candidate.name}: {candidate.missing}")


def _chosen(settings: Settings, seam: str, name: str) -> Finding:
    order = engines.auto_order(seam)
    better = order[: order.index(name)] if settings.section(seam).engine == "auto" and name in order else ()
    spare = [other for other, _ in settings.spares(seam, name)] if seam in ("stt", "tts") else []
    said = f"{name}, and {' or '.join(spare)} where it fails" if spare else name
    if not better:
        return Finding(seam, "ok", said)
    section = settings.section(seam)
    lacks = {one.name: one.missing for one in engines.survey(seam, "auto", section.keys, settings.given)}
    mend = (lacks.get(better[0]) or "").rpartition("; ")[2]
    return Finding(seam, "ok", f"{said}; {better[0]} would be better", mend or None)


def calling(settings: Settings) -> Iterator[Finding]:
    """Tell how the room is called, and where a wake word wakes nobody."""
    mode = settings.listen.mode
    if mode != "wake_word":
        yield Finding("listening", "ok", "to whoever speaks" if mode == "open" else "after a press of the button")
        return
    try:
        name, keys = settings.engine("wake")
    except (RoomtoneError, ValidationError):
        return  # told among the engines
    if name == "none":
        yield Finding("listening", "warn", "nothing hears wake words, so it listens to whoever speaks", WAKE_EXTRA)
        return
    known = persona_library(settings, settings.state_dir).ids()
    for word in getattr(keys, "words", ()):
        if word.persona is not None and word.persona not in known:
            said = f"wake.words: {word.model} calls '{word.persona}', and there is no such persona"
            yield Finding("listening", "warn", said, f"choose one of {', '.join(known)}")
    named = [word.model for word in getattr(keys, "words", ())]
    yield Finding("listening", "ok", f"for {' or '.join(named) or 'its wake word'}")


# -------------------------------------------------------------------------------------------- models


def models_in(folder: Path) -> Iterator[Finding]:
    """Tell of each model whether its files are there and whole; sizes and formats, not hashes."""
    known = catalogue()
    here = [(kind, name) for kind in models.KINDS for name in models.present(kind, folder)]
    for kind, name in here:
        typed = models.typed(kind, name)
        faults = models.verify(kind, name, folder, thorough=False)
        if faults:
            yield Finding("models", "warn", f"{typed}: {faults[0]}", models.mending(kind, name, typed in known))
        else:
            yield Finding("models", "ok", f"{typed} is whole")
    for typed, entry in known.items():
        waiting = models.arrived(entry.kind, entry.name, folder)
        if waiting:
            said = f"{typed} has not arrived whole ({models.megabytes(waiting)} are here)"
            yield Finding("models", "warn", said, f"run: roomtone models pull {typed}")
    if not here:
        yield Finding("models", "ok", "none was fetched", "for better ears: roomtone models list")


# ---------------------------------------------------------------------------------- personas and skills


def personas_of(settings: Settings) -> Iterator[Finding]:
    """Tell every mistake of each persona; where the one that is to speak cannot, another does."""
    default, own = settings.personas.default, settings.personas.dir
    if own is not None and not (own.is_dir() and os.access(own, os.R_OK | os.X_OK)):
        yield Finding("personas", "warn", f"personas.dir: there is no folder {own} to read", f"run: mkdir -p {own}")
    library = persona_library(settings, settings.state_dir)
    skills = Skills.load(settings.language, settings.state_dir / "skills")
    whole = []
    for name in library.ids():
        mistakes = list(mistakes_of(name, library, skills))
        for mistake in mistakes:
            yield Finding("personas", "warn", mistake, "mend that file; until then it cannot be chosen")
        if not mistakes:
            whole.append(name)
            yield Finding("personas", "ok", f"{name} speaks" if name == default else f"{name} can be chosen")
    if default not in library.ids():
        said = f"personas.default: there is no persona '{default}', so another one speaks"
        yield Finding("personas", "warn", said, f"choose one of {', '.join(whole)}")
    if not whole:
        yield Finding("personas", "fail", "nobody can be loaded", "run: pip install --force-reinstall roomtone")


def schedules_of(settings: Settings) -> Iterator[Finding]:
    """Tell when each schedule comes next; of schedules and events, which call a persona that is not there."""
    known = persona_library(settings, settings.state_dir).ids()
    for section, actions in (("schedules", settings.schedules), ("events", settings.events)):
        for name, action in actions.items():
            if action.persona is not None and action.persona not in known:
                said = f"{section}.{name}.persona: there is no persona '{action.persona}'"
                yield Finding(section, "warn", said, f"choose one of {', '.join(known)}")
    for name, schedule in settings.schedules.items():
        due = next_time(schedule.cron, datetime.now(UTC), settings.zone).astimezone(settings.zone)
        yield Finding("schedules", "ok", f"{name} comes next on {due:%Y-%m-%d at %H:%M}")


def skills_of(settings: Settings) -> Iterator[Finding]:
    """Tell which of the household's own skills are refused, and why."""
    skills = Skills.load(settings.language, settings.state_dir / "skills")
    for reason in skills.refused:
        yield Finding("skills", "warn", reason, "mend that file; the other skills work")
    yield Finding("skills", "ok", f"{len(skills.skills)} can be used")
