"""The parts of scripts/power-cuts that need no virtual machine: the disk that loses its power, and the verdict."""

from __future__ import annotations

import os
import random
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from power_cuts import disk, guest
from power_cuts.disk import SECTOR, Cut, Disk, Server, Write
from power_cuts.verdict import Life, Promises, doing, lost, overdue, summary, untold

SECTORS = 8
NOON = "2026-03-01T12:00:00+00:00"
"""When the machine was started again."""

BEFORE, AFTER = "2026-03-01T11:00:00+00:00", "2026-03-01T13:00:00+00:00"


# ------------------------------------------------------------------------------------------------ the disk


@pytest.fixture
def medium(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(SECTORS * SECTOR))
    return path


@pytest.fixture
def powered(medium: Path) -> Iterator[Disk]:
    file = os.open(medium, os.O_RDWR)
    yield Disk(file, SECTORS * SECTOR)
    os.close(file)


def block(letter: str, count: int = 1) -> bytes:
    return letter.encode() * SECTOR * count


def test_what_was_flushed_outlives_every_cut_and_what_was_not_is_kept_lost_or_torn_at_a_sector(
    powered: Disk, medium: Path
) -> None:
    powered.write(0, block("a"))
    powered.flush()
    fates = set()
    for seed in range(100):
        powered.write(SECTOR, block("x", 4))
        powered.write(5 * SECTOR, block("y", 2))
        cut = powered.cut(random.Random(seed))
        assert cut in (Cut(kept=1, lost=0, torn=1), Cut(kept=0, lost=1, torn=1))
        kept = medium.read_bytes()
        assert kept[:SECTOR] == block("a")
        fates.add("".join(chr(kept[number * SECTOR] or ord("-")) for number in range(1, 7)))
        os.pwrite(powered.file, bytes(6 * SECTOR), SECTOR)
    assert fates == {"------", "----y-", "----yy", "xxxx--", "xxxxy-", "xxxxyy"}


def test_a_write_that_must_reach_the_medium_is_there_after_the_cut_alone(powered: Disk, medium: Path) -> None:
    powered.write(0, block("a", 2))
    powered.write(SECTOR, block("b"), through=True)
    powered.write(3 * SECTOR, block("c"))
    while powered.cut(random.Random(3)).kept:
        powered.write(3 * SECTOR, block("c"))
    assert medium.read_bytes()[: 2 * SECTOR] == block("a") + block("b")


def test_nothing_waits_any_more_after_a_cut(powered: Disk) -> None:
    powered.write(0, block("a"))
    powered.cut(random.Random(0))
    assert powered.cut(random.Random(0)) == Cut(kept=0, lost=0, torn=0)


WRITES = st.lists(
    st.tuples(
        st.integers(0, SECTORS - 1), st.integers(1, 3), st.sampled_from("abcdef"), st.booleans(), st.booleans()
    ),
    max_size=12,
)


@given(WRITES)
def test_the_machine_always_reads_what_it_wrote_last(writes: list[tuple[int, int, str, bool, bool]]) -> None:
    file = os.memfd_create("disk")
    powered, meant = Disk(file, SECTORS * SECTOR), bytearray(SECTORS * SECTOR)
    for at, count, letter, through, flushes in writes:
        data = block(letter, min(count, SECTORS - at))
        powered.write(at * SECTOR, data, through=through)
        meant[at * SECTOR : at * SECTOR + len(data)] = data
        assert powered.read(0, SECTORS * SECTOR) == meant
        if flushes:
            powered.flush()
            assert os.pread(file, SECTORS * SECTOR, 0).ljust(len(meant), b"\0") == meant
    os.close(file)


