"""What a running room has done so far, in numbers, and how its machine is: a page for Prometheus.

Counting watches the feed and needs nothing but this file, so it costs an idle daemon next to nothing; the libraries
that write the page and look at the machine (extra ``metrics``) are imported when somebody first asks for it.
No label holds a person's words or an id, and no metric holds more than ``LABELLED`` combinations of labels.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from roomtone import child
from roomtone.core.dialog import Source, Turn
from roomtone.core.errors import EngineUnavailable
from roomtone.core.machine import Mode
from roomtone.engines import lacking
from roomtone.failover import Line
from roomtone.flow import Event, Feed, worker

EXTRA = "metrics"

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.35, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0)
"""Upper bounds of a stage's buckets, in seconds: fine where a person begins to notice."""

LABELLED = 200
"""Combinations of labels of one metric; what comes beyond is counted under ``other``."""

WRITING_BOUND_S = 10.0

Labels = tuple[str, ...]
V = TypeVar("V")


class Family(NamedTuple):
    """One metric: ``kind`` is counter, gauge or histogram; ``rows`` are its label values and what was counted."""

    kind: str
    name: str
    about: str
    labels: Labels
    rows: list[tuple[Labels, Any]]


class Spread:
    """How often something took how long: a histogram over ``BOUNDS_S``."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.total_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.total_s += seconds

    def buckets(self) -> tuple[list[tuple[str, int]], float]:
        """Return the cumulative counts by upper bound, and the sum of all seconds."""
        bounds = [*(f"{bound:g}" for bound in BOUNDS_S), "+Inf"]
        sums = [sum(self.counts[: place + 1]) for place in range(len(self.counts))]
        return list(zip(bounds, sums, strict=True)), self.total_s


class Bounded(Generic[V]):
    """Values by labels, of which there are never more than ``LABELLED`` and one for the rest."""

    def __init__(self) -> None:
        self.values: dict[Labels, V] = {}

    def place(self, *labels: str) -> Labels:
        """Return the labels under which to count."""
        full = len(self.values) >= LABELLED and labels not in self.values
        return ("other",) * len(labels) if full else labels


class Metrics:
    """Counts what passes over a room's feed; ``lines`` are its recognisers and its synthesisers."""

    def __init__(self, feed: Feed, engines: Mapping[str, str], lines: Sequence[Line[Any]], state_dir: Path) -> None:
        self._feed = feed
        self._engines = engines
        self._lines = {line.seam: line for line in lines}
        self._state_dir = state_dir
        self._turns = Bounded[int]()
        self._errors = Bounded[int]()
        self._failures = Bounded[int]()
        self._served = Bounded[int]()
        self._stages = Bounded[Spread]()
        self._mode = Mode.IDLE
        self._muted = False
        self._since = asyncio.get_running_loop().time()
        self._spent: Counter[Mode] = Counter()

    async def run(self) -> None:
        """Count for as long as this runs."""
        await self._feed.attend("metrics", "*", self.take)

    async def take(self, event: Event) -> None:
        """Count one event; most are only in the feed's own tallies."""
        match event.kind:
            case "turn.ended":
                self._end(event.data.turn)
            case "state.changed":
                self._change(event.data.mode, event.data.muted)
            case "engine.failed":
                seam, name, error = event.data
                _count(self._failures, seam, name, error.code)
            case "store.failed":
                _count(self._errors, event.data.code)

    def _end(self, turn: Turn) -> None:
        _count(self._turns, turn.source, turn.answered_by, turn.ended)
        if turn.error is not None:
            _count(self._errors, turn.error.code)
        for stage, taken_ms in turn.latency_ms:
            if taken_ms is not None:
                self._stages.values.setdefault(self._stages.place(stage, turn.answered_by), Spread()).add(
                    taken_ms / 1000
                )
        for seam, at_work in (("stt", turn.source is Source.VOICE), ("tts", bool(turn.spoken))):
            if at_work and seam in self._lines:
                _count(self._served, seam, self._lines[seam].served_by)

    def _change(self, mode: Mode, muted: bool) -> None:
        now = asyncio.get_running_loop().time()
        self._spent[self._mode] += now - self._since  # type: ignore[assignment]  # a Counter of seconds
        self._mode, self._muted, self._since = mode, muted, now

    # ------------------------------------------------------------------------------------ the page

    def families(self) -> list[Family]:
        """Return everything counted so far, as plain data."""
        self._change(self._mode, self._muted)
        return [*self._of_turns(), *self._of_states(), *self._of_engines(), *self._of_feed()]

    def _of_turns(self) -> Iterator[Family]:
        yield _counter("turns", "Finished turns", ("source", "answered_by", "ended"), self._turns)
        spreads = [(labels, spread.buckets()) for labels, spread in self._stages.values.items()]
        about = "Seconds a turn's stages took, as in its latency_ms"
        yield Family("histogram", "roomtone_stage_seconds", about, ("stage", "answered_by"), spreads)
        yield _counter("errors", "Errors of turns and of the store, by code", ("code",), self._errors)

    def _of_states(self) -> Iterator[Family]:
        now: list[tuple[Labels, Any]] = [((mode.value,), int(mode is self._mode)) for mode in Mode]
        yield Family("gauge", "roomtone_state", "1 for the state the room is in", ("state",), now)
        spent: list[tuple[Labels, Any]] = [((mode.value,), self._spent[mode]) for mode in Mode]
        yield Family("counter", "roomtone_state_seconds", "Seconds spent in each state", ("state",), spent)
        yield _gauge("muted", "1 while the microphone is muted", int(self._muted))

    def _of_engines(self) -> Iterator[Family]:
        labels = ("seam", "engine", "code")
        chosen: list[tuple[Labels, Any]] = [(pair, 1) for pair in self._engines.items()]
        yield Family("gauge", "roomtone_engine_info", "The engine of each seam", ("seam", "engine"), chosen)
        places = [(line.seam, place) for line in self._lines.values() for place in line.places]
        well: list[tuple[Labels, Any]] = [((seam, place.name), int(not place.trouble)) for seam, place in places]
        yield Family("gauge", "roomtone_engine_ok", "1 while an engine's last work went well", labels[:2], well)
        yield _counter("engine_failures", "Failures, each answered by the next engine", labels, self._failures)
        about = "Turns by the engine that heard or spoke them: another than a seam's first is a failover"
        yield _counter("engine_turns", about, ("seam", "engine"), self._served)
        starts: list[tuple[Labels, Any]] = [((name,), count) for name, count in child.starts.items()]
        about = "Starts of engines' own processes: each beyond the first is a restart"
        yield Family("counter", "roomtone_engine_starts", about, ("engine",), starts)

    def _of_feed(self) -> Iterator[Family]:
        tallies: list[tuple[Labels, Any]] = [((kind,), tally.count) for kind, tally in self._feed.tallies.items()]
        yield Family("counter", "roomtone_events", "Events on the feed", ("kind",), tallies)
        yield _gauge("feed_watchers", "Who watches the feed", self._feed.watching)
        yield _gauge("feed_waiting", "Events that watchers have not taken yet", self._feed.waiting)
        missed: list[tuple[Labels, Any]] = [((), self._feed.missed)]
        about = "Events that watchers lost because they did not keep up"
        yield Family("counter", "roomtone_feed_missed", about, (), missed)
        failures: list[tuple[Labels, Any]] = [((name,), count) for name, count in self._feed.failures.items()]
        yield Family("counter", "roomtone_watcher_failures", "Failures of watchers", ("watcher",), failures)

    async def page(self) -> bytes:
        """Return the page in Prometheus' text format. Raises EngineUnavailable where the extra is not installed.

        It may take a second the first time, so it is written on a thread.
        """
        with worker("metrics page") as thread:
            return await thread.call(written, self.families(), self._state_dir, timeout=WRITING_BOUND_S)


