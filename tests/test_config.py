"""Configuration: defaults, where values come from, and how mistakes are told."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from roomtone import __version__, config, config_sources, settings
from roomtone.config import default_state_dir, find_file, flat, keep, load, load_or_last_good, masked
from roomtone.config_sources import read
from roomtone.core.errors import ConfigError
from roomtone.settings import Settings, as_id


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def mistakes(path: Path, env: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, env or {})
    lines: list[str] = caught.value.details["mistakes"]
    assert caught.value.message == "\n".join(lines)
    return [line.removeprefix(f"{path}: ") for line in lines]


# ------------------------------------------------------------------------------------------- sources


def test_everything_has_a_default_without_any_file() -> None:
    settings = load(env={})
    assert settings.listen.mode == "wake_word"
    assert settings.personas.default == "companion"
    assert not any(settings.features.model_dump().values())
    assert settings.zone.key == settings.time_zone


def test_the_shape_in_the_readme_is_accepted(file: Path) -> None:
    file.write_text("""
device: {id: kitchen-1, name: Kitchen, room: kitchen}
state_dir: /var/lib/roomtone
listen: {mode: wake_word, follow_up_s: 6}
vad: {engine: auto}
echo: {engine: auto}
wake: {engine: auto, words: [okay_nabu]}
stt: {engine: auto, language: en}
tts: {engine: auto}
llm:
  route: [house, claude, pi]
  providers:
    pi: {engine: llama_cpp, model: qwen2.5-1.5b-instruct}
    house: {engine: openai, base_url: http://nas.local:11434/v1, model: llama3.2}
    claude: {engine: anthropic, model: claude-sonnet-4, api_key: credential:anthropic}
personas: {dir: /etc/roomtone/personas, default: companion}
hub: {url: mqtts://hub.local:8883, home: ours}
web: {listen: none}
language: en
time_zone: Europe/Berlin
features: {offline_mode: false}
log: {level: info, format: text}
""")
    settings = load(file, {"ANTHROPIC": "sk-1"})
    key = settings.llm.providers["claude"].keys["api_key"]
    assert settings.device.room == "kitchen"
    assert settings.llm.route == ("house", "claude", "pi")
    assert key is not None
    assert key.get_secret_value() == "sk-1"


def test_a_variable_goes_before_the_file(file: Path) -> None:
    file.write_text("listen: {mode: button, follow_up_s: 3}")
    env = {"ROOMTONE__LISTEN__MODE": "open", "ROOMTONE__FEATURES__ANALYTICS": "true"}
    settings = load(file, {**env, "ROOMTONE__WAKE__WORDS": "[alexa]", "ROOMTONE__DEVICE__NAME": "007"})
    assert (settings.listen.mode, settings.listen.follow_up_s) == ("open", 3)
    assert settings.features.analytics is True
    assert settings.wake.keys["words"] == ["alexa"]
    assert settings.device.name == "007"


def test_the_file_is_the_one_named_then_the_machines_then_the_users(tmp_path: Path) -> None:
    user = Path(os.environ["XDG_CONFIG_HOME"]) / "roomtone" / "config.yaml"
    assert find_file(None, {}) is None
    for path in (user, config.SYSTEM_FILE):
        path.parent.mkdir(parents=True)
        path.touch()
        assert find_file(None, {}) == path
    assert find_file(None, {"ROOMTONE_CONFIG": "/a"}) == Path("/a")
    assert find_file(Path("/b"), {"ROOMTONE_CONFIG": "/a"}) == Path("/b")


def test_an_engine_gets_its_own_keys(file: Path) -> None:
    file.write_text("vad: {engine: webrtc, mode: 3}")
    name, settings = load(file, {}).engine("vad")
    assert (name, settings.model_dump()["mode"]) == ("webrtc", 3)


def test_settings_cannot_be_changed() -> None:
    settings = load(env={})
    with pytest.raises(ValueError, match="frozen"):
        settings.device.name = "other"  # type: ignore[misc]


# ------------------------------------------------------------------------------------------ mistakes


def test_every_mistake_is_told_at_once_with_its_key_and_what_mends_it(file: Path) -> None:
    file.write_text("""
devise: {id: kitchen-1}
device: {id: Kitchen 1, room: 12}
follow_up_s: 6
listen: {mode: wakeword, folow_up_s: 6}
stt: {engine: pocket}
tts: {engine: tone, frob: 1}
vad: {engine: webrtc, mode: 9}
llm: {route: [claude], providers: {claud: {engine: anthropic, modell: x}}}
web: {listen: 8080}
time_zone: Europe/Berln
""")
    told = mistakes(file, {"ROOMTONE__LOG__LEVEL": "loud"})
    expected = [
        "device.id: 'Kitchen 1' is not an id; use a-z, 0-9, _ and -",
        "device.room: 12 is not a text; put it in quotes",
        "listen.mode: 'wakeword' is not possible; choose 'wake_word', 'button' or 'open'",
        "listen.folow_up_s: unknown key; did you mean follow_up_s?",
        "web.listen: 8080 is not a text; put it in quotes",
        "time_zone: 'Europe/Berln' is no time zone; did you mean Europe/Berlin?",
        "ROOMTONE__LOG__LEVEL: log.level: 'loud' is not possible; choose 'debug', 'info', 'warning' or 'error'",
        "devise: unknown key; did you mean device?",
        "follow_up_s: unknown key; did you mean listen.follow_up_s?",
    ]
    assert told[: len(expected)] == expected
    rest = told[len(expected) :]
    assert rest[0] == "vad.mode: 9 is not possible; it should be less than or equal to 3"
    assert rest[1].startswith("stt.engine: there is no engine 'pocket'; ")
    assert rest[2].startswith("tts.frob: unknown key of 'tone'; possible here: ")
    assert rest[3:] == ["llm.providers.claud.modell: unknown key; did you mean model?"]


def test_a_provider_is_checked_with_the_settings_of_its_engine(file: Path) -> None:
    file.write_text("""
llm:
  providers:
    one: {engine: skript}
    two: {engine: script, texts: 3, stall_s: 0}
    three: {model: x}
""")
    told = mistakes(file)
    assert told[0] == "llm.providers.two.stall_s: 0 is not possible; it should be greater than 0"
    assert told[1] == "llm.providers.three.engine: is missing; add it"
    assert told[2] == "llm.providers.one.engine: there is no engine 'skript'; did you mean script?"
    assert told[3].startswith("llm.providers.two.texts: 3 is not a list")
    assert len(told) == 4


def test_no_secret_of_a_provider_is_shown(file: Path) -> None:
    file.write_text("""
llm:
  providers:
    house: {engine: script, api_key: credential:house, headers: {X-Tenant: "me", Authorization: credential:house}}
mcp:
  notes: {command: notes, env: {NOTES_AT: "https://me:pw@notes.local"}}
""")
    shown = str(masked(Settings.model_validate(read(file, {"HOUSE": "sk-1"}).values)))
    assert not any(secret in shown for secret in ("sk-1", "'me'", "pw"))
    assert "'house'" in shown


def test_a_route_names_providers_that_are_there(file: Path) -> None:
    file.write_text("llm: {route: [claude], providers: {claud: {engine: anthropic}}}")
    assert mistakes(file) == ["llm.route: there is no provider 'claude'; did you mean claud?"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"a: [1\nb: 2", "line 2: broken YAML: expected ',' or ']', but got ':'; check the indentation, colons and"),
        (b"device:\n\tname: x", "line 2: there is a tab; indent with spaces"),
        (b"- a\n- b", "holds a list, not sections; write it as in 'device: {room: kitchen}'"),
        (b"hello", "holds a single value, not sections; "),
        (b"\x00\x01\x02", "is not a text file; write the configuration as YAML in UTF-8"),
        (b"\xff\xfe\x00d", "is not a text file; write the configuration as YAML in UTF-8"),
        (b"web: {}\nweb: {}", "line 2: the key 'web' stands here twice; keep one of the two"),
        (b"device: !!python/object/apply:os.getcwd []", "line 1: broken YAML: could not determine a constructor"),
        (b"device: &a\n  name: *a", "contains itself; write it without references"),
        (b"device: &a {name: x}\nweb: *b", "line 2: broken YAML: found undefined alias 'b'"),
        (b"device: 2026-99-99", "cannot be read (month must be in 1..12); "),
        (b"device: {name: x}\n---\nweb: {}", "line 2: broken YAML: but found another document"),
        (b"listen: open", "listen: must be a section; write its keys"),
        (b"device: {name: on}", "device.name: True is not a text; put it in quotes"),
    ],
)
def test_a_broken_file_is_one_clear_line(file: Path, content: bytes, told: str) -> None:
    file.write_bytes(content)
    lines = mistakes(file)
    assert len(lines) == 1
    assert lines[0].startswith(told)


def test_a_file_that_is_none_is_one_clear_line(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert mistakes(tmp_path / "absent") == ["there is no such file; create it, or name another with --config"]
    assert mistakes(tmp_path) == [f"is a folder; name the file in it, such as {tmp_path}/config.yaml"]
    assert mistakes(fifo) == ["is not a regular file; name a YAML file"]


def test_an_unreadable_file_is_one_clear_line(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.touch()

    read = Path.read_text

    def refuse(path: Path, *how: str) -> str:
        if path == file:  # file modes would stop everyone but root
            raise PermissionError(13, "Permission denied")
        return read(path, *how)

    monkeypatch.setattr(Path, "read_text", refuse)
    assert mistakes(file) == [f"may not be read by this user; run: sudo chmod g+r {file} (and join its group)"]


@pytest.mark.parametrize("content", ["", "# nothing yet\n", "listen:\n  # mode: open\n"])
def test_a_file_or_section_with_nothing_in_it_is_no_mistake(file: Path, content: str) -> None:
    file.write_text(content)
    assert load(file, {}) == load(env={})


@given(st.binary(max_size=200))
def test_no_file_however_odd_does_anything_but_load_or_tell(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    file = tmp_path_factory.mktemp("odd") / "config.yaml"
    file.write_bytes(content)
    _, told = load_or_last_good(file, file.parent / "state", {})
    assert all(line.startswith(str(file)) for line in told)


# --------------------------------------------------------------------------------------- whose state


def test_root_and_the_service_s_own_user_mean_the_state_of_the_service_and_others_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = settings.SERVICE_STATE
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_state_dir({}) != service, "there is no service"
    service.mkdir()
    assert default_state_dir({}) == service
    assert default_state_dir({"STATE_DIRECTORY": str(tmp_path)}) == tmp_path
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert default_state_dir({}) != service
    monkeypatch.setenv("HOME", str(service))
    assert default_state_dir({}) == service


# ------------------------------------------------------------------------------------------- secrets


def with_key(file: Path, key: str) -> Path:
    file.write_text(f"llm: {{providers: {{c: {{engine: anthropic, api_key: '{key}'}}}}}}")
    return file


def test_a_credential_comes_from_systemd_before_the_environment(file: Path, tmp_path: Path) -> None:
    (tmp_path / "my-key").write_text("from systemd\n")
    env = {"CREDENTIALS_DIRECTORY": str(tmp_path), "MY_KEY": "from the environment"}
    for variables, value in ((env, "from systemd"), ({"MY_KEY": env["MY_KEY"]}, "from the environment")):
        key = load(with_key(file, "credential:my-key"), variables).llm.providers["c"].keys["api_key"]
        assert key is not None
        assert key.get_secret_value() == value


@pytest.fixture
def household(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the folder of the household's secrets."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    monkeypatch.setattr(config_sources, "CREDENTIALS", folder)
    return folder


def key_in(file: Path, env: dict[str, str]) -> str | None:
    key = load(with_key(file, "credential:my-key"), env).llm.providers["c"].keys.get("api_key")
    return key.get_secret_value() if key is not None else None


def test_a_service_finds_a_secret_of_the_household_s_folder_under_the_name_that_systemd_gives_it(
    file: Path, tmp_path: Path, household: Path
) -> None:
    (tmp_path / "roomtone_my-key").write_text("from the folder\n")
    (household / "my-key").write_text("not loaded")
    env = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert key_in(file, env) == "from the folder"
    (tmp_path / "my-key").write_text("from a drop-in\n")
    assert key_in(file, env) == "from a drop-in"


def test_who_may_read_the_household_s_secrets_has_them_by_hand_too(file: Path, household: Path) -> None:
    (household / "my-key").write_text("from the folder\n")
    assert key_in(file, {}) == "from the folder"


def test_who_may_not_see_the_household_s_secrets_can_ask_the_daemon_all_the_same(
    file: Path, household: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, _: path != household)
    assert key_in(file, {}) is None
    assert key_in(file, {"MY_KEY": "one of my own"}) == "one of my own"


def test_a_secret_that_is_no_text_is_told_of_with_the_file_to_mend(file: Path, household: Path) -> None:
    (household / "my-key").write_bytes(b"\xff\xfe\x00")
    [told] = mistakes(with_key(file, "credential:my-key"))
    assert f"cannot be read (it is not a text); write it anew to {household / 'my-key'}" in told


def test_a_missing_or_misplaced_credential_is_told(file: Path) -> None:
    told = mistakes(with_key(file, "credential:my-key"))
    assert told == [
        "llm.providers.c.api_key: there is no credential 'my-key'; "
        "write it to /etc/roomtone/credentials/my-key and restart roomtone, or set the variable MY_KEY"
    ]
    assert "cannot be a credential's name" in mistakes(with_key(file, "credential:../shadow"))[0]
    file.write_text("device: {name: credential:x}")
    assert mistakes(file, {"X": "1"}) == ["device.name: this key takes no credential; write its value here"]


@pytest.mark.parametrize("written", ["credential:hush", "hunter2"])
def test_secrets_are_never_shown(file: Path, written: str) -> None:
    settings = load(with_key(file, written), {"HUSH": "hunter2", "ROOMTONE__HUB__URL": "mqtts://me:hunter2@hub:8883"})
    shown = f"{masked(settings)} {settings!r} {list(flat(settings))}".replace("mqtts://me:hunter2@", "", 1)
    assert "mqtts://me:***@hub:8883" in shown
    assert "hunter2" not in str(masked(settings))
    assert masked(settings)["llm"]["providers"]["c"]["api_key"] == "***"


def test_secrets_in_addresses_and_arguments_are_not_shown_either(file: Path) -> None:
    file.write_text(
        "mcp: {web: {url: 'http://nas.local/mcp?room=1&access_token=hunter2&x=2'},"
        " mine: {command: serve, args: [--port, '80', --api-key, hunter2, --token=hunter2, keys]}}"
    )
    shown = masked(load(file, {}))["mcp"]
    assert shown["web"]["url"] == "http://nas.local/mcp?room=1&access_token=***&x=2"
    assert shown["mine"]["args"] == ["--port", "80", "--api-key", "***", "--token=***", "keys"]


def test_a_wrong_secret_is_not_repeated_in_the_mistake(file: Path) -> None:
    file.write_text("llm: {providers: {c: {engine: anthropic, api_key: [hunter2]}}}")
    assert "hunter2" not in str(mistakes(file))


# ----------------------------------------------------------------------------------------- last good


def test_the_last_good_configuration_is_used_while_the_file_is_wrong(file: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    file.write_text("device: {room: kitchen}")
    assert load_or_last_good(file, state, {})[1] == []
    assert keep(file, state, {}) == []
    file.write_text("device: {rom: kitchen}")
    settings, told = load_or_last_good(file, state, {})
    assert settings.device.room == "kitchen"
    assert told == [f"{file}: device.rom: unknown key; did you mean room?"]


def test_a_wrong_variable_does_not_lose_the_last_good_file(file: Path, tmp_path: Path) -> None:
    file.write_text("device: {room: kitchen}")
    keep(file, tmp_path, {})
    settings, told = load_or_last_good(file, tmp_path, {"ROOMTONE__LISTEN__MODE": "x"})
    assert settings.device.room == "kitchen"
    assert told[0].startswith("ROOMTONE__LISTEN__MODE: listen.mode: ")


def test_without_a_last_good_configuration_the_defaults_are_used(file: Path, tmp_path: Path) -> None:
    file.write_text("[")
    settings, told = load_or_last_good(file, tmp_path, {})
    assert settings == load(env={})
    assert len(told) == 1


def test_the_copy_is_private_and_written_only_when_the_file_changes(file: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    file.write_text("device: {room: kitchen}")
    keep(file, state, {})
    kept = state / config.LAST_GOOD
    first = kept.stat()
    keep(file, state, {})
    assert kept.stat().st_ino == first.st_ino
    assert first.st_mode & 0o777 == 0o600


def test_a_recogniser_may_find_out_which_language_is_spoken_but_the_household_must_say() -> None:
    settings = Settings.model_validate({"stt": {"engine": "pocketsphinx", "language": "auto"}})
    assert settings.stt.language == "auto"
    with pytest.raises(ValidationError, match="is not a language"):
        Settings.model_validate({"language": "auto!"})


@pytest.mark.parametrize(
    ("name", "id_"),
    [("Küche", "kuche"), ("The Kitchen", "the-kitchen"), ("Café", "cafe"), ("?", "")],
)
def test_a_name_that_people_use_makes_an_id_and_a_host_s_name(name: str, id_: str) -> None:
    assert as_id(name) == id_


def test_the_version_is_one_in_the_package_and_in_the_program() -> None:
    package = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text("utf-8"))
    assert package["project"]["version"] == __version__
