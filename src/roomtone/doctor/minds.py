"""What thinks and what it can use: language models, here and elsewhere, the servers of tools, and routines.

Nothing is sent: of a server somewhere it is only looked whether its port can be reached, and not even that where
the house is offline and the server beyond it.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from roomtone import engines, models, outbound
from roomtone.core.errors import EngineUnavailable, RoomtoneError
from roomtone.core.persona import Egress
from roomtone.doctor.findings import Finding, split
from roomtone.llm_router import models as llm_models
from roomtone.minds import routines_of
from roomtone.settings import McpServer, Provider, Settings

REACH_S = 1.0
"""Longest that reaching a server may take: one that takes longer is no use in a conversation."""

PORTS = {"http": 80, "https": 443}
SEAM_OF_MODELS = {"llama": "llm", "embed": "embed"}


def look(settings: Settings) -> Iterator[Finding]:
    """Tell of every language model and server of tools whether it can be used, and of what cannot be."""
    yield from _models_nobody_reads(settings)
    yield from _routines(settings)
    registry = llm_models.registry(settings.state_dir)
    if not settings.llm.providers:
        yield _local(settings)
    for name, provider in settings.llm.providers.items():
        yield _provider(settings, name, provider, registry)
    if settings.mcp and (reason := engines.lacking("mcp", "mcp")) is not None:
        yield split("mcp", "warn", reason)
        return
    for name, server in settings.mcp.items():
        yield _server(settings, name, server)


def _routines(settings: Settings) -> Iterator[Finding]:
    """Tell of routines that are broken, and of those that are to be run and are not there."""
    routines = routines_of(settings, settings.state_dir)
    there = routines.all()
    for reason in routines.refused.values():
        yield Finding("routines", "warn", reason, "mend the file; see: roomtone routines check")
    for where, action in (*settings.schedules.items(), *settings.events.items(), *settings.gpio.buttons.items()):
        wanted = getattr(action, "routine", None)
        if wanted is not None and wanted not in there:
            yield Finding(
                "routines",
                "warn",
                f"{where} is to run {wanted}, and there is no such routine",
                "see: roomtone routines list",
            )


def _local(settings: Settings) -> Finding:
    """Tell which model ``auto`` found on this machine."""
    try:
        name, _ = engines.choose("llm", "auto", {}, settings.given)
    except EngineUnavailable:
        more = "for conversation: roomtone models list, or add one under llm.providers"
        return Finding("llm", "ok", "there is none: skills answer alone", more)
    return Finding("llm", "ok", f"{name}, on this machine")


def _provider(settings: Settings, name: str, provider: Provider, registry: llm_models.Registry) -> Finding:
    """Tell whether a provider has what it needs and can be reached, and whether its model is known."""
    subject = "llm"
    try:
        engine, own = engines.choose("llm", provider.engine, provider.keys, settings.given)
        reason = engines.load("llm", engine).missing(own)
    except ValidationError as error:
        return split(subject, "warn", f"{name}: {' '.join(str(error).split())}")
    except RoomtoneError as error:
        return split(subject, "warn", f"{name}: {error.message}")
    if reason is not None:
        return split(subject, "warn", f"{name}: {reason}")
    url, model = getattr(own, "base_url", None), getattr(own, "model", None) or engine
    if url is None:
        return Finding(subject, "ok", f"{name}: {model}, on this machine")
    if (alone := _left_alone(settings, url, provider.reach)) is not None:
        return Finding(subject, "ok", f"{name}: {alone}")
    if (trouble := unreachable(url)) is not None:
        return Finding(
            subject, "warn", f"{name}: {trouble}", f"start it there, or mend llm.providers.{name}.base_url"
        )
    if registry.of(model) is llm_models.UNKNOWN:
        guessed = f"{name}: can be reached; of {model} nothing is known, so it is taken to read {_context()} tokens"
        return Finding(subject, "ok", guessed, f"add it to {settings.state_dir / llm_models.FILE}")
    return Finding(subject, "ok", f"{name}: {model} at {urlsplit(url).hostname} can be reached")


def _context() -> str:
    return f"{llm_models.CAUTIOUS_CONTEXT:,}"


def _server(settings: Settings, name: str, server: McpServer) -> Finding:
    """Tell whether a server's program is there, or its port can be reached."""
    if server.command is not None:
        if shutil.which(server.command) is not None:
            return Finding("mcp", "ok", f"{name}: runs {server.command}")
        said = f"{name}: there is no program {server.command} to run"
        return Finding("mcp", "warn", said, f"install it, or mend mcp.{name}.command")
    assert server.url is not None
    if (alone := _left_alone(settings, server.url, server.reach)) is not None:
        return Finding("mcp", "ok", f"{name}: {alone}")
    if (trouble := unreachable(server.url)) is not None:
        return Finding("mcp", "warn", f"{name}: {trouble}", f"start it there, or mend mcp.{name}.url")
    return Finding("mcp", "ok", f"{name}: {urlsplit(server.url).hostname} can be reached")


def _left_alone(settings: Settings, url: str, told: Egress | None) -> str | None:
    """Return why a server is not even looked for, None where it is; ``told`` is how far it is said to be."""
    host = urlsplit(url).netloc.rpartition("@")[2]
    if not settings.features.offline_mode or (told or asyncio.run(outbound.look_up(host))) is not Egress.ANY:
        return None
    return f"is left alone: {host} is beyond the house, and features.offline_mode is on"


def unreachable(url: str) -> str | None:
    """Return why nobody answers at a URL's port, or None where somebody does. Nothing is sent."""
    parts = urlsplit(url)
    try:
        address = parts.hostname or "", parts.port or PORTS.get(parts.scheme, 80)
        socket.create_connection(address, timeout=REACH_S).close()
    except TimeoutError:
        return f"{parts.hostname} does not answer within {REACH_S:g} s"
    except (OSError, ValueError) as error:  # UnicodeError, a name that is none, is a ValueError
        reason = getattr(error, "strerror", None) or str(error)
        return f"{parts.netloc.rpartition('@')[2]} cannot be reached ({reason.lower()})"
    return None


def _models_nobody_reads(settings: Settings) -> Iterator[Finding]:
    """Tell of models on the disk for which the library that reads them is missing."""
    given: dict[str, Any] = settings.given
    for kind, seam in SEAM_OF_MODELS.items():
        here = models.present(kind, given["models_dir"])
        for name in engines.auto_order(seam) if here else ():
            engine = engines.load(seam, name)
            known = {key: value for key, value in given.items() if key in engine.Settings.model_fields}
            reason = engine.missing(engine.Settings.model_validate(known))
            if reason is not None:
                yield split("models", "warn", f"{models.typed(kind, here[0])} cannot be used: {reason}")
