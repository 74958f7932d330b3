"""The card's file at boot: what it says is taken in, its secrets leave it, and what is wrong with it is told."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import Run
from rooms import scripted
from roomtone import cli, config, durable, engines, first_boot
from roomtone.app import open_room
from roomtone.first_boot import OUTCOME, Outcome, Places, merged, take_in, wanted, what_came_of_it
from roomtone.first_boot.arriving import aloud, tell_of_the_card
from roomtone.first_boot.card import LARGEST, SHORT, read_card, takes_secret, wipe


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "boot").mkdir()
    (tmp_path / "etc").mkdir()
    return Places(
        cards=(tmp_path / "boot" / "roomtone.yaml",),
        config=tmp_path / "etc" / "config.yaml",
        credentials=tmp_path / "etc" / "credentials",
        state_dir=tmp_path / "state",
    )


class Machine:
    """Notes what would be set on a machine, and knows two locales."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def __call__(self, command: Sequence[str]) -> str:
        if "list-locales" in command:
            return "C.UTF-8\nde_DE.UTF-8\nen_GB.UTF-8\n"
        self.done.append(" ".join(command))
        return ""


def boot(places: Places, card: str | bytes | None = None) -> Outcome | None:
    """Boot with what somebody wrote on the card meanwhile, None for nothing."""
    if card is not None:
        places.cards[0].write_bytes(card if isinstance(card, bytes) else card.encode())
    return take_in(places, Machine())


def configured(places: Places) -> Any:
    return yaml.safe_load(places.config.read_text())


def wrong(outcome: Outcome | None) -> list[str]:
    assert outcome is not None
    assert outcome.outcome == "refused"
    return [f"{each['where']}: {each['key']}: {each['wrong']}; {each['mend']}" for each in outcome.mistakes]


# ---------------------------------------------------------------------------------------- what is taken in


def test_the_short_keys_become_a_configuration_that_the_daemon_reads(places: Places) -> None:
    outcome = boot(
        places, "name: The Kitchen\nroom: kitchen\npersona: chef\nlanguage: en\ntime_zone: Europe/Berlin\n"
    )
    assert outcome == Outcome("ready", str(places.cards[0]))
    read = config.load(places.config, {})
    assert (read.device.id, read.device.name, read.device.room) == ("the-kitchen", "The Kitchen", "kitchen")
    assert (read.personas.default, read.time_zone) == ("chef", "Europe/Berlin")


def test_the_configuration_is_not_for_everybody_to_read(places: Places) -> None:
    boot(places, "name: Kitchen\nsecrets: {nas: open sesame}\n")
    assert stat.S_IMODE(places.config.stat().st_mode) == 0o640
    assert stat.S_IMODE(places.credentials.stat().st_mode) == 0o700
    assert stat.S_IMODE((places.credentials / "nas").stat().st_mode) == 0o600


def test_every_key_of_the_configuration_may_stand_on_the_card(places: Places) -> None:
    boot(places, "room: hall\nlisten: {mode: open}\nhub: {url: 'mqtts://hub.local:8883'}\n")
    read = config.load(places.config, {})
    assert (read.listen.mode, read.hub.url, read.device.room) == ("open", "mqtts://hub.local:8883", "hall")


def test_the_first_boot_says_that_it_is_ready_even_without_a_card_and_only_then(places: Places) -> None:
    assert boot(places) == Outcome("ready")
    assert boot(places) is None


@pytest.mark.parametrize("empty", ["", "\n", "# name: Kitchen\n", "name:\n", b"\0" * 512], ids=repr)
def test_a_card_that_says_nothing_changes_nothing(places: Places, empty: str | bytes) -> None:
    boot(places, "name: Kitchen\n")
    before = places.config.read_text()
    assert boot(places, empty) is None
    assert places.config.read_text() == before


def test_a_card_that_has_not_changed_is_not_taken_in_again_and_nothing_is_written(places: Places) -> None:
    boot(places, "name: Kitchen\nsecrets: {nas: x1}\n")
    (places.state_dir / OUTCOME).unlink()
    files = [*places.config.parent.rglob("*"), *places.cards]
    before = {file: file.stat().st_mtime_ns for file in files}
    assert boot(places) is None
    assert {file: file.stat().st_mtime_ns for file in files} == before
    assert not (places.state_dir / OUTCOME).exists()