def _count(counts: Bounded[int], *labels: str) -> None:
    place = counts.place(*map(str, labels))
    counts.values[place] = counts.values.get(place, 0) + 1


def _counter(name: str, about: str, labels: Labels, counts: Bounded[int]) -> Family:
    return Family("counter", f"roomtone_{name}", about, labels, list(counts.values.items()))


def _gauge(name: str, about: str, value: float) -> Family:
    return Family("gauge", f"roomtone_{name}", about, (), [((), value)])


# ----------------------------------------------------------------------------------------- the machine


def machine(state_dir: Path) -> Iterator[Family]:
    """Look at the machine: processor, memory, temperature, load, the state folder's disk, and what Roomtone takes."""
    import psutil

    times = psutil.cpu_times()._asdict().items()
    spent: list[tuple[Labels, Any]] = [((mode,), seconds) for mode, seconds in times]
    yield Family("counter", "roomtone_machine_cpu_seconds", "Processor time by mode", ("mode",), spent)
    memory = psutil.virtual_memory()
    yield _gauge("machine_memory_bytes", "Memory of the machine", memory.total)
    yield _gauge("machine_memory_available_bytes", "Memory that programs can still have", memory.available)
    disk = psutil.disk_usage(str(state_dir))
    yield _gauge("machine_disk_bytes", "Size of the disk that holds the state folder", disk.total)
    yield _gauge("machine_disk_free_bytes", "Free on the disk that holds the state folder", disk.free)
    minutes = zip(("1", "5", "15"), psutil.getloadavg(), strict=True)
    loads: list[tuple[Labels, Any]] = [((span,), load) for span, load in minutes]
    yield Family("gauge", "roomtone_machine_load", "Load, averaged over minutes", ("minutes",), loads)
    heat: list[tuple[Labels, Any]] = [
        ((f"{chip} {number}",), sensor.current)
        for chip, sensors in psutil.sensors_temperatures().items()
        for number, sensor in enumerate(sensors)
    ]
    yield Family("gauge", "roomtone_machine_celsius", "Temperatures", ("sensor",), heat)
    yield from _processes(psutil)


