"""A room whose sound card is not there, or only half of it: it says what is missing, and takes what comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import Run
from rooms import scripted
from roomtone import daemon
from roomtone.app import Room, open_room
from roomtone.core.dialog import Ended, Source, Turn
from roomtone.core.errors import AudioError, EngineUnavailable
from roomtone.core.signals import Prompt
from roomtone.engines.audio import _line
from roomtone.engines.audio import sounddevice as engine
from roomtone.first_boot import OUTCOME
from roomtone.flow import beside

JABRA = "Jabra SPEAK 410 USB: Audio (hw:1,0)"
WEBCAM = "Webcam"


class Stream:
    """One of PortAudio's, which plays or hears in no time."""

    latency = 0.06

    def __init__(self, callback: Callable[..., None], **_: Any) -> None:
        self.callback = callback

    def start(self) -> None:
        """Begin."""

    def abort(self) -> None:
        """End."""

    def close(self) -> None:
        """Give the device back."""


class PortAudio:
    """What PortAudio knows of: ``plugged`` holds names with their channels in and out; it looks when it starts."""

    class PortAudioError(Exception):
        """As the library's own."""

    def __init__(self) -> None:
        self.plugged: dict[str, tuple[int, int]] = {}
        self._known: dict[str, tuple[int, int]] = {}
        self.playing: Stream | None = None

    def RawOutputStream(self, **settings: Any) -> Stream:  # noqa: N802  # the library's name
        self.playing = Stream(**settings)
        return self.playing

    def RawInputStream(self, **settings: Any) -> Stream:  # noqa: N802  # the library's name
        return Stream(**settings)

    def query_devices(self, kind: str | None = None) -> Any:
        found = [
            {"index": index, "name": name, "max_input_channels": inputs, "max_output_channels": outputs}
            for index, (name, (inputs, outputs)) in enumerate(self._known.items())
        ]
        if kind is None:
            return found
        return next(device for device in found if device[f"max_{kind}_channels"])

    def check_input_settings(self, **_: Any) -> None:
        """Refuse nothing."""

    check_output_settings = check_input_settings

    def _terminate(self) -> None:
        self._known = {}

    def _initialize(self) -> None:
        self._known = dict(self.plugged)

    def play(self, seconds: float) -> None:
        """Let the card take so much sound."""
        assert self.playing is not None
        for _ in range(round(seconds / _line.BLOCK_S)):
            self.playing.callback(np.zeros(640, np.uint8).data, 320, None, None)


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> PortAudio:
    """Return the PortAudio of a machine without any sound card."""
    made = PortAudio()
    monkeypatch.setattr(_line, "portaudio", lambda: made)
    return made


async def until(truth: Callable[[], Any]) -> None:
    async with asyncio.timeout(600):  # on a clock that does not wait
        while not truth():  # noqa: ASYNC110  # cards set no events
            await asyncio.sleep(0.5)


# --------------------------------------------------------------------------------------------------- the engine


def test_a_card_that_is_not_there_is_waited_for_and_opened_when_it_comes(run: Run[None], cards: PortAudio) -> None:
    async def main() -> None:
        async with engine.waiting(engine.Settings(input="jabra", output="jabra")) as card:
            assert card.health == _line.NO_CARD
            assert card.loudspeaker.trouble == _line.NO_CARD
            await asyncio.sleep(300)
            cards.plugged[WEBCAM] = (1, 0)
            await until(lambda: card.health != _line.NO_CARD)
            assert "no microphone is called 'jabra'" in card.health, "another card is not the one that was named"
            cards.plugged[JABRA] = (1, 2)
            await until(lambda: card.health == "ok")
            assert card.loudspeaker.trouble is None

    run(main())


def test_without_a_microphone_the_loudspeaker_is_used_and_the_microphone_taken_when_it_comes(
    run: Run[None], cards: PortAudio
) -> None:
    async def main() -> None:
        cards.plugged["HAT"] = (0, 2)
        cards._initialize()
        async with engine.waiting(engine.Settings()) as card:
            assert card.health == "no microphone was found; plug one in and check that this lists it: arecord -l"
            assert card.loudspeaker.trouble is None
            cards.plugged[JABRA] = (1, 0)
            await until(lambda: card.health == "ok")

    run(main())


def test_without_a_loudspeaker_the_room_hears_all_the_same(run: Run[None], cards: PortAudio) -> None:
    async def main() -> None:
        cards.plugged[WEBCAM] = (1, 0)
        cards._initialize()
        async with engine.waiting(engine.Settings()) as card:
            assert card.health == "no loudspeaker was found; plug one in and check that this lists it: aplay -l"
            assert card.loudspeaker.trouble == card.health

    run(main())