def test_a_card_that_was_taken_in_is_known_by_its_bytes(places: Places) -> None:
    """systemd compares the two files, and starts nothing where they are the same."""
    known = places.config.with_name(first_boot.TAKEN)
    for card in ("# nothing yet\n", "name: Kitchen\nsecrets: {nas: x1}\n", "name: Kitchen # by the door\n"):
        boot(places, card)
        assert known.read_bytes() == places.cards[0].read_bytes()
    boot(places, "name: [")
    assert known.read_bytes() != places.cards[0].read_bytes(), "what is wrong is told at each boot"


def test_what_was_edited_on_the_machine_stays_unless_the_card_changes_it(places: Places) -> None:
    boot(places, "name: Kitchen\nroom: kitchen\nlisten: {mode: open}\n")
    edited = {**configured(places), "web": {"listen": "127.0.0.1:8765"}, "listen": {"mode": "button"}}
    edited["device"]["name"] = "Grandma's"
    places.config.write_text(yaml.safe_dump(edited))
    boot(places, "name: Kitchen\nroom: dining room\nlisten: {mode: open}\n")
    now = configured(places)
    assert now["web"] == {"listen": "127.0.0.1:8765"}
    assert now["listen"] == {"mode": "button"}
    assert now["device"] == {"id": "kitchen", "name": "Grandma's", "room": "dining room"}


def test_what_is_taken_off_the_card_goes_unless_somebody_has_edited_it(places: Places) -> None:
    boot(places, "name: Kitchen\npersona: chef\nlisten: {mode: open}\n")
    places.config.write_text(places.config.read_text().replace("open", "button"))
    boot(places, "name: Kitchen\n")
    assert configured(places) == {"device": {"name": "Kitchen", "id": "kitchen"}, "listen": {"mode": "button"}}


def test_the_configuration_before_is_kept_beside(places: Places) -> None:
    places.config.write_text("# my own words\nlisten: {mode: open}\n")
    boot(places, "name: Kitchen\n")
    assert "my own words" in places.config.with_name(first_boot.BEFORE).read_text()
    assert configured(places)["listen"] == {"mode": "open"}


def test_a_room_keeps_its_id_when_it_gets_another_name(places: Places) -> None:
    boot(places, "name: Kitchen\n")
    boot(places, "name: Larder\n")
    assert configured(places)["device"] == {"name": "Larder", "id": "kitchen"}


def test_a_card_is_laid_over_the_last_good_configuration_where_the_present_one_is_broken(places: Places) -> None:
    places.state_dir.mkdir()
    (places.state_dir / config.LAST_GOOD).write_text("listen: {mode: open}\n")
    places.config.write_text("listen: [\n")
    boot(places, "name: Kitchen\n")
    assert configured(places) == {"listen": {"mode": "open"}, "device": {"name": "Kitchen", "id": "kitchen"}}


def test_a_configuration_whose_secrets_come_from_elsewhere_is_not_taken_for_broken(places: Places) -> None:
    places.config.write_text("hub: {url: 'mqtts://hub:8883', password: 'credential:of-another-unit'}\n")
    boot(places, "room: hall\n")
    assert configured(places)["hub"]["password"] == "credential:of-another-unit"


values = st.recursive(
    st.sampled_from(["a", "b", 1, True]),
    lambda inner: st.dictionaries(st.sampled_from("klm"), inner, max_size=3),
    max_leaves=6,
)
sections = st.dictionaries(st.sampled_from("klm"), values, max_size=3)


@given(sections, sections)
def test_on_a_machine_without_edits_the_card_is_what_is_configured(
    last: dict[str, Any], card: dict[str, Any]
) -> None:
    assert _without_empty(merged(last, last, card)) == _without_empty(card)


@given(sections, sections)
def test_a_card_without_changes_leaves_every_edit(base: dict[str, Any], card: dict[str, Any]) -> None:
    once = merged(base, {}, card)
    assert merged(once, card, card) == once


def _without_empty(tree: dict[str, Any]) -> dict[str, Any]:
    inner = {key: _without_empty(value) if isinstance(value, dict) else value for key, value in tree.items()}
    return {key: value for key, value in inner.items() if value != {}}


# ------------------------------------------------------------------------------------------------ secrets


SECRET = "s3cret-ünd-länger"


