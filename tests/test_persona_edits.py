"""Personas are edited while the room talks: it speaks as the last good version, and never falls silent."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import Run, leaving_nothing
from rooms import room, scripted
from roomtone import daemon, personas
from roomtone.clock import run_skipping
from roomtone.core.dialog import Source, Voice
from roomtone.core.errors import PersonaError
from roomtone.core.signals import Prompt, Switch
from roomtone.core.sound import Audio
from roomtone.edges import persona_files
from roomtone.flow import beside
from roomtone.personas import versions as persona_versions
from roomtone.rehearsal import Rehearsal

SKILL = """
language: en
intents:
  greet: {sentences: ["salute the guide"], samples: ["salute the guide"]}
replies: {greet: "Salute."}
"""


def write(folder: Path, **files: str) -> None:
    """Write files into a persona's folder: a file's name is written with __ for / and _yaml for its end."""
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_yaml", ".yaml").replace("_md", ".md")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def guide(state_dir: Path, name: str = "Guide", **files: str) -> Path:
    folder = state_dir / "personas" / "guide"
    write(folder, config_yaml=f"name: {name}\n", system_prompt_md="You guide.", **files)
    return folder


@asynccontextmanager
async def guided(state_dir: Path, **files: str) -> AsyncIterator[Rehearsal]:
    """Open a room that speaks as the guide."""
    guide(state_dir, **files)
    async with room(scripted(), state_dir) as rehearsal:
        await rehearsal.room.conversation.reload()
        rehearsal.room.conversation.post(Switch("guide", Source.CLI))
        await rehearsal.at_rest()
        yield rehearsal


async def asked(rehearsal: Rehearsal, text: str = "who are you") -> str:
    turn = await rehearsal.room.conversation.answer(Prompt(text, Source.CLI))
    await rehearsal.at_rest()
    return turn.spoken


def test_an_edit_is_spoken_from_the_next_turn_on_and_kept_as_a_version(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with guided(tmp_path) as rehearsal:
            guide(tmp_path, "Leader")
            assert await asked(rehearsal) == "I'm Guide.", "nobody has looked yet"
            [news] = await rehearsal.room.conversation.reload()
            assert (news.id, news.mistake) == ("guide", None)
            assert await asked(rehearsal) == "I'm Leader."
            assert await rehearsal.room.conversation.reload() == []
            assert len(await persona_versions.versions(rehearsal.room.store, "guide")) == 2

    run(scenario())


def test_a_voice_does_not_change_in_mid_answer(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with guided(tmp_path) as rehearsal:
            used: list[float] = []
            place = rehearsal.room.synthesiser.places[0]
            speak = place.engine.speak

            async def noting(sentence: str, voice: Voice) -> AsyncIterator[Audio]:
                if not used:
                    used.append(voice.pitch)
                    write(tmp_path / "personas" / "guide", config_yaml="name: Guide\nvoice: {pitch: 0.5}\n")
                    await rehearsal.room.conversation.reload()
                elif sentence != "1":  # with which a voice is warmed
                    used.append(voice.pitch)
                async for sound in speak(sentence, voice):
                    yield sound

            place.engine.speak = noting  # type: ignore[method-assign]
            await asked(rehearsal, "what can you do")
            assert len(used) > 1
            assert set(used) == {1.0}
            await asked(rehearsal)
            assert used[-1] == 0.5

    run(scenario())


@pytest.mark.parametrize(
    ("files", "key"),
    [
        ({"config_yaml": "name: ["}, ""),
        ({"config_yaml": "name: Guide\nvoice: {speed: 9}"}, "voice.speed"),
        ({"config_yaml": "name: Guide\ntools: [flying]"}, "tools"),
        ({"system_prompt_md": "$nobody"}, "$nobody"),
        ({"skills__guiding__en_yaml": "intents: 3"}, "language"),
    ],
)
def test_a_broken_edit_is_refused_and_the_last_good_version_goes_on(
    run: Run[None], tmp_path: Path, files: dict[str, str], key: str
) -> None:
    async def scenario() -> None:
        async with guided(tmp_path) as rehearsal:
            write(tmp_path / "personas" / "guide", **files)
            [news] = await rehearsal.room.conversation.reload()
            assert news.key == key
            assert str(tmp_path / "personas" / "guide") in str(news.mistake)
            assert not news.again
            assert await asked(rehearsal) == "I'm Guide."
            assert await rehearsal.room.conversation.reload() == []

    run(scenario())


def test_a_folder_removed_while_in_use_goes_on_talking(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with guided(tmp_path) as rehearsal:
            shutil.rmtree(tmp_path / "personas")
            [news] = await rehearsal.room.conversation.reload()
            assert news.gone
            assert await asked(rehearsal) == "I'm Guide."

    run(scenario())


def test_somebody_new_can_be_called_by_name_at_once(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with guided(tmp_path) as rehearsal:
            assert "don't know" in await asked(rehearsal, "let me talk to the gardener")
            write(tmp_path / "personas" / "gardener", config_yaml="name: Gardener\n", system_prompt_md="You dig.")
            await rehearsal.room.conversation.reload()
            assert await asked(rehearsal, "let me talk to the gardener") == "Gardener here."
            assert await asked(rehearsal, "let me talk to the guide") == "Guide here.", "others know the names too"

    run(scenario())


def test_a_skill_of_its_own_is_taken_up(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with guided(tmp_path) as rehearsal:
            write(tmp_path / "personas" / "guide", skills__guiding__en_yaml=SKILL)
            await rehearsal.room.conversation.reload()
            assert await asked(rehearsal, "salute the guide") == "Salute."

    run(scenario())


def test_what_became_of_personas_is_on_the_feed(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with guided(tmp_path) as rehearsal:
            guide(tmp_path, "Leader")
            await rehearsal.room.conversation.reload()
            write(tmp_path / "personas" / "guide", config_yaml="[")
            await rehearsal.room.conversation.reload()
            tallies = rehearsal.room.feed.tallies
            assert (tallies["persona.reloaded"].count, tallies["persona.refused"].count) == (1, 1)

    run(scenario())


NAMES = st.sampled_from(["Guide", "Leader", "Pilot", "Scout"])
EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), NAMES),
        st.tuples(st.just("half"), st.integers(0, 60)),
        st.tuples(st.just("break"), st.sampled_from(["[", "name: 3", "colour: red", "name: A\nbutton: ''", "\x00"])),
        st.tuples(st.just("prompt"), st.sampled_from(["", "You guide.", "$nobody", "You guide in the $room."])),
        st.tuples(st.just("skill"), st.sampled_from([SKILL, "intents: 3", "", SKILL.replace("salute", "greet")])),
        st.tuples(st.just("remove"), st.none()),
        st.tuples(st.just("move"), st.none()),
        st.tuples(st.just("touch"), st.none()),
    ),
    max_size=8,
)


def edit(folder: Path, what: str, how: Any) -> None:
    """Do to a persona's folder what people and editors do."""
    whole = "name: Walker\nversion: '2'\ntone_rules: [be brief]\ntools: null\n"
    match what:
        case "remove":
            shutil.rmtree(folder, ignore_errors=True)
        case "move" if folder.exists():
            elsewhere = folder.with_name("somebody")
            shutil.rmtree(elsewhere, ignore_errors=True)
            folder.rename(elsewhere)
        case "touch" if folder.exists():
            os.utime(folder)
        case "write":
            guide(folder.parent.parent, how)
        case "half":
            write(folder, config_yaml=whole[:how])
        case "break":
            write(folder, config_yaml=how)
        case "prompt":
            write(folder, system_prompt_md=how)
        case "skill":
            write(folder, skills__guiding__en_yaml=how)