def test_a_machine_agrees_on_the_export_reads_writes_and_flushes(medium: Path, tmp_path: Path) -> None:
    server = Server(medium, tmp_path / "disk.sock")
    with socket.socket(socket.AF_UNIX) as machine:
        machine.connect(str(server.path))
        assert struct.unpack(">QQH", disk.exactly(machine, 18))[:2] == (disk.MAGIC, disk.OPTION_MAGIC)
        machine.sendall(struct.pack(">I", disk.FIXED_NEWSTYLE | disk.NO_ZEROES))
        machine.sendall(struct.pack(">QII", disk.OPTION_MAGIC, disk.GO, 6) + bytes(6))
        *_, size, flags = struct.unpack(">QIIIHQH", disk.exactly(machine, 32))
        assert (size, flags) == (SECTORS * SECTOR, disk.HAS_FLAGS | disk.SEND_FLUSH | disk.SEND_FUA)
        assert struct.unpack(">QIII", disk.exactly(machine, 20))[2] == disk.ACKNOWLEDGED

        def asked(kind: int, offset: int = 0, length: int = 0, data: bytes = b"") -> tuple[int, bytes]:
            machine.sendall(disk.REQUEST.pack(disk.REQUEST_MAGIC, 0, kind, 77, offset, length) + data)
            magic, error, handle = struct.unpack(">IIQ", disk.exactly(machine, 16))
            assert (magic, handle) == (disk.SIMPLE_REPLY_MAGIC, 77)
            return error, disk.exactly(machine, length if kind == disk.READ else 0)

        assert asked(disk.WRITE, SECTOR, SECTOR, block("a")) == (0, b"")
        assert asked(disk.READ, 0, 2 * SECTOR) == (0, bytes(SECTOR) + block("a"))
        assert medium.read_bytes() == bytes(SECTORS * SECTOR)
        assert server.disk.waiting == [Write(SECTOR, block("a"))]
        assert asked(disk.FLUSH) == (0, b"")
        assert medium.read_bytes()[: 2 * SECTOR] == bytes(SECTOR) + block("a")
        assert asked(99) == (disk.EINVAL, b"")
    assert server.cut(random.Random(0)) == Cut(kept=0, lost=0, torn=0)
    server.close()


# --------------------------------------------------------------------------------------------- the verdict


def asked(what: str, name: str) -> dict[str, Any]:
    return {"kind": "asked", "what": what, "name": name}


def answered(intent: str, name: str, trace: str = "1") -> dict[str, Any]:
    told = {"kind": "answered", "intent": intent, "name": name, "trace": trace, "error": None}
    return {**told, "heard": f"about {name}", "said": f"Yes, {name}."}


def timer(name: str, due: str = AFTER, missed: int = 0) -> dict[str, Any]:
    return {"name": name, "due": due, "missed": missed, "paused_s": None}


def turn(name: str, trace: str = "1") -> dict[str, Any]:
    return {"trace": trace, "source": "cli", "heard": f"about {name}", "said": f"Yes, {name}."}


def told(said: str, *, spoken: bool = True, closed: bool = True) -> dict[str, Any]:
    return {"trace": "9", "source": "schedule", "said": said, "spoken": said if spoken else "", "closed": closed}


def after_a_cut(**what: Any) -> dict[str, Any]:
    return {"files": [], "integrity": "ok", "timers": [], "items": [], "turns": [], "now": NOON, **what}


def settled(*turns: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "settled", "turns": list(turns)}


def promised(*lines: dict[str, Any]) -> Promises:
    promises = Promises()
    for line in lines:
        promises.take(line)
    return promises


WELL = {"health": {"store": "ok"}}
TEA_IS_SET = (asked("timer", "tea"), answered("timer.set", "tea"))
KEPT = after_a_cut(timers=[timer("tea")], turns=[turn("tea")])


def test_all_that_was_acknowledged_and_is_there_is_right() -> None:
    assert lost(promised(*TEA_IS_SET), KEPT) == []


@pytest.mark.parametrize(
    ("left", "wrong"),
    [
        (KEPT | {"timers": []}, "timer lost: tea"),
        (KEPT | {"turns": []}, "turn lost: 'about tea'"),
        (KEPT | {"turns": [turn("tea") | {"said": "No."}]}, "turn changed"),
        (KEPT | {"integrity": "row 3 missing from index"}, "database: row 3"),
        (KEPT | {"files": ["roomtone.db", "roomtone.db.corrupt-20260301"]}, "set aside: roomtone.db.corrupt"),
        ({"files": [], "now": NOON}, "there is no database"),
    ],
)
def test_each_thing_that_is_lost_is_said(left: dict[str, Any], wrong: str) -> None:
    [found] = lost(promised(*TEA_IS_SET), left)
    assert found.startswith(wrong)


def test_an_item_that_was_promised_and_is_not_there_is_said() -> None:
    promises = promised(asked("item", "rice"), answered("lists.add", "rice"))
    assert lost(promises, after_a_cut(turns=[turn("rice")])) == ["item lost: rice"]