@pytest.mark.parametrize(
    ("card", "name"),
    [
        (f"secrets: {{anthropic: {SECRET}}}\n", "anthropic"),
        (f"secrets:\n  anthropic: '{SECRET}'  # of the household\n", "anthropic"),
        (f"secrets:\n  anthropic: |\n    {SECRET}\nname: Kitchen\n", "anthropic"),
        (f"hub: {{url: 'mqtts://hub:8883', password: {SECRET}}}\n", "hub.password"),
        (
            f"llm:\n  providers:\n    c: {{engine: anthropic, model: m, api_key: {SECRET}}}\n",
            "llm.providers.c.api_key",
        ),
        (f"mcp:\n  home:\n    url: http://h/\n    headers: {{X-Any: {SECRET}}}\n", "mcp.home.headers.X-Any"),
        (f"mcp:\n  home:\n    command: x\n    env: {{ANY: {SECRET}}}\n", "mcp.home.env.ANY"),
        (f"\ufeffroom: hall\r\nsecrets:\r\n  nas: {SECRET}\r\n", "nas"),
    ],
)
def test_a_secret_leaves_the_card_and_is_read_as_a_credential(places: Places, card: str, name: str) -> None:
    outcome = boot(places, card)
    assert outcome is not None
    assert outcome.outcome == "ready"
    assert (places.credentials / name).read_text() == SECRET
    for file in (*places.cards, places.config, places.config.with_name(first_boot.TAKEN), places.state_dir / OUTCOME):
        assert SECRET not in file.read_text("utf-8-sig")
    assert f"credential:{name}" in places.cards[0].read_text("utf-8-sig")
    config.load(places.config, {"CREDENTIALS_DIRECTORY": str(places.credentials)})
    assert boot(places) is None, "what is on the card now means the same"


def test_a_code_that_begins_with_a_nought_is_taken_as_it_is_written(places: Places) -> None:
    boot(places, "hub_code: 01234567\n")
    code = config.load(places.config, {"CREDENTIALS_DIRECTORY": str(places.credentials)}).hub.code
    assert code is not None
    assert code.get_secret_value() == "01234567"


def test_another_secret_is_news_and_the_same_is_not(places: Places) -> None:
    boot(places, 'name: Kitchen\nhub_code: "481 233"\n')
    assert boot(places, 'name: Kitchen\nhub_code: "481 233"\n') is None
    assert boot(places, 'name: Kitchen\nhub_code: "120 044"\n') == Outcome("ready", str(places.cards[0]))


def test_secrets_leave_the_card_even_where_something_else_on_it_is_wrong(places: Places) -> None:
    assert wrong(boot(places, f"rooom: hall\nsecrets: {{nas: {SECRET}}}\n")) == [
        "line 1: rooom: unknown key; did you mean room?"
    ]
    assert SECRET not in places.cards[0].read_text()
    assert (places.credentials / "nas").read_text() == SECRET
    assert not places.config.exists()


def test_the_rest_of_the_card_is_left_as_somebody_wrote_it(places: Places) -> None:
    boot(
        places, f"# the kitchen's\nname:   Kitchen # by the door\nsecrets: {{nas: {SECRET}, tv: {SECRET}}}\n\n# end\n"
    )
    assert places.cards[0].read_text() == (
        "# the kitchen's\nname:   Kitchen # by the door\n"
        'secrets: {nas: "credential:nas", tv: "credential:tv"}\n\n# end\n'
    )


