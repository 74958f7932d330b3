"""A bundle for whoever helps: what the program itself says is in it, and nothing that anybody in the house did."""

from __future__ import annotations

import ast
import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from conftest import Run
from roomtone import cli, control
from roomtone.core.errors import ConfigError
from roomtone.doctor import Finding
from roomtone.edges.control import listening, serve_on
from roomtone.flow import beside
from roomtone.own_words import REMOVED, OwnWords, as_message, messages_in, own_words, scrub
from roomtone.settings import Settings
from roomtone.support_bundle import Sources, bundle, fields, gather, journal, metrics, write

PLANTED = {
    "key": "sk-ant-Zx81QqPlantedKey",
    "password": "hunter2planted",
    "pin": "48123377",
    "sentence": "the surprise party for grandmother is on friday evening",
    "answer": "i will not tell anybody about the surprise",
    "memory": "the spare key lies under the third flowerpot",
    "prompt": "you are captain plankbeard and hate mondays",
    "person": "Wilhelmina",
    "wifi": "FRITZ!Box Zwetschgenweg",
    "host": "nas.zwetschgenweg.home",
    "address": "192.168.178.77",
    "room": "wilhelminas-nursery",
    "home": "villa-zwetschge",
    "persona": "plankbeard",
    "path": "/home/wilhelmina/rooms",
    "phone": "+49 170 5550123",
    "code": "481 233",
}
"""What no bundle may hold, whichever way it came in."""


@pytest.fixture(scope="module")
def words() -> OwnWords:
    return own_words()


def a_house(state: Path) -> Settings:
    planted = PLANTED
    return Settings.model_validate(
        {
            "state_dir": state / planted["person"],
            "device": {"id": planted["room"], "name": planted["person"], "room": planted["room"]},
            "audio": {"engine": "sounddevice", "input": planted["wifi"]},
            "household": {"names": [planted["person"]], "preferences": {planted["person"]: planted["memory"]}},
            "hub": {
                "url": f"mqtts://{planted['host']}:8883",
                "home": planted["home"],
                "username": planted["person"],
                "password": planted["password"],
                "code": planted["code"],
                "ca": planted["path"],
            },
            "llm": {
                "route": [planted["persona"]],
                "providers": {
                    planted["persona"]: {
                        "engine": "openai",
                        "base_url": f"http://{planted['address']}:11434/v1",
                        "api_key": planted["key"],
                        "model": planted["persona"],
                        "pin_token": int(planted["pin"]),
                    }
                },
            },
            "mcp": {
                planted["persona"]: {
                    "command": planted["path"],
                    "env": {"TOKEN": planted["key"]},
                    "args": [planted["key"]],
                }
            },
            "schedules": {planted["persona"]: {"cron": "0 7 * * *", "say": planted["sentence"]}},
            "events": {planted["persona"]: {"say": planted["answer"]}},
            "web": {"listen": f"{planted['address']}:8765"},
        }
    )


def record(message: Any, **more: Any) -> str:
    known = {"__REALTIME_TIMESTAMP": "1795312800000000", "_SYSTEMD_UNIT": "roomtone.service", "PRIORITY": "4"}
    return json.dumps({**known, "MESSAGE": message, "_HOSTNAME": PLANTED["host"], **more})


def a_traceback(text: str) -> list[str]:
    return [
        "12:00:00 ERROR roomtone.turn: a block of sound could not be heard",
        "Traceback (most recent call last):",
        f'  File "{PLANTED["path"]}/roomtone/ears.py", line 12, in {text}',
        f'    say("{text}")',
        f"ValueError: {text}",
    ]


def the_log() -> str:
    """A journal in which everything planted stands, in every form that the log has."""
    lines = [
        record(f"12:00:00 WARNING roomtone.ears: heard {text} (0.97) [turn=1 trace={text}]")
        for text in PLANTED.values()
    ]
    for text in PLANTED.values():
        told = {
            "at": "x",
            "level": "info",
            "logger": "roomtone.mind",
            "message": text,
            "session": text,
            "heard": text,
        }
        lines.append(record(json.dumps(told)))
        lines.append(record(f"the store cannot be read: {text}; run: {text}", UNIT=f"{text}.service"))
        lines.append(record("\\n".join(a_traceback(text))))
        lines.append(record([*text.encode(), 255]))
        lines.append(
            record("ready: audio sim", CODE_FILE=f"/{text}/roomtone/{text}.py", CODE_LINE=text, ROOMTONE_X=text)
        )
        lines.append(record("ready: audio sim", CODE_FILE=f"/{text}/roomtone/daemon.py", CODE_LINE="12"))
    return "\n".join([*lines, "no json", "{}", "[]", json.dumps(PLANTED)])


