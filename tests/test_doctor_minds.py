"""The doctor on minds: language models and servers of tools, each finding with what mends it, and nothing sent."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from roomtone import engines
from roomtone.config import load
from roomtone.core.errors import ConfigError
from roomtone.doctor import Finding, minds
from roomtone.settings import Settings


@pytest.fixture
def anywhere(tmp_path: Path) -> Any:
    def look(**sections: Any) -> list[Finding]:
        return list(minds.look(Settings.model_validate({"state_dir": tmp_path, **sections})))

    return look


@pytest.fixture
def listener() -> Iterator[tuple[int, list[bytes]]]:
    """Listen on loopback; yield the port and what was sent there."""
    sent: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with server.accept()[0] as guest:
                sent.append(guest.recv(1000))

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1], sent
        thread.join(5)


def provider(**keys: Any) -> dict[str, Any]:
    return {"providers": {"house": keys}}


def test_a_broken_routine_and_one_that_is_not_there_are_told(anywhere: Any, tmp_path: Path) -> None:
    folder = tmp_path / "routines"
    folder.mkdir()
    (folder / "evening.yaml").write_text("steps: {a: {say: x, needs: [b]}, b: {say: y, needs: [a]}}")
    schedules = {
        "dusk": {"cron": "0 20 * * *", "routine": "dusk"},
        "dawn": {"cron": "0 6 * * *", "routine": "morning"},
    }
    told = [found.said for found in anywhere(schedules=schedules) if found.subject == "routines"]
    assert len(told) == 2
    assert "a -> b" in told[0] or "b -> a" in told[0]
    assert told[1] == "dusk is to run dusk, and there is no such routine"


def test_without_any_model_skills_answer_alone(anywhere: Any) -> None:
    (found,) = anywhere()
    assert (found.level, found.said) == ("ok", "there is none: skills answer alone")
    assert "roomtone models list" in found.mend


@pytest.mark.skipif(engines.lacking("openai") is not None, reason="the Python package openai is not installed")
def test_a_provider_is_reached_and_told_nothing(anywhere: Any, listener: tuple[int, list[bytes]]) -> None:
    port, sent = listener
    (found,) = anywhere(llm=provider(engine="openai", base_url=f"http://127.0.0.1:{port}/v1", model="gpt-4o"))
    assert (found.level, found.said) == ("ok", "house: gpt-4o at 127.0.0.1 can be reached")
    assert sent in ([], [b""])


@pytest.mark.skipif(engines.lacking("openai") is not None, reason="the Python package openai is not installed")
def test_of_a_provider_that_is_not_there_the_address_is_mended(anywhere: Any) -> None:
    (found,) = anywhere(llm=provider(engine="openai", base_url="http://127.0.0.1:1/v1", model="gpt-4o"))
    assert (found.level, found.said) == ("warn", "house: 127.0.0.1:1 cannot be reached (connection refused)")
    assert found.mend == "start it there, or mend llm.providers.house.base_url"


@pytest.mark.skipif(engines.lacking("openai") is not None, reason="the Python package openai is not installed")
def test_a_model_that_nothing_is_known_of_can_be_described(
    anywhere: Any, listener: tuple[int, list[bytes]], tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{listener[0]}/v1"
    (found,) = anywhere(llm=provider(engine="openai", base_url=url, model="homegrown"))
    assert "of homegrown nothing is known, so it is taken to read 8,192 tokens" in found.said
    assert found.mend == f"add it to {tmp_path / 'llm_models.yaml'}"


@pytest.mark.skipif(engines.lacking("anthropic") is not None, reason="the Python package anthropic is not installed")
def test_a_provider_without_a_key_says_where_it_belongs(anywhere: Any) -> None:
    (found,) = anywhere(llm=provider(engine="anthropic", model="claude-sonnet-4"))
    assert (found.level, found.said) == ("warn", "house: no key is set")
    assert found.mend == "write api_key: credential:anthropic"


def test_a_model_that_nothing_reads_is_told_of(
    anywhere: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models" / "llama").mkdir(parents=True)
    (tmp_path / "models" / "llama" / "small.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(engines.load("llm", "llama_cpp"), "missing", lambda _: "no library; run: pip install it")
    found, _ = anywhere()
    assert (found.subject, found.level, found.said) == (
        "models",
        "warn",
        "llm-small cannot be used: no library",
    )
    assert found.mend == "run: pip install it"


@pytest.mark.skipif(engines.lacking("mcp") is not None, reason="the Python package mcp is not installed")
def test_servers_of_tools_are_looked_for(anywhere: Any) -> None:
    found = anywhere(
        mcp={
            "here": {"command": sys.executable},
            "gone": {"command": "no-such-program"},
            "away": {"url": "http://127.0.0.1:1/mcp"},
        }
    )[1:]
    assert [(one.subject, one.level, one.mend) for one in found] == [
        ("mcp", "ok", None),
        ("mcp", "warn", "install it, or mend mcp.gone.command"),
        ("mcp", "warn", "start it there, or mend mcp.away.url"),
    ]


@pytest.mark.skipif(engines.lacking("openai") is not None, reason="the Python package openai is not installed")
@pytest.mark.skipif(engines.lacking("mcp") is not None, reason="the Python package mcp is not installed")
def test_in_an_offline_house_nothing_beyond_it_is_looked_for(anywhere: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    monkeypatch.setattr(minds, "unreachable", looked.append)
    near = provider(engine="openai", base_url="http://127.0.0.1:1/v1", model="gpt-4o")
    far = provider(engine="openai", base_url="https://api.example.com/v1", model="gpt-4o", api_key="k")
    told = provider(engine="openai", base_url="http://127.0.0.1:2/v1", model="gpt-4o", reach="any")
    for llm, said in ((near, "house: gpt-4o at"), (far, "house: is left alone"), (told, "house: is left alone")):
        (found,) = anywhere(llm=llm, features={"offline_mode": True})
        assert (found.level, found.said[: len(said)]) == ("ok", said)
    *_, server = anywhere(mcp={"far": {"url": "https://mcp.example.com"}}, features={"offline_mode": True})
    assert server.said == "far: is left alone: mcp.example.com is beyond the house, and features.offline_mode is on"
    assert looked == ["http://127.0.0.1:1/v1"]


def test_servers_of_tools_need_a_package(anywhere: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        engines, "lacking", lambda module, extra=None: f"{module} is missing; run: pip install {extra}"
    )
    found = anywhere(mcp={"here": {"command": "x"}})[-1]
    assert (found.said, found.mend) == ("mcp is missing", "run: pip install mcp")


# ------------------------------------------------------------------------------ what is written of servers


def mistakes(text: str, tmp_path: Path) -> list[str]:
    file = tmp_path / "config.yaml"
    file.write_text(f"mcp:\n  house: {text}\n")
    with pytest.raises(ConfigError) as raised:
        load(file, {})
    return [line.partition(": ")[2] for line in raised.value.details["mistakes"]]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("{}", "needs a command to run or a url to call, one of them"),
        ("{command: a, url: 'http://a.local/'}", "needs a command to run or a url to call, one of them"),
        (
            "{command: a, headers: {X-Key: hush}}",
            "has headers, which only a url is called with; give a command its secrets in env",
        ),
        (
            "{url: 'http://a.local/', env: {A: hush}}",
            "has an env, which only a command is run with; give a url its key in headers",
        ),
        ("{url: 'http://me:hush@a.local/'}", "has a password in its url; write it in headers"),
        ("{command: a, tools: [b], confirm: [c]}", "has c in confirm and not in tools; add it there"),
    ],
)
def test_a_mistake_in_a_server_is_told_without_its_secrets(text: str, wrong: str, tmp_path: Path) -> None:
    (line,) = mistakes(text, tmp_path)
    assert line.startswith(f"mcp.house: this section {wrong}")
    assert "hush" not in line