def test_the_bytes_of_a_secret_are_overwritten_in_place(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    card = f"name: Kitchen\nsecrets: {{nas: '{SECRET}'}}\n"
    places.cards[0].write_text(card)

    def cut(*_: object) -> None:
        raise OSError("the power went")

    monkeypatch.setattr("roomtone.first_boot.card.write_durably", cut)
    with pytest.raises(OSError, match="power"):
        wipe(places.cards[0], read_card(places.cards[0]))
    left = places.cards[0].read_bytes()
    assert len(left) == len(card.encode())
    assert SECRET.encode() not in left


@pytest.mark.parametrize("style", ["'{}'", "{}", "|\n    {}", '"{}"'])
def test_a_wiping_that_was_cut_off_goes_on_at_the_next_boot(
    places: Places, monkeypatch: pytest.MonkeyPatch, style: str
) -> None:
    places.cards[0].write_text(f"secrets:\n  nas: {style.format(SECRET)}\nname: Kitchen\n")
    with monkeypatch.context() as power:
        power.setattr("roomtone.first_boot.card.write_durably", lambda *_: (_ for _ in ()).throw(OSError(5, "cut")))
        take_in(places, Machine())
    assert SECRET not in places.cards[0].read_text()
    boot(places)
    assert (places.credentials / "nas").read_text() == SECRET
    assert "credential:nas" in places.cards[0].read_text()
    assert boot(places) is None


def test_a_card_that_cannot_be_written_is_taken_in_and_it_is_said_that_secrets_are_left(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(first_boot, "wipe", refuse)
    outcome = boot(places, f"name: Kitchen\nsecrets: {{nas: {SECRET}}}\n")
    assert outcome is not None
    assert (outcome.outcome, outcome.secrets_left) == ("ready", True)
    assert configured(places)["device"]["name"] == "Kitchen"
    places.config.write_text(places.config.read_text().replace("name: Kitchen", "name: Larder"))
    again = boot(places)
    assert again is not None
    assert again.secrets_left
    assert configured(places)["device"]["name"] == "Larder", "the card has not changed"


@pytest.mark.parametrize(
    ("key", "secret"),
    [
        ("hub.password", True),
        ("hub.code", True),
        ("hub.key", False),
        ("hub.passwd", True),
        ("llm.tokens", False),
        ("llm.providers.x.api_key", True),
        ("llm.providers.x.tokens_per_day", False),
        ("llm.providers.x.headers.Any", True),
        ("mcp.x.env.ANY", True),
        ("mcp.x.command", False),
        ("household.preferences.coffee", False),
        ("device.name", False),
        ("api_token", True),
    ],
)
def test_what_is_a_secret_is_known_by_where_it_belongs(key: str, secret: bool) -> None:
    assert takes_secret(tuple(key.split("."))) is secret


def test_a_number_that_is_no_secret_is_left_alone(places: Places) -> None:
    boot(places, "llm: {tokens: 4000}\n")
    assert configured(places) == {"llm": {"tokens": 4000}}


# --------------------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("card", "told"),
    [
        ("name: [Kitchen\n", ": : line 2: broken YAML"),
        ("name:\tKitchen\n  room: x\n", "line 1: there is a tab; indent with spaces"),
        ("- Kitchen\n", "holds a list, not sections"),
        ("just words\n", "holds a single value, not sections"),
        ("name: a\nname: b\n", "line 2: the key 'name' stands here twice"),
        ("\n\nlanguage: Klingon\n", "line 3: language: 'Klingon' is not a language"),
        ("listen:\n  mode: loud\n", "line 2: listen.mode: 'loud' is not possible; choose 'wake_word'"),
        ("wifi: {ssid: x}\n", "line 1: wifi: unknown key; set it in Raspberry Pi Imager"),
        ("nmae: Kitchen\n", "line 1: nmae: unknown key; did you mean name?"),
        ("name: a\ndevice: {name: b}\n", "line 2: name: stands also at device.name; keep one of the two"),
        ("secrets: {../x: y}\n", "line 1: secrets: '../x' cannot be a secret's name"),
        ("hub_code: 12\n", "hub_code: "),
        ("hub: {url: 'mqtts://h', password: credential:never-given}\n", "there is no credential 'never-given'"),
        ("a: &a [x, x]\nb: [*a, *a]\n", "line 2: there is a reference (*a); write the value itself"),
        (b"\xff\xfe\x00garbage\x00", "is not a text file"),
        (b"\x7fELF" + bytes(range(256)), "is not a text file"),
        ("\x01\x02", "is not a text file"),
        ("[" * 5000, "line 1: sections stand within one another too often"),
        ("name: x\n? [a, b]\n: c\n", "line 2: broken YAML: a key that is no word"),
        ("name: x\n#" + "y" * 2_000_000, f"is larger than {LARGEST // 1000} kB"),
    ],
    ids=range(20),
)
def test_a_card_that_is_wrong_changes_nothing_and_says_where_and_what_mends_it(
    places: Places, card: str | bytes, told: str
) -> None:
    boot(places, "room: hall\n")
    before = places.config.read_text()
    outcome = boot(places, card)
    assert any(told in line for line in wrong(outcome)), wrong(outcome)
    assert places.config.read_text() == before
    assert what_came_of_it(places.state_dir) == outcome


@pytest.mark.parametrize("what", ["credentials", "config.yaml"])
def test_a_disk_that_cannot_be_written_is_told_and_leaves_the_card_as_it_is(
    places: Places, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def full(path: Path, *rest: object) -> None:
        if what in str(path):
            raise OSError(28, "No space left on device", str(path))
        durable.write_durably(path, *rest)  # type: ignore[arg-type]

    card = f"name: Kitchen\nsecrets: {{nas: {SECRET}}}\n"
    monkeypatch.setattr(first_boot, "write_durably", full)
    [told] = wrong(boot(places, card))
    assert "No space left on device" in told
    assert not places.config.exists()
    monkeypatch.undo()
    boot(places)
    assert configured(places)["device"]["name"] == "Kitchen"
    assert (places.credentials / "nas").read_text() == SECRET


def test_every_mistake_is_told_from_top_to_bottom(places: Places) -> None:
    lines = wrong(boot(places, "time_zone: Mars/Base\nroom: hall\nlisten: {mode: loud}\nlanguage: '?'\n"))
    assert [line.partition(":")[0] for line in lines] == ["line 1", "line 3", "line 4"]


def test_a_value_that_is_secret_is_never_told(places: Places) -> None:
    told = wrong(boot(places, "hub: {url: 'mqtts://h:8883'}\nhub_code: not-a-code-77\n"))
    assert not any("77" in line for line in told)


def test_a_folder_of_that_name_is_no_card(places: Places) -> None:
    places.cards[0].mkdir()
    assert "is a folder" in wrong(boot(places))[0]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.text(max_size=200).map(str.encode),
        st.text("{}[]:-'\"|>&*!%@ \n\tax", max_size=60).map(str.encode),
    )
)
def test_whatever_is_on_the_card_a_configuration_that_worked_still_does(places: Places, rubbish: bytes) -> None:
    places.config.write_text("device: {name: Kitchen}\n")
    boot(places, rubbish)
    assert config.load(places.config, {"CREDENTIALS_DIRECTORY": str(places.credentials)}).device.name


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        (("line 3", "listen.follow_up_s", "'x' is not a number", "write one such as 1.5"),
         "line 3: listen follow up s: x is not a number. Write one such as 1.5."),
        (("", "", "line 3: broken YAML: odd", "check it"), "line 3: broken YAML: odd. Check it."),
    ],
)  # fmt: skip
def test_a_mistake_is_a_sentence_that_can_be_heard(mistake: tuple[str, ...], said: str) -> None:
    assert aloud(dict(zip(("where", "key", "wrong", "mend"), mistake, strict=True))) == said