def test_what_was_cancelled_or_had_rung_aloud_is_not_missed() -> None:
    cancelled = promised(*TEA_IS_SET, asked("cancel", "tea"), answered("timer.cancel", "tea"))
    rang = promised(*TEA_IS_SET, {"kind": "stopped", "said": ["Your tea timer is done."]})
    for promises in (cancelled, rang):
        assert not promises.timers
        assert lost(promises, after_a_cut(turns=[turn("tea")])) == []


def test_where_the_power_went_before_the_answer_both_outcomes_are_right() -> None:
    promises = promised(*TEA_IS_SET, asked("cancel", "tea"))
    assert lost(promises, KEPT) == []
    assert lost(promises, KEPT | {"timers": []}) == []


def test_what_came_due_while_off_is_told_in_exactly_one_sentence() -> None:
    left = after_a_cut(timers=[timer("tea", BEFORE), timer("rice", AFTER), timer("soup", BEFORE, missed=1)])
    assert overdue(left) == ["tea"]
    sentence = told("I was off for one hour; your tea timer ended one hour ago.")
    assert untold(Promises(), left, settled(sentence), WELL) == []
    assert len(untold(Promises(), left, settled(sentence, sentence), WELL)) == 1
    assert len(untold(Promises(), left, settled(), WELL)) == 2
    assert untold(Promises(), left, settled(told("While I was off, your timer ended.")), WELL) == ["not told: tea"]
    assert len(untold(Promises(), after_a_cut(), settled(sentence), WELL)) == 1


def test_a_sentence_that_nobody_heard_does_not_count() -> None:
    left = after_a_cut(timers=[timer("tea", BEFORE)])
    sentence = told("While I was off, your tea timer ended just now.", spoken=False)
    assert untold(Promises(), left, settled(sentence), WELL)


def test_to_be_cut_off_is_told_once_and_only_where_something_was_under_way() -> None:
    cut_off, left = told("I was cut off. I was saying: yes."), after_a_cut()
    under_way = promised(asked("question", ""))
    assert untold(under_way, left, settled(cut_off), WELL) == []
    assert len(untold(under_way, left, settled(cut_off, cut_off), WELL)) == 1
    assert len(untold(promised(*TEA_IS_SET), left, settled(cut_off), WELL)) == 1


def test_a_part_that_is_not_well_is_said() -> None:
    ill = {"health": {"store": "damaged"}}
    assert untold(Promises(), after_a_cut(), settled(), ill) == ["health of store: damaged"]


# ------------------------------------------------------------------------------------------- what is asked


@given(st.integers(), st.integers(0, 4))
def test_whatever_is_asked_names_no_timer_twice(seed: int, running: int) -> None:
    names = [f"{colour} tea" for colour in guest.COLOURS[:running]]
    timers = [{"name": name, "kind": "timer"} for name in names]
    what, name, text = guest.next_request(random.Random(seed), timers)
    assert (what == "cancel") == (running >= guest.TOGETHER)
    assert (name in names) == (what == "cancel")
    assert re.search(name, text)


# -------------------------------------------------------------------------------------------- what is said


def test_the_summary_counts_cuts_and_what_was_wrong_after_them() -> None:
    lives = [
        Life(54.0),
        Life(31.0, 2, "idle", Cut(1, 2, 1)),
        Life(29.0, 0, "idle", Cut(0, 0, 0), ["timer lost: tea"]),
    ]
    assert summary(lives, promised(*TEA_IS_SET), 7) == (
        "2 power cuts (seed 7), 1 with anything wrong; 1 answers given, 2 timers due while off; "
        "3 of 4 unflushed writes spoiled; ready 31 s after power (median), 31 s at most"
    )
    assert str(lives[1]) == "   31.0      2          1/2/1  idle                     ok"


@pytest.mark.parametrize(
    ("last", "amid"),
    [
        ({"kind": "found"}, "starting"),
        ({"kind": "ready"}, "telling"),
        ({"kind": "stopped"}, "ringing"),
        ({"kind": "answered"}, "idle"),
        (asked("timer", "tea"), "answering (timer)"),
    ],
)
def test_what_went_on_at_a_cut_is_what_the_machine_told_of_last(last: dict[str, Any], amid: str) -> None:
    assert doing([{"kind": "found"}, last]) == amid
    assert doing([]) == "starting"