def everything(state: Path) -> Sources:
    labels = ",".join(f'{key}="{text}"' for key, text in PLANTED.items())
    comment = f"# HELP {PLANTED['sentence']}\n{PLANTED['key']} 1\n"
    return Sources(
        settings=a_house(state),
        findings=[
            *(
                Finding(text, "warn", f"personas.dir: there is no folder {text} to read", f"run: mkdir -p {text}")
                for text in PLANTED.values()
            ),
            *(Finding("mcp", "fail", text, text) for text in PLANTED.values()),
        ],
        journal=the_log(),
        units="\n\n".join(f"Id=roomtone.service\nStatusText={text}\n{text}=1" for text in PLANTED.values()),
        metrics=f"roomtone_turns_total{{{labels}}} 3\nroomtone_up 1\n{comment}",
        status={"state": "idle", "health": {text: text for text in PLANTED.values()}, PLANTED["key"]: PLANTED["pin"]},
    )


def opened(content: bytes) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        found = {}
        for member in tar.getmembers():
            file = tar.extractfile(member)
            assert file is not None
            assert (member.uname, member.gname, member.uid) == ("", "", 0)
            found[member.name.removeprefix("roomtone-support/")] = file.read().decode()
    return found


def test_nothing_that_was_planted_anywhere_is_in_a_bundle(words: OwnWords, tmp_path: Path) -> None:
    content = bundle(everything(tmp_path), words)
    for whole in (content, gzip.decompress(content), "".join(opened(content).values()).encode()):
        for what, text in PLANTED.items():
            assert text.encode() not in whole, what
            assert text.casefold().encode() not in whole.lower(), what
        for part in ("zwetschge", "wilhelmina", "grandmother", "flowerpot", "5550123", "178.77", "plank"):
            assert part.encode() not in whole.lower()


def test_what_whoever_helps_needs_is_in_it(words: OwnWords, tmp_path: Path) -> None:
    found = opened(bundle(everything(tmp_path), words))
    names = [
        "README",
        "versions.json",
        "findings.jsonl",
        "config.json",
        "status.json",
        "units.jsonl",
        "journal.jsonl",
    ]
    assert list(found) == [*names, "metrics.txt"]
    told = json.loads(found["config.json"])
    assert told["audio"]["engine"] == "sounddevice"
    assert told["llm"]["providers"]["[1]"]["engine"] == "openai"
    assert told["llm"]["tokens"] == 8000
    assert "roomtone_up 1" in found["metrics.txt"]
    lines = [json.loads(line)["message"] for line in found["journal.jsonl"].splitlines()]
    assert f"roomtone.ears: heard {REMOVED} (0.97)" in lines
    broken = next(line for line in lines if "could not be heard" in line)
    assert "roomtone.ears:12" in broken
    assert broken.endswith(f"ValueError: {REMOVED}")
    assert {"roomtone.daemon:12", None} == {json.loads(line)["where"] for line in found["journal.jsonl"].splitlines()}
    first = json.loads(found["findings.jsonl"].splitlines()[0])
    assert first["said"] == f"personas.dir: there is no folder {REMOVED} to read"
    assert json.loads(found["versions.json"])["python"]


def test_a_bundle_names_nobody_in_its_own_head(words: OwnWords, tmp_path: Path) -> None:
    content = bundle(Sources(a_house(tmp_path)), words)
    assert content[3] & 0x08 == 0, "gzip keeps no name of a file"
    assert set(opened(content)) >= {"README", "config.json"}


# ------------------------------------------------------------------------------------------- own words


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("ready: audio sim, vad webrtc", "ready: audio sim, vad webrtc"),
        ("roomtone.service: Main process exited, code=killed, status=9/KILL",) * 2,
        ("the store was written by a newer Roomtone",) * 2,
        ("heard 46 ms later, 12 dB fainter than it was given",) * 2,
        (
            "personas.dir: there is no folder /home/somebody to read",
            f"personas.dir: there is no folder {REMOVED} to read",
        ),
        ("my secret is 1234", REMOVED),
        ("12345678", REMOVED),
        ("481 233", REMOVED),
        ("", ""),
    ],
)
def test_of_a_line_what_the_program_says_is_kept(words: OwnWords, text: str, kept: str) -> None:
    assert words.only(text) == kept


def test_messages_are_read_from_a_modules_source_but_not_its_docstrings() -> None:
    source = '"""a docstring of it"""\nlog.info("it took %d s of %s", 1, 2)\nx = f"{a} is gone; run: {b} again"\n'
    found = {"{}".join(message.parts) for message in messages_in(ast.parse(source))}
    assert found == {"it took {} s of {}", "{} is gone; run: {} again", "{} is gone", "run: {} again"}