# -------------------------------------------------------------------------------------- the machine, the daemon


def test_the_machine_gets_its_name_zone_and_locale(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_boot.socket, "gethostname", lambda: "raspberrypi")
    monkeypatch.setattr(first_boot, "machine_time_zone", lambda: "UTC")
    monkeypatch.setattr(first_boot.shutil, "which", lambda tool: f"/usr/bin/{tool}")
    machine = Machine()
    places.cards[0].write_text("name: The Kitchen\ntime_zone: Europe/Berlin\nlanguage: en\n")
    take_in(places, machine)
    assert machine.done == [
        "hostnamectl --no-ask-password set-hostname the-kitchen",
        "timedatectl --no-ask-password set-timezone Europe/Berlin",
        "localectl --no-ask-password set-locale LANG=en_GB.UTF-8",
    ]


def test_a_machine_that_refuses_its_name_is_ready_all_the_same(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_boot.shutil, "which", lambda tool: f"/usr/bin/{tool}")

    def refuse(command: Sequence[str]) -> str:
        raise OSError(13, "Access denied")

    places.cards[0].write_text("name: Kitchen\n")
    outcome = take_in(places, refuse)
    assert outcome is not None
    assert outcome.outcome == "ready"
    assert "set-hostname kitchen" in outcome.troubles[0]


def test_a_card_without_a_word_about_the_machine_leaves_it_alone() -> None:
    assert wanted({"listen": {}}, {"device": {"id": "kitchen"}}) == []


