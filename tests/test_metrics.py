"""Metrics: what the feed told, as numbers for Prometheus; bounded, and never in the way of a turn."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from rooms import room, scripted, speaks
from roomtone import metrics
from roomtone.core.dialog import Ended, Latency, Source, Turn, TurnError
from roomtone.core.errors import EngineTimeout, EngineUnavailable
from roomtone.core.machine import Mode, State
from roomtone.core.sound import Audio
from roomtone.engines.stt import Hints, script
from roomtone.failover import SttLine
from roomtone.flow import Feed, beside
from roomtone.metrics import LABELLED, Metrics, written
from roomtone.utterance import Utterance

parser = pytest.importorskip("prometheus_client.parser")
pytest.importorskip("psutil")


def samples(page: bytes) -> dict[tuple[str, ...], float]:
    """Return a page's values by name and label values, read by Prometheus' own parser."""
    families = parser.text_string_to_metric_families(page.decode())
    return {
        (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in families
        for sample in family.samples
    }


def a_turn(**fields: Any) -> Turn:
    known = {"turn": 1, "trace": "t", "session": "s", "room": "kitchen", "persona": "companion", "source": "voice"}
    return Turn.model_validate({**known, **fields})


class Finished:
    """What the feed carries at a turn's end."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn


async def told(feed: Feed, tmp_path: Path, *events: tuple[str, Any]) -> Metrics:
    """Return metrics that were told these events."""
    counted = Metrics(feed, {"stt": "script"}, (), tmp_path)
    async with beside(counted.run(), "metrics"):
        await asyncio.sleep(0)
        for kind, data in events:
            feed.publish(kind, data, source="test")
        await asyncio.sleep(1)
    return counted


def test_turns_stages_errors_and_engines_are_counted(run: Run[bytes], tmp_path: Path) -> None:
    quick = a_turn(answered_by="skill", latency_ms=Latency(endpoint=240, stt=130, first_sound=412, overhead=1))
    failed = a_turn(ended=Ended.FAILED, error=TurnError(code="ENGINE_TIMEOUT", message="late"), source=Source.CLI)

    async def scenario() -> bytes:
        counted = await told(
            Feed(),
            tmp_path,
            ("turn.ended", Finished(quick)),
            ("turn.ended", Finished(quick)),
            ("turn.ended", Finished(failed)),
            ("engine.failed", ("stt", "whisper", EngineTimeout("late"))),
        )
        return written(counted.families(), tmp_path)

    page = samples(run(scenario()))
    assert page["roomtone_turns_total", "skill", "completed", "voice"] == 2
    assert page["roomtone_turns_total", "none", "failed", "cli"] == 1
    assert page["roomtone_errors_total", "ENGINE_TIMEOUT"] == 1
    assert page["roomtone_engine_failures_total", "ENGINE_TIMEOUT", "whisper", "stt"] == 1
    assert page["roomtone_engine_info", "script", "stt"] == 1
    assert page["roomtone_stage_seconds_count", "skill", "stt"] == 2
    assert page["roomtone_stage_seconds_sum", "skill", "stt"] == pytest.approx(0.26)
    assert page["roomtone_stage_seconds_bucket", "skill", "0.1", "stt"] == 0
    assert page["roomtone_stage_seconds_bucket", "skill", "0.15", "stt"] == 2
    assert ("roomtone_stage_seconds_count", "skill", "think") not in page, "what did not happen is not counted"


