"""The doctor: every illness is told with what mends it, whatever else is broken, and nothing is changed."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

import sick_card
from conftest import Run
from roomtone import cli, control, doctor, engines, models
from roomtone.commands.doctor import bar
from roomtone.core.errors import RoomBusy, UsageError
from roomtone.core.sound import RATE, Audio
from roomtone.doctor import Finding, Listening, examine, house, machine, sound
from roomtone.doctor.findings import Level, summary
from roomtone.doctor.store import look as look_at_store
from roomtone.edges.control import Answer, listening, serve_on
from roomtone.flow import beside
from roomtone.loopback import Heard, LoopBack
from roomtone.settings import Settings
from roomtone.store import FILE_NAME, open_store
from sound_card import Server

NOW = datetime(2026, 11, 21, 16, 20, tzinfo=ZoneInfo("Europe/Berlin"))


@pytest.fixture(autouse=True)
def _no_service_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(control, "SERVICE_SOCKET", tmp_path / "run" / "control.sock")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def settings(state: Path, **more: Any) -> Settings:
    return Settings.model_validate(
        {"state_dir": state, "audio": {"engine": "wav"}, "time_zone": "Europe/Berlin", **more}
    )


async def findings(chosen: Settings, mistakes: list[str] | None = None) -> list[Finding]:
    return [finding async for finding in examine(chosen, mistakes or [], named=True)]


def of(subject: str, found: list[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.subject == subject]


def levels(found: list[Finding]) -> set[str]:
    return {finding.level for finding in found}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# ------------------------------------------------------------------------------------------ the whole


def test_a_fresh_room_is_well_and_nothing_is_made_by_looking(run: Run[Any], state: Path) -> None:
    found = run(findings(settings(state)))
    assert "fail" not in levels(found)
    assert not state.exists()
    looked_at = {finding.subject for finding in found}
    assert {"configuration", "daemon", "audio", "vad", "echo", "wake", "stt", "tts", "models"} <= looked_at
    assert {"personas", "skills", "store", "clock", "disk", "memory", "microphone"} <= looked_at


def test_each_finding_is_a_json_object_and_the_exit_code_says_whether_it_works(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("audio: {engine: wav}\ntime_zone: Europe/Berlin")
    words = ["doctor", "--config", str(file), "--state-dir", str(state)]
    assert cli.main([*words, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(set(row) == {"subject", "level", "said", "mend"} for row in rows)
    assert all(row["mend"] for row in rows if row["level"] != "ok")
    file.write_text("audio: {engine: wav}\nweb: {listen: 1}\nhub: {ur: x}")
    assert cli.main([*words, "--json"]) == 1
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert err == ""
    assert [row["mend"] for row in rows if row["subject"] == "configuration"] == [
        "did you mean url?",
        "put it in quotes",
    ]
    assert len({row["subject"] for row in rows}) > 10, "the rest is looked at all the same"
    assert cli.main(words) == 1
    assert "did you mean url?" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a: [", b"- 1", b"\x00" * 10])
def test_a_configuration_that_is_none_is_one_of_the_findings(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    file = tmp_path / "c.yaml"
    file.write_bytes(content)
    assert cli.main(["doctor", "--config", str(file), "--state-dir", str(state), "--json"]) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[0]["level"] == "fail"
    assert str(file) in rows[0]["said"]
    assert "store" in {row["subject"] for row in rows}


def test_a_check_that_hangs_or_breaks_is_a_finding_and_the_others_still_tell(
    run_in_real_time: Run[Any], state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung = threading.Event()
    monkeypatch.setattr(doctor, "BOUND_S", 0.2)
    monkeypatch.setattr(house, "engines_of", lambda _: [hung.wait()])
    monkeypatch.setattr(house, "skills_of", lambda _: [1 / 0])

    async def look() -> list[Finding]:
        found = await findings(settings(state))
        hung.set()
        return found

    found = run_in_real_time(look())
    assert levels(of("engines", found)) == {"fail"}
    assert "ZeroDivisionError" in of("skills", found)[0].said
    assert levels(of("store", found)) == {"ok"}


# ------------------------------------------------------------------------------------------- engines


def test_an_engine_that_cannot_be_opened_comes_with_what_installs_it(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roomtone.engines.vad.silero.missing", lambda _: "no runtime; run: pip install x")
    found = of("vad", list(house.engines_of(settings(state, vad={"engine": "silero"}))))
    assert found == [Finding("vad", "fail", "silero: no runtime", "run: pip install x")]


def test_where_no_engine_can_be_opened_each_is_told(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("piper", "espeak"):
        monkeypatch.setattr(f"roomtone.engines.tts.{name}.missing", lambda _, name=name: f"no {name}; get {name}")
    found = of("tts", list(house.engines_of(settings(state))))
    assert [(finding.level, finding.mend) for finding in found] == [("fail", "get espeak"), ("fail", "get piper")]


def test_a_better_engine_that_could_be_there_is_named(state: Path) -> None:
    (found,) = of("stt", list(house.engines_of(settings(state))))
    assert (found.level, found.said) == ("ok", "pocketsphinx; whisper would be better")
    assert found.mend is not None
    assert found.mend.startswith("run: ")


def test_an_engine_with_a_wrong_key_is_told(state: Path) -> None:
    found = of("vad", list(house.engines_of(settings(state, vad={"engine": "webrtc", "mode": 17}))))
    assert levels(found) == {"fail"}


# ------------------------------------------------------------------------------- models, personas, skills


def test_a_model_that_is_not_whole_comes_with_the_command_that_mends_it(state: Path) -> None:
    voice = state / "models" / "piper" / "en_US-amy-low.onnx"
    voice.parent.mkdir(parents=True)
    voice.write_bytes(b"\x08\x08")
    half = models.incoming_of("whisper", "base.en", state / "models") / "model.bin.1.part"
    half.parent.mkdir(parents=True)
    half.write_bytes(bytes(20_000_000))
    found = list(house.models_in(state / "models"))
    assert levels(found) == {"warn"}
    assert [finding.mend for finding in found] == [
        "run: roomtone models pull en_US-amy-low",
        "run: roomtone models pull whisper-base.en",
    ]
    assert "20 MB are here" in found[1].said


def persona(folder: Path, content: str) -> None:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(content)
    (folder / "system_prompt.md").write_text("You are one of several.")


def test_how_the_room_is_called_is_told_and_which_word_calls_nobody(state: Path) -> None:
    def told(**sections: Any) -> list[tuple[str, str]]:
        return [(found.level, found.said) for found in house.calling(settings(state, **sections))]

    assert told(listen={"mode": "open"}) == [("ok", "to whoever speaks")]
    assert told(listen={"mode": "button"}) == [("ok", "after a press of the button")]
    assert told(wake={"engine": "none"})[0][0] == "warn"
    if not engines.load("wake", "microwakeword").missing(Settings().engine("wake")[1]):
        words = ["okay_nabu", {"model": "alexa", "persona": "nobody"}]
        [(level, message), (_, listens)] = told(wake={"words": words})
        assert (level, listens) == ("warn", "for okay_nabu or alexa")
        assert "alexa calls 'nobody'" in message


def test_every_mistake_of_a_persona_is_told_and_who_speaks(state: Path, tmp_path: Path) -> None:
    persona(tmp_path / "own" / "pirate", "name: [")
    persona(tmp_path / "own" / "sailor", "name: Sailor\ntools: [flying]\nvoice: {speed: 9}")
    persona(tmp_path / "own" / "cook", "name: Cook\ntools: [flying]")
    persona(tmp_path / "own" / "baker", "name: Baker")
    keys = {"dir": tmp_path / "own", "default": "baker"}
    found = list(house.personas_of(settings(state, personas=keys)))
    assert ("ok", "baker speaks") in [(finding.level, finding.said) for finding in found]
    warned = [finding.said for finding in found if finding.level == "warn"]
    assert [each.partition(str(tmp_path / "own"))[2].split(":")[:2] for each in warned] == [
        ["/cook/config.yaml", " tools"],
        ["/pirate/config.yaml", " is not YAML"],
        ["/sailor/config.yaml", " voice.speed"],
    ]


def test_a_default_that_there_is_not_is_told_with_those_there_are(state: Path, tmp_path: Path) -> None:
    persona(tmp_path / "own" / "cook", "name: Cook")
    keys = {"dir": tmp_path / "own", "default": "nobody"}
    last = list(house.personas_of(settings(state, personas=keys)))[-1]
    assert last.said == "personas.default: there is no persona 'nobody', so another one speaks"
    assert "companion, cook" in (last.mend or "")


def test_a_folder_of_personas_that_is_not_there_is_told(state: Path, tmp_path: Path) -> None:
    first, *_ = house.personas_of(settings(state, personas={"dir": tmp_path / "nowhere"}))
    assert (first.level, first.mend) == ("warn", f"run: mkdir -p {tmp_path / 'nowhere'}")


def test_when_each_schedule_comes_next_is_told_and_which_calls_nobody(state: Path) -> None:
    chosen = settings(
        state,
        schedules={
            "bedtime": {"cron": "30 19 * * *", "persona": "nobody"},
            "noon": {"cron": "0 12 * * *", "say": "x"},
        },
        events={"doorbell": {"persona": "butler"}, "post": {"persona": "postman"}},
    )
    told = [finding.said for finding in house.schedules_of(chosen)]
    assert told[:2] == [
        "schedules.bedtime.persona: there is no persona 'nobody'",
        "events.post.persona: there is no persona 'postman'",
    ]
    assert [line.endswith(time) for line, time in zip(told[2:], ("19:30", "12:00"), strict=True)] == [True, True]


def test_a_refused_skill_is_told_with_its_reason(state: Path) -> None:
    folder = state / "skills" / "broken"
    folder.mkdir(parents=True)
    (folder / "en.yaml").write_text("intents: [")
    found = list(house.skills_of(settings(state)))
    assert [finding.level for finding in found] == ["warn", "ok"]
    assert str(folder) in found[0].said


# --------------------------------------------------------------------------------------------- store


@pytest.fixture
def kept(run: Run[Any], state: Path) -> Path:
    """A store that was closed well."""

    async def make() -> None:
        async with open_store(state / FILE_NAME):
            return

    run(make())
    return state / FILE_NAME


def test_a_sound_store_is_left_as_it_is(kept: Path, state: Path) -> None:
    before = contents(state)
    (found,) = look_at_store(state, running=False)
    assert found.level == "ok"
    assert contents(state) == before


def test_a_store_that_a_power_cut_left_behind_is_looked_at_in_a_copy(kept: Path, state: Path, tmp_path: Path) -> None:
    database = sqlite3.connect(kept)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("INSERT INTO migrations (name) VALUES ('9999 later')")
    database.commit()
    cut = tmp_path / "cut"
    cut.mkdir()
    for part in (FILE_NAME, f"{FILE_NAME}-wal"):
        shutil.copyfile(state / part, cut / part)
    database.close()
    before = contents(cut)
    assert f"{FILE_NAME}-wal" in {Path(path).name for path in before}
    (found,) = look_at_store(cut, running=False)
    assert found.mend == "upgrade this one, or use another --state-dir", "what was written last is in the second file"
    assert contents(cut) == before


def test_a_store_that_a_daemon_has_open_is_read_along(kept: Path, state: Path) -> None:
    database = sqlite3.connect(kept)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("BEGIN IMMEDIATE")
    (found,) = look_at_store(state, running=True)
    assert found.level == "ok"
    database.close()


@pytest.mark.parametrize("damage", ["garbage", "hole"])
def test_a_damaged_store_is_told_and_not_touched(kept: Path, state: Path, damage: str) -> None:
    content = kept.read_bytes()
    kept.write_bytes(b"nonsense" * 1000 if damage == "garbage" else content[:3000] + bytes(6000) + content[9000:])
    before = contents(state)
    (found,) = look_at_store(state, running=False)
    assert found.level == "fail"
    assert "set aside" in str(found.mend)
    assert contents(state) == before


def test_a_store_of_a_newer_version_is_told(kept: Path, state: Path) -> None:
    database = sqlite3.connect(kept)
    with database:
        database.execute("INSERT INTO migrations (name) VALUES ('9999 later')")
    database.close()
    (found,) = look_at_store(state, running=False)
    assert (found.level, found.mend) == ("fail", "upgrade this one, or use another --state-dir")


def test_what_was_set_aside_before_is_told(kept: Path, state: Path) -> None:
    (state / f"{FILE_NAME}.corrupt-1").write_bytes(bytes(100))
    assert [finding.level for finding in look_at_store(state, running=False)] == ["ok", "warn"]


def test_a_state_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    found = list(look_at_store(tmp_path / "file" / "state", running=False))
    assert found[0].level == "fail"
    assert "--state-dir" in str(found[0].mend)


# -------------------------------------------------------------------------------------------- daemon


def asked(run: Run[Any], state: Path, answer: Answer) -> list[Finding]:
    """Look at a room whose daemon answers so."""

    async def look() -> list[Finding]:
        async with listening(state / "control.sock") as server, beside(serve_on(server, answer), "daemon"):
            return await findings(settings(state))

    found: list[Finding] = run(look())
    return found


def test_a_running_daemon_tells_how_it_is_and_keeps_its_microphone(run_in_real_time: Run[Any], state: Path) -> None:
    async def answer(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        assert request["command"] in ("status", "levels", "chirp")
        if request["command"] == "levels":
            yield {"dbfs": -51.0}
            yield {"result": asdict(Heard(1.5, -50.0, -30.0, 0.0, dead=False))}
        if request["command"] == "chirp":
            echo = LoopBack(tried=True, heard=True, delay_ms=46.2, level_db=-11.6, sure_db=-1.0, room_dbfs=-50.0)
            yield {"result": asdict(echo)}
        health = {"audio": "microphone lost, reopening", "stt": "ok"}
        yield {"result": {"state": "listening", "muted": True, "health": health}}

    found = asked(run_in_real_time, state, answer)
    assert of("daemon", found) == [Finding("daemon", "ok", "runs, listening, muted")]
    assert "microphone lost, reopening" in of("audio", found)[0].said
    assert of("microphone", found) == [Finding("microphone", "ok", "-50 dBFS, peak -30 dBFS")]
    assert of("chirp", found) == [Finding("chirp", "ok", "heard 46 ms later, 12 dB fainter than it was given")]


@pytest.mark.parametrize("result", [{}, {"result": 3}, {"result": {"health": 1}}, {"odd": 1}])
def test_a_daemon_that_answers_nonsense_is_a_finding(run_in_real_time: Run[Any], state: Path, result: Any) -> None:
    async def answer(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        yield result

    assert of("daemon", asked(run_in_real_time, state, answer))


def test_a_daemon_that_does_not_answer_is_a_finding(
    run_in_real_time: Run[Any], state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        import asyncio

        await asyncio.Event().wait()
        yield {}

    monkeypatch.setattr(doctor, "ANSWER_S", 0.1)
    everything = asked(run_in_real_time, state, answer)
    (found,) = of("daemon", everything)
    assert (found.level, found.mend) == ("fail", "run: sudo systemctl restart roomtone")
    (microphone,) = of("microphone", everything)
    assert "cannot be asked" in microphone.said, "it has the sound card, whether it tells or not"


def test_a_state_folder_held_by_who_listens_on_no_socket_is_told(run: Run[Any], state: Path) -> None:
    state.mkdir()
    lock = os.open(state / "lock", os.O_RDWR | os.O_CREAT)
    os.write(lock, b"4711\n")
    fcntl.flock(lock, fcntl.LOCK_EX)
    (found,) = of("daemon", run(findings(settings(state))))
    assert (found.level, found.mend) == ("fail", "end that one: kill 4711")
    os.close(lock)
    (found,) = of("daemon", run(findings(settings(state))))
    assert found.level == "warn"


# ------------------------------------------------------------------------------------ clock and machine


def test_a_clock_that_cannot_be_right_is_told(state: Path, tmp_path: Path) -> None:
    found = next(machine.clock("Europe/Berlin", NOW.replace(year=1970), state, tmp_path))
    assert (found.level, found.mend) == ("fail", machine.SYNC)
    state.mkdir()
    (state / FILE_NAME).touch()
    os.utime(state / FILE_NAME, (0, NOW.timestamp() + 86_400))
    assert next(machine.clock("Europe/Berlin", NOW, state, tmp_path / "none")).level == "warn"
    os.utime(state / FILE_NAME, (0, NOW.timestamp() - 60))
    assert next(machine.clock("Europe/Berlin", NOW, state, tmp_path / "none")).level == "ok"


def test_a_clock_that_no_server_has_set_is_told(state: Path, tmp_path: Path) -> None:
    assert next(machine.clock("Europe/Berlin", NOW, state, tmp_path)).level == "warn"
    (tmp_path / "synchronized").touch()
    assert next(machine.clock("Europe/Berlin", NOW, state, tmp_path)).level == "ok"


def test_a_household_in_no_time_zone_is_asked_for_its_own(state: Path, tmp_path: Path) -> None:
    found = list(machine.clock("UTC", NOW.astimezone(UTC), state, tmp_path / "none"))
    assert "set-timezone" in str(found[-1].mend)


def test_one_disk_is_told_of_once(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    assert len(list(machine.disks(tmp_path, tmp_path / "tmp"))) == 1
    assert len(list(machine.disks(tmp_path, Path("/proc")))) == 2


@pytest.mark.parametrize(("free", "level"), [(10, "fail"), (1000, "warn"), (10_000, "ok")])
def test_room_on_a_disk_is_told_before_it_is_used_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, level: str
) -> None:
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, free))
    (found,) = machine.room("disk", tmp_path, (100, 5000), "make room")
    assert (found.level, found.mend) == (level, None if level == "ok" else "make room")


def test_memory_and_heat_are_told_where_the_machine_says(tmp_path: Path) -> None:
    file = tmp_path / "x"
    for content, level in (("MemTotal: 1\nMemAvailable:  90000 kB\n", "warn"), ("MemAvailable: 9000000 kB", "ok")):
        file.write_text(content)
        assert levels(list(machine.memory(file))) == {level}
    file.write_text("nonsense")
    assert list(machine.memory(file)) == list(machine.heat(file)) == list(machine.heat(tmp_path / "none")) == []
    for content, level in (("85123\n", "warn"), ("45000\n", "ok")):
        file.write_text(content)
        assert levels(list(machine.heat(file))) == {level}


# --------------------------------------------------------------------------------------------- sound

CARD = "sick_package.card"


async def listened(chosen: Settings) -> list[Finding]:
    return await sound.listen(chosen)


@pytest.fixture(autouse=True)
def _a_package_with_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the sick card be an engine of another package, as its dotted name says."""
    import importlib.util
    import sys

    package = importlib.util.module_from_spec(importlib.util.spec_from_loader("sick_package", None, is_package=True))  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "sick_package", package)
    monkeypatch.setitem(sys.modules, CARD, sick_card)


