"""A synthesiser elsewhere in the house that speaks Wyoming, such as a Piper on a larger machine.

Wyoming has neither speed nor pitch, so a persona's are without effect.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from roomtone import outbound
from roomtone.clock import engine_working
from roomtone.core.dialog import Voice
from roomtone.core.sound import Audio
from roomtone.engines import EngineSettings, lacking
from roomtone.wyoming_events import NotWyoming, Server, connected, host_of, server_uri, sound_of

NAME = "wyoming"

LONGEST_S = 120.0
"""Seconds of sound that one sentence may have."""


class Settings(EngineSettings):
    """Where the server is, which of its voices speaks, and how long it may take."""

    uri: Annotated[str, AfterValidator(server_uri)] | None = None
    """tcp://host:port or unix:///path."""
    voice: str | None = None
    """The server's voice, by its name there; without one, the server's default for the language."""
    language: str = "en"
    """Asked for where no voice is named."""
    connect_timeout_s: float = Field(2.0, gt=0)
    """Longest that reaching the server may take."""
    timeout_s: float = Field(10.0, gt=0)
    """Longest wait for the next piece of sound."""


def missing(settings: Settings) -> str | None:
    """Say what is lacking, the package or the server's address."""
    if (reason := lacking("wyoming", "wyoming")) is not None:
        return reason
    return None if settings.uri else "no server is named; write tts: {engine: wyoming, uri: tcp://nas.local:10200}"


class Wyoming:
    """Lets a server speak; each sentence is a connection of its own. ``host`` is where it goes."""

    def __init__(self, settings: Settings) -> None:
        self.host = host_of(settings.uri or "")
        self._settings = settings

    async def speak(self, sentence: str, voice: Voice) -> AsyncIterator[Audio]:
        """Yield a sentence's sound as the server sends it; its voice is the persona's where that is of this engine.

        Raises EngineError with the server's name where it is not there, hangs up, or sends what cannot be used;
        EngineTimeout where it does not answer; EgressRefused where what is said may not travel there.
        """
        if not sentence.strip():
            return
        own = self._settings
        seconds = 0.0
        with outbound.sending(self.host, "text", "speaking") as sent:
            async with connected(own.uri or "", own.connect_timeout_s, own.timeout_s, sent.count) as server:
                await server.send(self._request(sentence, voice))
                while (sound := await _next_sound(server)) is not None:
                    seconds += sound.seconds
                    if seconds > LONGEST_S:
                        raise NotWyoming(f"more than {LONGEST_S:g} s of sound for one sentence")
                    if len(sound):
                        yield sound

    def _request(self, sentence: str, voice: Voice) -> Any:
        from wyoming.tts import Synthesize, SynthesizeVoice

        own = voice.voice_id if voice.engine == NAME else None
        named = SynthesizeVoice(name=own or self._settings.voice, language=self._settings.language)
        return Synthesize(sentence, named)


async def _next_sound(server: Server) -> Audio | None:
    """Return the next piece, or None after the last. What is neither sound nor its end is passed over."""
    with engine_working():
        async with asyncio.timeout(server.timeout_s):
            while True:
                event = await server.next()
                if event.type == "audio-chunk":
                    return sound_of(event)
                if event.type == "audio-stop":
                    return None


@asynccontextmanager
async def open(settings: Settings) -> AsyncIterator[Wyoming]:  # noqa: A001  # the name every engine has
    """Be ready; the server is called with each sentence."""
    await outbound.look_up(host_of(settings.uri or ""))
    yield Wyoming(settings)
