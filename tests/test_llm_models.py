"""What is known of models, and which of the configured ones are opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Run
from roomtone import outbound
from roomtone.core.dialog import Message, Role, Tokens
from roomtone.core.persona import Egress
from roomtone.engines.llm import Options, Text
from roomtone.llm_router import open_router
from roomtone.llm_router.models import CAUTIOUS_CONTEXT, FILE, UNKNOWN, read, registry
from roomtone.settings import Settings

GO_ON = "go on after {last}"


# ------------------------------------------------------------------------------------------- registry


def test_a_model_is_known_by_its_name_with_or_without_its_maker_and_date() -> None:
    known = registry()
    for name in ("gpt-4o-mini", "gpt-4o-mini-2024-07-18", "openai/gpt-4o-mini", "GPT-4o-mini"):
        assert (known.of(name).input, known.of(name).output) == (0.15, 0.6)
    assert known.of("gpt-4o").input == 2.5
    assert known.of("gpt-4o-audio-preview") is UNKNOWN


def test_of_an_unknown_model_little_is_taken_for_granted() -> None:
    model = registry().of("somebody/their-own-8b")
    assert (model.context, model.input, model.output) == (CAUTIOUS_CONTEXT, None, None)
    assert model.cost(Tokens(read=1000, written=1000)) == 0


def test_what_was_read_before_costs_less() -> None:
    model = registry().of("claude-sonnet-4-20250514")
    assert model.cost(Tokens(read=1_000_000)) == pytest.approx(3)
    assert model.cost(Tokens(read=1_000_000, cached=1_000_000)) == pytest.approx(0.3)
    assert model.cost(Tokens(read=1_000_000, cached=500_000, written=100_000)) == pytest.approx(1.5 + 0.15 + 1.5)


def test_the_households_own_entries_go_before_those_that_were_shipped(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("- {match: gpt-4o*, context: 999, tools: false, schema: false}")
    model = registry(tmp_path).of("gpt-4o-mini")
    assert (model.context, model.tools, model.knows_schema, model.input) == (999, False, False, None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [1", "broken YAML"),
        ("just words", "holds no list"),
        ("- {context: 5000}", "entry 1: names no models; add match"),
        ("- {match: [a], contxt: 5000}", "entry 1: contxt: unknown key; did you mean context?"),
        ("- {match: [a], schem: 5000}", "entry 1: schem: unknown key; did you mean schema?"),
        ("- {match: [a], context: many}", "entry 1: context: 'many' is not a whole number"),
        ("- {match: 5}", "entry 1: match: is no list"),
        ("- {match: [a], input: -1}", "entry 1: input: -1 is not possible"),
        ("\x00", "cannot be read"),
    ],
)
def test_a_mistake_in_the_households_file_is_one_line_and_costs_that_entry_alone(
    tmp_path: Path, text: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    good = "" if not text.startswith("- ") else "\n- {match: [mine], context: 1234}"
    (tmp_path / FILE).write_text(text + good)
    known = registry(tmp_path)
    (line,) = caplog.messages
    assert line.startswith(f"{tmp_path / FILE}: ")
    assert told in line
    assert "\n" not in line
    assert known.of("gpt-4o").input == 2.5
    assert not good or known.of("mine").context == 1234


def test_a_file_that_is_no_text_or_too_large_costs_nothing(tmp_path: Path) -> None:
    for content in (b"\xff\xfe\x00", b"#" * 2_000_000):
        (tmp_path / FILE).write_bytes(content)
        models, mistakes = read(tmp_path / FILE)
        assert not models
        assert len(mistakes) == 1
    assert read(tmp_path / "none.yaml") == ([], [])


# -------------------------------------------------------------------------------------------- opening


def configured(tmp_path: Path, **llm: object) -> Settings:
    return Settings.model_validate({"state_dir": tmp_path, "llm": llm})


def test_a_provider_that_cannot_be_opened_is_left_out_with_its_reason(
    run: Run[None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    providers = {"cloud": {"engine": "openai"}, "pi": {"engine": "script", "texts": ["Hello."], "model": "gpt-4o"}}

    async def scene() -> None:
        async with open_router(configured(tmp_path, route=["cloud", "pi"], providers=providers), GO_ON) as router:
            assert [place.name for place in router.places] == ["pi"]
            assert list(router.refused) == ["cloud"]
            assert (router.model, router.context) == ("gpt-4o", 128_000)
            asked = [Message(session="s", role=Role.PERSON, text="Hi.")]
            told = [piece async for piece in router.reply(asked, Options())]
            assert told[0] == Text("Hello.", "pi")

    run(scene())
    assert len([line for line in caplog.messages if line.startswith("llm 'cloud' is left out: ")]) == 1


def test_without_any_provider_there_is_a_router_that_asks_nobody(run: Run[None], tmp_path: Path) -> None:
    async def scene() -> None:
        async with open_router(configured(tmp_path), GO_ON) as router:
            assert not router.answers()
            assert list(router.refused) == ["local"]

    run(scene())


def test_the_households_word_on_how_far_a_provider_is_counts(run: Run[None], tmp_path: Path) -> None:
    host = "gateway.reach-of-a-test.example"
    providers = {"gate": {"engine": "script", "host": host, "reach": "lan"}}

    async def scene() -> None:
        assert outbound.reach(host) is Egress.ANY
        async with open_router(configured(tmp_path, providers=providers), GO_ON) as router:
            with outbound.within(Egress.LAN):
                assert router.answers()

    run(scene())


def test_an_offline_house_opens_nothing_beyond_it(run: Run[None], tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {
            "state_dir": tmp_path,
            "features": {"offline_mode": True},
            "llm": {
                "providers": {
                    "far": {"engine": "script", "host": "api.example.com"},
                    "near": {"engine": "script", "host": "10.0.0.2"},
                    "here": {"engine": "echo"},
                }
            },
        }
    )

    async def scene() -> None:
        async with open_router(settings, GO_ON) as router:
            assert [place.name for place in router.places] == ["near", "here"]
            assert "offline_mode is on" in router.refused["far"]

    run(scene())