def whole(rehearsal: Rehearsal, folder: Path) -> str | None:
    """Return the name that a folder gives its persona, None where it is broken or gone."""
    try:
        read = personas.load(folder)
        personas.skills_of(read, folder, rehearsal.room.parts.cast.skills)
    except PersonaError:
        return None
    return read.name


@settings(max_examples=8, suppress_health_check=list(HealthCheck))
@given(EDITS)
def test_whatever_is_edited_it_always_speaks_as_the_last_good_version(edits: list[tuple[str, Any]]) -> None:
    async def scenario(state_dir: Path) -> None:
        folder, good = state_dir / "personas" / "guide", "Guide"
        async with guided(state_dir) as rehearsal:
            for what, how in edits:
                async with asyncio.TaskGroup() as group:
                    talking = group.create_task(asked(rehearsal))
                    edit(folder, what, how)
                    await rehearsal.room.conversation.reload()
                assert talking.result() in (f"I'm {good}.", f"I'm {whole(rehearsal, folder)}.")
                good = whole(rehearsal, folder) or good
                assert await asked(rehearsal) == f"I'm {good}."

    with tempfile.TemporaryDirectory() as folder:
        run_skipping(leaving_nothing(scenario(Path(folder))), counts_work=False)


# ------------------------------------------------------------------------------------------- the edge


