"""An utterance is read while it is written, by any number of readers."""

from __future__ import annotations

import asyncio

from conftest import Run
from roomtone.core.sound import Audio
from roomtone.engines.stt import Pause
from roomtone.utterance import Utterance


def test_readers_get_all_of_it_whenever_they_begin(run: Run[None]) -> None:
    async def main() -> None:
        utterance = Utterance(0.0)
        got: dict[str, list[float]] = {"early": [], "late": []}

        async def read(name: str) -> None:
            async for part in utterance.stream():
                got[name].append(part.seconds if isinstance(part, Audio) else 0.0)

        async with asyncio.TaskGroup() as group:
            group.create_task(read("early"))
            for tenths in (1, 2, 3):
                utterance.add(Audio.silence(tenths / 10))
                await asyncio.sleep(1)
            group.create_task(read("late"))
            utterance.end(2.0, 3.0)
        assert got["early"] == got["late"] == [0.1, 0.2, 0.3]

    run(main())


def test_a_reader_that_was_busy_is_given_only_the_last_pause(run: Run[None]) -> None:
    async def main() -> None:
        utterance = Utterance(0.0)
        for _ in range(5):
            utterance.add(Audio.silence(0.1))
            utterance.pause()
        utterance.end(0.0, 0.0)
        parts = [part async for part in utterance.stream()]
        assert [isinstance(part, Pause) for part in parts] == [False] * 5 + [True]

    run(main())


def test_one_that_goes_on_from_another_begins_with_it(run: Run[None]) -> None:
    async def main() -> None:
        first, second = Utterance(1.0), Utterance(5.0)
        first.add(Audio.silence(0.1))
        first.pause()
        first.end(1.0, 1.0)
        second.add(Audio.silence(0.2))
        second.pause()
        second.continued_from(first)
        second.end(6.0, 6.0)
        parts = [part async for part in second.stream()]
        assert [part.seconds for part in parts if isinstance(part, Audio)] == [0.1, 0.2]
        assert isinstance(parts[-1], Pause)
        assert second.speech_at == 1.0

    run(main())