def _processes(psutil: Any) -> Iterator[Family]:
    me = psutil.Process()
    seconds, resident, count = Counter[str](), Counter[str](), Counter[str]()
    for kind, process in (("daemon", me), *(("engine", one) for one in me.children())):
        try:
            cpu, memory = process.cpu_times(), process.memory_info().rss
        except psutil.Error:  # it ended meanwhile
            continue
        seconds[kind] += cpu.user + cpu.system
        resident[kind] += memory
        count[kind] += 1
    for form, name, about, values in (
        ("counter", "process_cpu_seconds", "Processor time of the daemon and its engines' processes", seconds),
        ("gauge", "process_resident_bytes", "Memory of the daemon and its engines' processes", resident),
        ("gauge", "processes", "Processes", count),
    ):
        rows: list[tuple[Labels, Any]] = [((kind,), value) for kind, value in values.items()]
        yield Family(form, f"roomtone_{name}", about, ("process",), rows)


# ----------------------------------------------------------------------------------------- the writing


def written(families: Iterable[Family], state_dir: Path) -> bytes:
    """Write families, and the machine's, in Prometheus' text format. Raises EngineUnavailable without the extra."""
    for module in ("prometheus_client", "psutil"):
        reason = lacking(module, EXTRA)
        if reason is not None:
            raise EngineUnavailable(f"no metrics: {reason}")
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)  # its own: the library's global one belongs to nobody
    registry.register(_Collected([*families, *machine(state_dir)]))
    return generate_latest(registry)


class _Collected:
    """Families as prometheus_client's collector."""

    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Any]:
        from prometheus_client import core

        kinds = {
            "counter": core.CounterMetricFamily,
            "gauge": core.GaugeMetricFamily,
            "histogram": core.HistogramMetricFamily,
        }
        for family in self._families:
            metric: Any = kinds[family.kind](family.name, family.about, labels=family.labels)
            for labels, value in family.rows:
                metric.add_metric(labels, *(value if family.kind == "histogram" else (value,)))
            yield metric