def test_a_microphone_that_comes_is_found_at_once_where_the_kernel_tells_of_it(
    run: Run[None], cards: PortAudio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        monkeypatch.setattr(_line, "CARDS", tmp_path / "cards")
        cards.plugged["HAT"] = (0, 2)
        cards._initialize()
        async with engine.waiting(engine.Settings()) as card:
            cards.plugged[JABRA] = (1, 0)
            (tmp_path / "cards").write_text("1 [USB]: USB-Audio - Jabra")
            before = asyncio.get_running_loop().time()
            await until(lambda: card.health == "ok")
            assert asyncio.get_running_loop().time() - before < engine.SELDOM_S / 10

    run(main())


def test_who_cannot_wait_is_told_what_is_missing(run: Run[None], cards: PortAudio) -> None:
    async def main() -> None:
        with pytest.raises(AudioError, match="no sound card was found"):
            async with engine.open(engine.Settings()):
                pass
        cards.plugged["HAT"] = (0, 2)
        cards._initialize()
        with pytest.raises(AudioError, match="no microphone was found"):
            async with engine.open(engine.Settings()):
                pass

    run(main())


# ----------------------------------------------------------------------------------------------------- the room


@asynccontextmanager
async def room(folder: Path) -> AsyncIterator[Room]:
    """Open a room as the daemon does."""
    async with (
        open_room(scripted(state_dir=folder), folder, waits_for_sound=True) as opened,
        beside(daemon.watch_device(opened), "device watch"),
    ):
        yield opened


async def asked(opened: Room, text: str) -> Turn:
    turn: Turn = await opened.conversation.answer(Prompt(text, Source.CLI))
    return turn


def test_without_any_card_a_room_opens_says_so_in_its_health_and_answers_what_is_typed(
    run: Run[None], cards: PortAudio, tmp_path: Path
) -> None:
    async def main() -> None:
        async with room(tmp_path) as opened:
            turn = await asked(opened, "what is three times four")
            assert (turn.said, turn.spoken, turn.ended) == ("Twelve.", "", Ended.COMPLETED)
            assert opened.health()["audio"] == _line.NO_CARD
            with opened.feed.watch("device.health") as events:
                assert (await anext(events)).data == _line.NO_CARD, "lights and the house are told"

    run(main())


def test_a_timer_that_no_loudspeaker_rang_is_still_missed(run: Run[None], cards: PortAudio, tmp_path: Path) -> None:
    async def main() -> None:
        async with room(tmp_path) as opened:
            await asked(opened, "set a timer for ten seconds")
            await asyncio.sleep(400)
            [timer] = await opened.store.timers()
            assert timer.missed

    run(main())


def test_a_room_without_a_microphone_says_so_aloud_once(run: Run[None], cards: PortAudio, tmp_path: Path) -> None:
    async def main() -> None:
        cards.plugged["HAT"] = (0, 2)
        cards._initialize()
        async with room(tmp_path) as opened:
            with opened.feed.watch("turn.first_sound") as events:
                assert (await anext(events)).data.said.startswith("I can't hear you: the microphone is gone.")
            cards.play(20)
            await asyncio.sleep(400)
            said = [turn.said for turn in await opened.store.history()]
            assert len(said) == 1

    run(main())


def test_a_room_speaks_as_soon_as_its_card_has_come(run: Run[None], cards: PortAudio, tmp_path: Path) -> None:
    async def main() -> None:
        async with room(tmp_path) as opened:
            await asyncio.sleep(60)
            cards.plugged[JABRA] = (1, 2)
            with opened.feed.watch("turn.first_sound") as events:
                assert (await anext(events)).data.said == "My loudspeaker is there again."

    run(main())


def test_what_an_installer_should_know_is_said_once_there_is_a_loudspeaker(
    run: Run[None], cards: PortAudio, tmp_path: Path
) -> None:
    async def main() -> None:
        (tmp_path / OUTCOME).write_text('{"v": 1, "outcome": "ready"}')
        async with room(tmp_path) as opened, beside(daemon.tell_troubles(opened, ["line 2"]), "troubles"):
            await asyncio.sleep(600)
            assert (tmp_path / OUTCOME).exists(), "a power cut now must not cost it"
            cards.plugged[JABRA] = (1, 2)
            for _ in range(90):
                await asyncio.sleep(1)
                if cards.playing is not None:
                    cards.play(1)
            said = {turn.said for turn in await opened.store.history()}
            mistaken = "My configuration has a mistake, so I go on without that part of it."
            assert said == {"My loudspeaker is there again.", mistaken, "I am ready."}

    run(main())


def test_a_ring_that_nobody_can_hear_is_told_once_in_the_journal(
    run: Run[None], cards: PortAudio, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with room(tmp_path) as opened:
            await asked(opened, "set a timer for ten seconds")
            await asyncio.sleep(400)

    run(main())
    assert caplog.text.count(_line.NO_CARD) <= 2, "when the room opens, and for the ring"


def test_a_room_whose_card_is_missing_does_not_start_where_a_package_is(
    run: Run[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        monkeypatch.setattr(engine, "lacking", lambda module: f"the Python package {module} is not installed")
        with pytest.raises(EngineUnavailable, match="sounddevice is not installed"):
            async with engine.waiting(engine.Settings()):
                pass

    run(main())