@pytest.mark.parametrize(
    ("ill", "level", "said"),
    [
        ("no", "ok", "-50 dBFS, peak -3"),
        ("mute", "fail", "gives no sound"),
        ("frozen", "fail", "it froze after 0.4 s"),
        ("zeros", "fail", "dead silent"),
        ("faint", "warn", "hardly hears"),
        ("loud", "warn", "overdriven"),
        ("in use", "fail", "is in use by another program"),
    ],
)
def test_what_is_wrong_with_a_microphone_is_said_plainly(
    run: Run[Any], state: Path, ill: str, level: str, said: str
) -> None:
    microphone, *_ = run(listened(settings(state, audio={"engine": CARD, "ill": ill})))
    assert microphone.level == level
    assert said in microphone.said
    assert bool(microphone.mend) == (level != "ok")


def test_a_loudspeaker_that_takes_no_sound_is_told(run: Run[Any], state: Path) -> None:
    found = run(listened(settings(state, audio={"engine": CARD, "ill": "no loudspeaker"})))
    assert [(finding.subject, finding.level) for finding in found] == [("microphone", "ok"), ("loudspeaker", "fail")]


def simulated(state: Path, **more: Any) -> Settings:
    return settings(state, audio={"engine": "sim", **more.pop("audio", {})}, **more)