def test_what_people_say_in_a_demo_is_no_message(words: OwnWords) -> None:
    assert words.only("Set a pasta timer for nine minutes.") == REMOVED


@given(some.text(alphabet=some.characters(codec="utf-8", exclude_characters="\n\r"), max_size=60))
def test_whatever_fills_a_gap_never_comes_through(text: str) -> None:
    own = OwnWords([as_message("the engine {} has failed: {}")], {"whisper"})
    secret = f"§{text}§"
    assert "§" not in own.only(f"the engine {secret} has failed: {secret}")
    assert "§" not in own.only(secret)


@given(
    some.recursive(
        some.text(max_size=8) | some.integers() | some.none(),
        lambda inner: some.dictionaries(some.text(max_size=8), inner),
        max_leaves=8,
    )
)
def test_plain_data_keeps_its_shape_and_loses_its_texts(value: Any) -> None:
    kept = scrub({"§": value}, OwnWords([], ()), frozenset())
    assert list(kept) == ["[1]"]
    assert "§" not in json.dumps(kept, ensure_ascii=False)


def test_the_keys_of_a_configuration_are_known_and_a_households_are_not() -> None:
    known = fields()
    assert {"engine", "api_key", "follow_up_s", "cron", "rt60_ms", "base_url"} <= known
    assert not known & set(PLANTED.values())


@pytest.mark.parametrize("text", ["", "\0", "{", "null", "[1]", '{"MESSAGE": null}', record(None), record({"a": 1})])
def test_a_journal_of_nonsense_is_passed_over(words: OwnWords, text: str) -> None:
    assert all(set(each) == {"at", "unit", "priority", "where", "message"} for each in journal(text, words))


def test_samples_keep_their_numbers_and_known_labels_only(words: OwnWords) -> None:
    page = 'roomtone_x{seam="stt",le="0.0025",persona="Wilhelmina"} 2.0\nother{a="b"} 1\nnonsense\n'
    assert list(metrics(page, words)) == [f'roomtone_x{{seam="stt",le="0.0025",persona="{REMOVED}"}} 2.0']


# ---------------------------------------------------------------------------------------------- the file


def test_a_bundle_is_its_owners_alone_and_never_written_over_a_file(words: OwnWords, tmp_path: Path) -> None:
    file = tmp_path / "help.tar.gz"
    write(file, Sources(a_house(tmp_path)), words)
    assert file.stat().st_mode & 0o777 == 0o600
    before = file.read_bytes()
    with pytest.raises(ConfigError, match="is there already"):
        write(file, Sources(a_house(tmp_path)), words)
    assert file.read_bytes() == before
    with pytest.raises(ConfigError, match="cannot be written"):
        write(tmp_path / "no" / "help.tar.gz", Sources(a_house(tmp_path)), words)


def test_the_daemon_and_systemd_are_asked_and_who_does_not_answer_is_left_out(
    run_in_real_time: Run[Any], tmp_path: Path
) -> None:
    async def answer(request: dict[str, Any]) -> Any:
        yield {"result": {"state": "idle"} if request["command"] == "status" else "roomtone_up 1"}

    async def look() -> Sources:
        chosen = Settings(state_dir=tmp_path)
        nothing = await gather(chosen, [], named=True, asks=lambda words: None)
        assert (nothing.metrics, nothing.status) == (None, {})
        assert [finding.said for finding in nothing.findings] == ["the journal cannot be read by this user"]
        async with listening(tmp_path / "control.sock") as server, beside(serve_on(server, answer), "daemon"):
            return await gather(chosen, [], named=True, asks=lambda words: words[0])

    sources = run_in_real_time(look())
    assert (sources.journal, sources.units) == ("journalctl", "systemctl")
    assert (sources.metrics, sources.status) == ("roomtone_up 1", {"state": "idle"})


def test_the_doctor_writes_a_bundle_of_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(control, "SERVICE_SOCKET", tmp_path / "none.sock")
    file = tmp_path / "c.yaml"
    file.write_text(f"audio: {{engine: wav}}\nhousehold: {{names: [{PLANTED['person']}]}}")
    out = tmp_path / "b.tar.gz"
    words = [
        "doctor",
        "--config",
        str(file),
        "--state-dir",
        str(tmp_path / "s"),
        "--only",
        "clock",
        "--only",
        "skills",
    ]
    assert cli.main([*words, "--json", "--bundle", str(out)]) == 0
    assert "look through it" in capsys.readouterr().err
    found = opened(out.read_bytes())
    subjects = {json.loads(line)["subject"] for line in found["findings.jsonl"].splitlines()}
    assert subjects - {"bundle"} == {"clock", "skills"}
    assert PLANTED["person"] not in "".join(found.values())