def test_the_edge_notices_edits_new_folders_and_others_in_their_place(
    run_in_real_time: Run[None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(persona_files, "QUIET_MS", 20)
    monkeypatch.setattr(persona_files, "LOOK_MS", 50)
    own, looked = tmp_path / "personas", asyncio.Queue[None]()

    async def noted(act: str) -> None:
        async with asyncio.timeout(30):
            await looked.get()
        print(act)

    async def scenario() -> None:
        async def changed() -> None:
            looked.put_nowait(None)

        (tmp_path / "shipped").mkdir()
        async with beside(persona_files.watch([own, tmp_path / "shipped"], changed), "watch"):
            await noted("it looks once when it begins")
            folder = guide(tmp_path)
            await noted("a place that was not there is there")
            await noted("it looks once more at the new place")
            write(folder, config_yaml="name: Leader\n")
            await noted("an edit")
            write(folder, knowledge__deep_md="new")
            await noted("a new folder")
            write(folder, knowledge__deep_md="newer")
            await noted("an edit in the new folder")
            own.rename(tmp_path / "before")
            await noted("the place is gone")

    run_in_real_time(scenario())


def test_a_failing_look_and_a_refusing_kernel_do_not_end_the_edge(
    run_in_real_time: Run[None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(persona_files, "QUIET_MS", 20)
    monkeypatch.setattr(persona_files, "LOOK_MS", 50)
    monkeypatch.setattr(persona_files, "FIRST_S", 0.01)
    again = asyncio.Event()
    looks = []

    def places(folders: Any, known: Any = persona_files._places) -> Any:
        looks.append(folders)
        if len(looks) == 1:
            raise OSError("OS file watch limit reached")
        return known(folders)

    async def changed() -> None:
        if "taken up" in caplog.text:
            again.set()
        raise ValueError("broken")

    async def scenario() -> None:
        async with beside(persona_files.watch([tmp_path], changed), "watch"):
            async with asyncio.timeout(30):
                while not again.is_set():
                    (tmp_path / "file").write_text(str(len(looks)))
                    await asyncio.sleep(0.05)

    monkeypatch.setattr(persona_files, "_places", places)
    run_in_real_time(scenario())
    assert "watch limit reached" in caplog.text


def test_who_speaks_says_once_that_its_own_file_has_a_mistake(run_in_real_time: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with guided(tmp_path) as rehearsal, beside(daemon.follow_personas(rehearsal.room), "personas"):
            with rehearsal.room.feed.watch("turn.ended") as ended:
                write(tmp_path / "personas" / "other", config_yaml="name: [")
                write(tmp_path / "personas" / "guide", config_yaml="name: Guide\ntools: [flying]")
                async with asyncio.timeout(60):
                    event = await anext(ended)
            assert event.data.turn.said == "There is a mistake in my files, at tools, so I go on as I was."

    run_in_real_time(scenario())