def test_without_a_daemon_the_doctor_chirps_itself_and_hears_it_through_the_air(run: Run[Any], state: Path) -> None:
    seen: list[tuple[str, float | None]] = []
    how = Listening(meter=lambda what, dbfs: seen.append((what, dbfs)))
    microphone, loudspeaker, chirp = run(sound.listen(simulated(state), how))
    assert levels([microphone, loudspeaker, chirp]) == {"ok"}
    assert chirp.said.startswith("heard 4")
    assert chirp.said.endswith("fainter than it was given")
    live = [dbfs for what, dbfs in seen if what == "microphone"]
    assert len(live) > 10, "the level moves while it is listened to"
    assert all(dbfs is not None and -70 < dbfs < -50 for dbfs in live)


@pytest.mark.parametrize(
    ("audio", "said"),
    [
        ({"leak_db": -110}, "the microphone did not hear it"),
        ({"delay_ms": 600, "rt60_ms": 200, "leak_db": -6}, "too late to be known as an echo"),
        ({"leak_db": 14, "drive": 0}, "it drowns who interrupts"),
    ],
)
def test_a_chirp_that_comes_back_ill_is_told_with_what_mends_it(
    run: Run[Any], state: Path, audio: dict[str, Any], said: str
) -> None:
    *_, chirp = run(listened(simulated(state, audio=audio)))
    assert (chirp.subject, chirp.level) == ("chirp", "warn")
    assert said in chirp.said
    assert chirp.mend