def test_word_is_left_once_and_rubbish_in_its_place_is_no_harm(places: Places) -> None:
    boot(places, "name: Kitchen\n")
    assert what_came_of_it(places.state_dir) == Outcome("ready", str(places.cards[0]))
    assert what_came_of_it(places.state_dir) is None
    (places.state_dir / OUTCOME).write_text("[rubbish")
    assert what_came_of_it(places.state_dir) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_the_daemon_reads_belongs_to_whom_its_folder_does(places: Places) -> None:
    places.state_dir.mkdir()
    os.chown(places.state_dir, 12345, 12345)
    os.chown(places.config.parent, 0, 12345)
    boot(places, "name: Kitchen\nsecrets: {nas: x}\n")
    assert ((places.state_dir / OUTCOME).stat().st_uid, places.config.stat().st_gid) == (12345, 12345)
    assert (places.credentials / "nas").stat().st_uid == 0


def test_the_command_says_what_came_of_it(
    places: Places, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_boot.shutil, "which", lambda tool: None)
    words = ["first-boot", "--card", str(places.cards[0]), "--config", str(places.config)]
    words += ["--credentials", str(places.credentials), "--state-dir", str(places.state_dir)]
    places.cards[0].write_text("name: Kitchen\n")
    assert cli.main(words) == 0
    assert "is taken in" in capsys.readouterr().out
    assert cli.main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"outcome": "nothing"}
    places.cards[0].write_text("romm: x\n")
    assert cli.main(words) == 2
    assert capsys.readouterr().err == (
        f"roomtone: {places.cards[0]}: line 1: romm: unknown key; did you mean room?\n"
    )


def test_no_short_key_hides_one_of_the_configuration() -> None:
    assert not SHORT.keys() & config.Settings.model_fields.keys()


MISTAKE = {"key": "rooom", "wrong": "unknown key", "mend": "did you mean room?"}


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (Outcome("ready"), ["I am ready."]),
        (
            Outcome("ready", secrets_left=True),
            ["I am ready.", "I could not take the secrets off my card: it cannot be written."],
        ),
        (
            Outcome("refused", mistakes=[MISTAKE | {"where": f"line {line}"} for line in (2, 3, 4, 5)]),
            [
                "There is a mistake in the file roomtone dot yaml on my card, so I go on as I was.",
                "Line 2: rooom: unknown key. Did you mean room?",
                "Line 3: rooom: unknown key. Did you mean room?",
                "Beside that there are mistakes in it: 2 more.",
            ],
        ),
    ],
)
def test_the_room_says_once_what_came_of_the_card(
    run: Run[None], tmp_path: Path, outcome: Outcome, said: list[str]
) -> None:
    async def heard() -> list[str]:
        wav = engines.open_engine("audio", "wav", engines.load("audio", "wav").Settings())
        settings = scripted(state_dir=tmp_path)
        async with wav as device, open_room(settings, tmp_path, device=device, listens=False) as room:
            with room.feed.watch("turn.ended") as ended:
                tell_of_the_card(room)
                await asyncio.sleep(120)
                return [(await anext(ended)).data.turn.said for _ in range(ended.waiting)]

    async def scenario() -> None:
        (tmp_path / OUTCOME).write_text(json.dumps({"v": 1, **asdict(outcome)}))
        assert await heard() == said
        assert await heard() == []

    run(scenario())


@pytest.mark.parametrize("text", ["[" * 90_000, "- " * 45_000 + "x", "name: " + "[" * 40_000 + "]" * 40_000])
def test_brackets_upon_brackets_are_refused_at_once(places: Places, text: str) -> None:
    [mistake] = wrong(boot(places, text))
    assert "too often" in mistake or "line 1" in mistake


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another")
def test_what_root_leaves_for_the_service_changes_nothing_that_the_service_points_to(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places.state_dir.mkdir()
    os.chown(places.state_dir, 54321, 54321)
    of_root = tmp_path / "passwd"
    of_root.write_text("root")
    of_root.chmod(0o644)
    replace = Path.replace

    def meanwhile(path: Path, target: Path) -> None:
        replace(path, target)
        if target.name == OUTCOME:
            assert (target.stat().st_uid, stat.S_IMODE(target.stat().st_mode)) == (54321, 0o600)
            target.unlink()
            target.symlink_to(of_root)

    monkeypatch.setattr(Path, "replace", meanwhile)
    boot(places, "name: Kitchen\n")
    assert (of_root.stat().st_uid, stat.S_IMODE(of_root.stat().st_mode)) == (0, 0o644)