def test_an_engine_that_fails_is_not_well_until_it_works_again(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with script.open(script.Settings(fail_at=1)) as first, script.open(script.Settings()) as second:
            line = SttLine([("first", first), ("second", second)])
            counted = Metrics(Feed(), {}, (line,), tmp_path)
            for well in (0, 1):
                async for _ in line.transcribe(short_utterance(), Hints()):
                    pass
                page = samples(written(counted.families(), tmp_path))
                assert page["roomtone_engine_ok", "first", "stt"] == well
                assert page["roomtone_engine_ok", "second", "stt"] == 1

    run(scenario())


def short_utterance() -> Utterance:
    utterance = Utterance(0.0)
    utterance.add(Audio.silence(0.1))
    utterance.end(0.0, 0.1)
    return utterance


def test_time_in_each_state_is_counted_up_to_now(run: Run[bytes], tmp_path: Path) -> None:
    async def scenario() -> bytes:
        counted = Metrics(feed := Feed(), {}, (), tmp_path)
        async with beside(counted.run(), "metrics"):
            await asyncio.sleep(10)
            feed.publish("state.changed", State(mode=Mode.LISTENING, muted=True), source="test")
            await asyncio.sleep(4)
            return written(counted.families(), tmp_path)

    page = samples(run(scenario()))
    assert page["roomtone_state_seconds_total", "idle"] == pytest.approx(10)
    assert page["roomtone_state_seconds_total", "listening"] == pytest.approx(4)
    assert (page["roomtone_state", "listening"], page["roomtone_state", "idle"]) == (1, 0)
    assert page["roomtone_muted",] == 1


def test_the_machine_is_on_the_page(run: Run[bytes], tmp_path: Path) -> None:
    async def scenario() -> bytes:
        return written((await told(Feed(), tmp_path)).families(), tmp_path)

    page = samples(run(scenario()))
    assert page["roomtone_machine_memory_bytes",] >= page["roomtone_machine_memory_available_bytes",] > 0
    assert page["roomtone_machine_disk_bytes",] >= page["roomtone_machine_disk_free_bytes",] > 0
    assert page["roomtone_machine_load", "1"] >= 0
    assert page["roomtone_process_cpu_seconds_total", "daemon"] > 0
    assert page["roomtone_process_resident_bytes", "daemon"] > 1e6


def test_labels_are_bounded_whatever_the_feed_carries(run: Run[bytes], tmp_path: Path) -> None:
    async def scenario() -> bytes:
        counted = Metrics(Feed(), {}, (), tmp_path)
        for number in range(3 * LABELLED):
            turn = a_turn(answered_by=f"llm:{number}", latency_ms=Latency(total=1))
            await counted.take(Feed().publish("turn.ended", Finished(turn), source="test"))
        return written(counted.families(), tmp_path)

    page = samples(run(scenario()))
    assert sum(name == "roomtone_turns_total" for name, *_ in page) == LABELLED + 1
    assert page["roomtone_turns_total", "other", "other", "other"] == 2 * LABELLED
    assert sum(name == "roomtone_stage_seconds_count" for name, *_ in page) == LABELLED + 1


def test_a_reader_that_does_not_keep_up_loses_events_and_the_page_says_so(run: Run[bytes], tmp_path: Path) -> None:
    async def scenario() -> bytes:
        feed = Feed()
        with feed.watch(depth=10), feed.watch(depth=4):
            counted = await told(feed, tmp_path, *[("turn.begun", None)] * 100)
            assert (feed.watching, feed.waiting, feed.missed) == (2, 14, 90 + 96)
        return written(counted.families(), tmp_path)

    page = samples(run(scenario()))
    assert page["roomtone_feed_missed_total",] == 90 + 96, "those that have left are counted too"
    assert page["roomtone_feed_waiting",] == 0
    assert page["roomtone_events_total", "turn.begun"] == 100


def test_an_event_that_cannot_be_counted_costs_nothing_but_itself(run: Run[bytes], tmp_path: Path) -> None:
    async def scenario() -> bytes:
        events = [("turn.ended", None), ("turn.ended", Finished(a_turn(answered_by="skill")))]
        return written((await told(Feed(), tmp_path, *events)).families(), tmp_path)

    page = samples(run(scenario()))
    assert page["roomtone_turns_total", "skill", "completed", "voice"] == 1
    assert page["roomtone_watcher_failures_total", "metrics"] == 1


def test_a_real_turn_is_on_the_page_with_no_id_and_no_words(run: Run[bytes], tmp_path: Path) -> None:
    async def scenario() -> bytes:
        async with room(scripted("what time is it"), tmp_path) as rehearsal:
            live = rehearsal.room
            counted = Metrics(live.feed, live.engines, (live.parts.stt, live.synthesiser), tmp_path)
            async with beside(counted.run(), "metrics"):
                await asyncio.sleep(0)
                [turn] = await speaks(rehearsal)
                page = await counted.page()
            assert turn.session.encode() not in page
            assert turn.trace.encode() not in page
            return page

    text = run(scenario())
    page = samples(text)
    assert b"what time" not in text
    assert page["roomtone_turns_total", "skill", "completed", "voice"] == 1
    assert page["roomtone_stage_seconds_count", "skill", "first_sound"] == 1
    assert page["roomtone_engine_turns_total", "script", "stt"] == 1
    assert page["roomtone_engine_turns_total", "tone", "tts"] == 1


def test_without_the_extra_one_line_says_what_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "lacking", lambda module, extra: f"{module} is not installed; run: pip [{extra}]")
    with pytest.raises(EngineUnavailable, match=r"no metrics: prometheus_client .*\[metrics\]"):
        metrics.written([], tmp_path)


def test_counting_imports_no_library(tmp_path: Path) -> None:
    import subprocess

    code = "import roomtone.metrics, sys; sys.exit({'prometheus_client', 'psutil'} & set(sys.modules) != set())"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