def test_the_doctor_does_not_chirp_in_quiet_hours_unless_somebody_insists(run: Run[Any], state: Path) -> None:
    chosen = simulated(state, quiet_hours={"start": "07:00", "end": "07:00", "volume": 0.3})
    *_, chirp = run(sound.listen(chosen))
    assert (chirp.level, chirp.mend) == ("ok", "to hear it softly all the same: roomtone doctor --chirp")
    *_, chirp = run(sound.listen(chosen, Listening(even_quiet=True)))
    assert chirp.said.startswith("heard ")


@pytest.mark.parametrize("why", ["muted", "quiet hours", "volume"])
def test_why_a_chirp_was_not_played_is_told(why: str) -> None:
    finding = sound.loop_back(LoopBack(tried=False, why=why))
    assert finding.said.startswith("not played")
    assert finding.mend


def test_a_room_that_was_just_talked_with_is_asked_once_more(run_in_real_time: Run[Any], state: Path) -> None:
    asked_for: list[str] = []

    async def answer(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        asked_for.append(request["command"])
        if request["command"] == "chirp" and asked_for.count("chirp") == 1:
            raise RoomBusy("somebody began to use the room; try again in a moment")
        echo = LoopBack(tried=True, heard=True, delay_ms=46.2, level_db=-11.6, sure_db=-1.0, room_dbfs=-50.0)
        yield {"result": asdict(echo) if request["command"] == "chirp" else {}}

    found = asked(run_in_real_time, state, answer)
    assert levels(of("chirp", found)) == {"ok"}
    assert [finding.said for finding in of("microphone", found)] == ["the daemon tells nonsense"]


def test_a_daemon_that_is_too_old_to_chirp_or_is_talked_with_says_so(run_in_real_time: Run[Any], state: Path) -> None:
    async def answer(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        if request["command"] == "levels":
            raise UsageError("there is no command 'levels'; choose one of ask, say")
        if request["command"] == "chirp":
            raise RoomBusy("somebody talks with the room; try again in a moment")
        yield {"result": {"state": "idle", "muted": False, "health": {}}}

    found = asked(run_in_real_time, state, answer)
    assert [finding.level for finding in of("microphone", found)] == ["warn"]
    assert [finding.mend for finding in of("chirp", found)] == ["try again in a moment"]


# ------------------------------------------------------------------------------------------ what is asked for


def doctor_says(capsys: pytest.CaptureFixture[str], file: Path, state: Path, *words: str) -> tuple[int, list[Any]]:
    code = cli.main(["doctor", "--config", str(file), "--state-dir", str(state), "--json", *words])
    return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "c.yaml"
    file.write_text("audio: {engine: wav}\ntime_zone: UTC")
    return file


def test_the_worst_is_told_first(file: Path, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("audio: {engine: wav}\ntime_zone: UTC\nvad: {engine: webrtc, mode: 17}")
    _, rows = doctor_says(capsys, file, state)
    order = [["fail", "warn", "ok"].index(row["level"]) for row in rows]
    assert order == sorted(order)
    assert len(set(order)) == 3


def test_only_what_is_asked_for_is_looked_at(file: Path, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, rows = doctor_says(capsys, file, state, "--only", "clock", "--only", "skills")
    assert code == 0
    assert {row["subject"] for row in rows} == {"clock", "skills"}


def test_a_sound_card_that_is_not_there_is_not_told_of_again_for_the_chirp(
    file: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text("audio: {engine: sounddevice, input: no such card}")
    code, rows = doctor_says(capsys, file, state)
    assert code == 1
    assert "audio" in {row["subject"] for row in rows if row["level"] == "fail"}
    assert "chirp" not in {row["subject"] for row in rows}


def test_who_asks_for_the_chirp_alone_is_told_by_the_exit_code_whether_it_was_heard(
    file: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, [row] = doctor_says(capsys, file, state, "--only", "chirp")
    assert (code, row["said"]) == (1, "there is nothing to play it on")
    file.write_text("audio: {engine: sim}")
    code, [row] = doctor_says(capsys, file, state, "--only", "chirp")
    assert (code, row["subject"], row["level"]) == (0, "chirp", "ok")
    file.write_text("audio: {engine: sim, leak_db: -110}")
    code, [row] = doctor_says(capsys, file, state, "--only", "chirp")
    assert (code, row["subject"], row["level"]) == (1, "chirp", "warn")


def test_every_subject_can_be_asked_for_by_name(state: Path) -> None:
    checks = [name for name, _ in doctor._checks(settings(state), running=False)]
    assert set(checks) | {"configuration", "daemon", "house", "microphone", "chirp"} == set(doctor.SUBJECTS)


def test_the_doctor_says_aloud_how_much_is_wrong_and_the_worst_of_it(
    file: Path, state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("roomtone.asking.ask", lambda settings, text, **how: told.append(text))
    code, _ = doctor_says(capsys, file, state, "--only", "clock", "--only", "skills", "--say")
    assert (code, told) == (0, ["One thing is wrong. Clock: the time zone is UTC, which few households live in."])


def test_a_summary_names_the_three_worst() -> None:
    def wrong(subject: str, level: Level) -> Finding:
        return Finding(subject, level, "it is broken", "mend it")

    assert summary([Finding("clock", "ok", "it is noon")], "en") == "I found nothing wrong."
    found = [wrong("heat", "warn"), wrong("disk", "warn"), wrong("store", "fail"), wrong("gpio", "warn")]
    text = summary([*found, wrong("hub", "warn")], "en")
    assert text.startswith("Five things are wrong. Store: it is broken. Heat: it is broken. Disk: it is broken.")
    assert "two more" in text


def test_a_level_is_drawn_as_a_bar() -> None:
    assert bar(-30.0) == "|" * 15 + "." * 15 + "  -30 dBFS"
    assert bar(-100.0).startswith("." * 30)
    assert bar(0.0).startswith("|" * 30)


def test_a_level_is_that_of_what_was_heard() -> None:
    half_scale = Audio.from_bytes(b"\x00\x40\x00\xc0" * 12_000)
    assert sound.judge(Heard.of(half_scale.samples)).said == "-6 dBFS, peak -6 dBFS"


@pytest.mark.hardware
def test_a_card_is_listed_listened_to_and_played_to(run_in_real_time: Run[Any], state: Path, server: Server) -> None:
    chosen = settings(state, audio={"engine": "sounddevice", "input": "roommic"})
    assert "roommic (microphone and loudspeaker)" in [finding.said for finding in sound.devices()]
    microphone, loudspeaker, *_ = run_in_real_time(listened(chosen))
    assert "dead silent" in microphone.said, "nothing is fed to it"
    assert loudspeaker.level == "ok"
    tone = Audio(np.round(327.68 * np.sqrt(2) * np.sin(np.arange(8 * RATE) * 0.3)).astype(np.int16))
    feeding = threading.Thread(target=server.feed, args=(tone,))
    feeding.start()
    microphone, loudspeaker, chirp = run_in_real_time(listened(chosen))
    feeding.join()
    assert microphone.level == loudspeaker.level == chirp.level == "ok"
    assert chirp.said.startswith("heard "), "the card leads its loudspeaker to its microphone"
    heard = float(microphone.said.partition(" ")[0])
    assert heard == pytest.approx(-40, abs=3)
