"""A routine as a graph of steps: read, ordered, run side by side, and every step comes to one end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from conftest import Run
from roomtone.clock import run_skipping
from roomtone.core.errors import ConfigError, ToolError
from roomtone.core.routine import STEPS, UNKNOWN, Routine, StepStatus, filled
from roomtone.routines import SHIPPED, Doing, Put, Routines, Running, read

STATUSES = list[tuple[str, StepStatus]]


@dataclass
class Hands:
    """Does what steps say: a prompt or a tool is a list of what happens, word by word."""

    busy: int = 0
    busiest: int = 0
    asked: list[str] = field(default_factory=list)
    tainted: dict[str, bool] = field(default_factory=dict)

    async def think(self, persona: str | None, text: str, put: Put, *, outside: bool = False) -> None:
        self.asked.append(text)
        self.tainted[text.split()[0]] = outside
        await self._do(text, put)

    async def use(
        self, persona: str | None, tool: str, arguments: Mapping[str, Any], *, outside: bool = False
    ) -> tuple[str, bool]:
        said: list[str] = []

        async def put(word: str) -> None:
            said.append(word)

        await self._do(str(arguments.get("does", tool)), put)
        return "".join(said), tool.startswith("web.")

    async def _do(self, script: str, put: Put) -> None:
        self.busy += 1
        self.busiest = max(self.busy, self.busiest)
        first = True
        try:
            for word in script.split():
                if word.startswith("sleep"):
                    await asyncio.sleep(float(word.removeprefix("sleep")))
                elif word == "fails":
                    raise ToolError("it failed")
                elif word == "breaks":
                    raise KeyError("our own mistake")
                else:
                    await put(word if first else f" {word}")
                    first = False
        finally:
            self.busy -= 1


def routine(steps: dict[str, Any], **more: Any) -> Routine:
    return Routine.model_validate({"name": "test", "steps": steps, **more})


def running(steps: dict[str, Any], seen: STATUSES | None = None, parallel: int = 3, **more: Any) -> Running:
    def on_step(id_: str, doing: Doing) -> None:
        if seen is not None:
            seen.append((id_, doing.status))

    return Running(routine(steps, **more), Hands(), parallel, on_step)


async def said_by(run: Running) -> str:
    said: list[str] = []

    async def put(word: str) -> None:
        said.append(word)

    await run.run(put)
    return "".join(said)


def statuses(run: Running) -> dict[str, str]:
    return {id_: str(doing.status) for id_, doing in run.steps.items()}


# ----------------------------------------------------------------------------------------- any graph

ENDS = st.sampled_from(["", "fails", "breaks", "sleep1", "sleep99 never"])


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Any]:
    steps: dict[str, Any] = {}
    for number in range(draw(st.integers(1, 9))):
        id_ = f"s{number}"
        step: dict[str, Any] = {"needs": draw(st.lists(st.sampled_from(sorted(steps)), max_size=3)) if steps else []}
        script = f"{id_} {draw(ENDS)}"
        deed = draw(st.sampled_from(["say", "prompt", "tool", "wait"]))
        if deed == "say":
            step["say"] = f"{id_} "
        elif deed == "prompt":
            step["prompt"] = script
        elif deed == "tool":
            step |= {"tool": "some.tool", "arguments": {"does": script}}
        else:
            step["wait"] = draw(st.floats(0, 40))
        if draw(st.booleans()):
            step["fallback"] = draw(st.sampled_from(["", "instead"]))
        steps[id_] = step
    order = draw(st.permutations(sorted(steps)))
    return {id_: steps[id_] for id_ in order}


@given(graphs(), st.integers(1, 4), st.one_of(st.none(), st.integers(1, 4)))
@settings(max_examples=120)
def test_in_any_graph_every_step_ends_once_in_order_and_no_more_run_than_may(
    steps: dict[str, Any], parallel: int, own: int | None
) -> None:
    seen: STATUSES = []
    run = running(steps, seen, parallel, max_parallel=own)
    said = run_skipping(said_by(run))
    ended = [id_ for id_, status in seen if status.over]
    assert sorted(ended) == sorted(steps)
    for id_, step in run.routine.steps.items():
        places = [place for place, (each, _) in enumerate(seen) if each == id_]
        assert seen[places[-1]][1] is run.steps[id_].status
        for need in step.after:
            assert seen.index((need, run.steps[need].status)) < places[0]
            if not run.steps[need].status.useful and step.prompt is None:
                assert run.steps[id_].status in (StepStatus.SKIPPED, StepStatus.FALLBACK)
    assert run._deeds.busiest <= min(parallel, own or parallel)  # type: ignore[attr-defined]
    told = [id_ for id_ in run.routine.told() if id_ in said]
    assert [said.index(id_) for id_ in told] == sorted(said.index(id_) for id_ in told)


@given(graphs(), st.floats(0, 60))
@settings(max_examples=60)
def test_a_routine_that_is_stopped_leaves_nothing_running(steps: dict[str, Any], after: float) -> None:
    seen: STATUSES = []
    run = running(steps, seen, 2)

    async def stopped() -> None:
        try:
            async with asyncio.timeout(after):
                await said_by(run)
        except TimeoutError:
            pass
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []

    run_skipping(stopped())
    assert sorted(id_ for id_, status in seen if status.over) == sorted(steps)
    assert run._deeds.busy == 0  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------ one at a time


def test_what_is_gathered_side_by_side_takes_as_long_as_the_slowest(run: Run[Any]) -> None:
    async def scenario() -> None:
        slow = {f"t{n}": {"tool": "x.y", "arguments": {"does": f"sleep{n} t{n}"}} for n in (1, 2, 3)}
        began = asyncio.get_running_loop().time()
        story = {"prompt": "told {{t1}} {{t2}} {{t3}}"}
        assert await said_by(running({**slow, "story": story})) == "told t1 t2 t3."
        assert 3 <= asyncio.get_running_loop().time() - began < 3.1

    run(scenario())


@pytest.mark.parametrize(
    ("step", "status", "error"),
    [
        ({"prompt": "fails"}, "failed", "it failed"),
        ({"prompt": "breaks"}, "failed", "'our own mistake'"),
        ({"prompt": "sleep99", "timeout_s": 2}, "late", "took longer than 2 s"),
        ({"prompt": "fails", "fallback": "instead"}, "fallback", "it failed"),
        ({"prompt": "sleep99", "fallback": "instead"}, "fallback", "took longer than 30 s"),
    ],
)
def test_a_step_that_comes_to_nothing_says_why(run: Run[None], step: Any, status: str, error: str) -> None:
    async def scenario() -> None:
        graph = running({"one": step, "two": {"wait": 0, "needs": ["one"]}, "three": {"prompt": "it is {{one}}"}})
        said = await said_by(graph)
        doing = graph.steps["one"]
        assert (doing.status, doing.error) == (status, error)
        helped = status == "fallback"
        assert graph.steps["two"].status == ("done" if helped else "skipped")
        assert said == f"it is {'instead.' if helped else UNKNOWN}"

    run(scenario())


def test_a_fallback_tells_what_is_known_and_leaves_out_the_rest(run: Run[None]) -> None:
    async def scenario() -> None:
        steps = {
            "weather": {"tool": "x.y", "arguments": {"does": "rain"}},
            "news": {"tool": "x.y", "arguments": {"does": "fails"}},
            "story": {"prompt": "fails {{weather}} {{news}}", "fallback": "Today: {{weather}} {{news}} That is all."},
        }
        assert await said_by(running(steps)) == "Today: rain That is all."

    run(scenario())


def test_who_breaks_off_in_the_middle_is_followed_by_a_sentence_of_its_own(run: Run[None]) -> None:
    async def scenario() -> None:
        graph = running({"story": {"prompt": "The sun fails", "fallback": "It is a nice day."}})
        assert await said_by(graph) == "The sun. It is a nice day."
        assert graph.steps["story"].result == "The sun. It is a nice day."

    run(scenario())


def test_sentences_without_a_stop_do_not_run_into_each_other(run: Run[None]) -> None:
    async def scenario() -> None:
        steps = {"a": {"say": "Good morning"}, "b": {"say": "It rains!"}, "c": {"say": "Bye"}}
        assert await said_by(running(steps)) == "Good morning. It rains! Bye."

    run(scenario())


def test_a_first_step_is_said_while_the_next_still_works(run: Run[None]) -> None:
    async def scenario() -> None:
        heard: list[tuple[str, float]] = []

        async def put(word: str) -> None:
            heard.append((word, round(asyncio.get_running_loop().time() - began)))

        began = asyncio.get_running_loop().time()
        await running({"a": {"say": "Hello."}, "b": {"prompt": "sleep5 there"}}).run(put)
        assert heard == [("Hello.", 0), (" there", 5), (".", 5)]

    run(scenario())


def test_what_strangers_wrote_is_known_as_such_wherever_it_goes(run: Run[None]) -> None:
    async def scenario() -> None:
        steps = {
            "page": {"tool": "web.page"},
            "mine": {"tool": "timer.list"},
            "digest": {"prompt": "digest {{page}}"},
            "story": {"prompt": "story {{digest}}"},
            "other": {"prompt": "other {{mine}}"},
        }
        graph = running(steps)
        await said_by(graph)
        assert graph._deeds.tainted == {"digest": True, "story": True, "other": False}  # type: ignore[attr-defined]

    run(scenario())


# ------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ({"a": {"say": "x", "needs": ["b"]}, "b": {"say": "y", "needs": ["a"]}}, "wait for each other: a -> b -> a"),
        ({"a": {"say": "x", "needs": ["a"]}}, "wait for each other: a -> a"),
        ({"a": {"prompt": "{{b}}"}}, "a needs b, and there is no such step"),
        ({"a": {"say": "x", "tool": "t.u"}}, "a step does one of say, prompt, tool, wait, not say and tool"),
        ({"a": {}}, "a step does one of say, prompt, tool, wait"),
        ({"a": {"say": "x", "arguments": {"b": 1}}}, "arguments: only a tool takes them"),
        ({"a": {"say": "{{Weather}}"}}, "a has {{Weather}}, which names no step; write it as in {{weather}}"),
        (
            {"a": {"say": "x", "fallback": "{{b}}"}, "b": {"say": "y"}},
            "the fallback of a tells {{b}}, which the step",
        ),
        ({f"s{n}": {"wait": 0} for n in range(STEPS + 1)}, f"has {STEPS + 1} steps; {STEPS} is the most"),
        ({"a": {"say": "x", "colour": "red"}}, "Extra inputs are not permitted"),
        ({}, "at least 1 item"),
    ],
)
def test_a_graph_that_cannot_be_run_says_what_is_wrong(steps: Any, reason: str) -> None:
    with pytest.raises(ValidationError) as refused:
        routine(steps)
    assert reason in str(refused.value)


def write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, "utf-8")
    return folder / name


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("steps: [", "cannot be read"),
        ("just words", "holds no routine; write steps:"),
        ("steps: {a: {say: x}}\ncolour: red", "colour: Extra inputs"),
        ("steps: {a: {wait: soon}}", "steps.a.wait: Input should be a valid number"),
        ("steps: {A B: {wait: 1}}", "steps.A B: String should match"),
        ("name: other\nsteps: {a: {say: x}}", "name: is not the file's"),
        ("steps: &s {a: *s}", "steps.a"),
        ("steps: {a: {tool: t.u, arguments: &x {y: *x}}}", "contains itself"),
        ("\x00", "cannot be read"),
    ],
)
def test_a_broken_file_is_refused_with_file_key_and_reason(tmp_path: Path, text: str, reason: str) -> None:
    file = write(tmp_path, "evening.yaml", text)
    with pytest.raises(ConfigError) as refused:
        read(file)
    assert str(file) in refused.value.message
    assert reason in refused.value.message
    assert "\n" not in refused.value.message


def test_a_broken_file_costs_only_itself_is_told_once_and_one_that_was_whole_stays(tmp_path: Path) -> None:
    write(tmp_path, "good.yaml", "steps: {a: {say: hello}}")
    broken = write(tmp_path, "evening.yaml", "steps: {a: {say: good evening}}")
    told: list[str] = []
    routines = Routines([tmp_path, SHIPPED], told.append)
    assert set(routines.all()) == {"good", "evening", "morning"}
    broken.write_text("steps: {a: {shout: good evening}}", "utf-8")
    for _ in range(3):
        assert set(routines.all()) == {"good", "evening", "morning"}
    assert [line.endswith("it stays as it was") for line in told] == [True]
    assert "steps.a.shout" in routines.refused[broken]
    assert set(Routines([tmp_path]).all()) == {"good"}
    broken.write_text("steps: {a: {say: good night}}", "utf-8")
    assert routines.all()["evening"].steps["a"].say == "good night"
    assert routines.refused == {}


def test_a_household_s_own_goes_before_one_that_came_with_roomtone(tmp_path: Path) -> None:
    write(tmp_path, "morning.yaml", "steps: {a: {say: mine}}")
    assert Routines([tmp_path, SHIPPED]).all()["morning"].steps.keys() == {"a"}
    write(tmp_path, "morning.yaml", "steps: {a: [")
    assert "story" in Routines([tmp_path, SHIPPED]).all()["morning"].steps


def test_all_that_comes_with_roomtone_can_be_run() -> None:
    routines = Routines([SHIPPED])
    assert routines.all()
    assert routines.refused == {}


def test_placeholders_are_filled_wherever_they_stand() -> None:
    arguments = {"items": ["{{a}}", {"deep": "x {{ a }}"}], "n": 3}
    assert filled(arguments, {"a": "milk"}) == {"items": ["milk", {"deep": "x milk"}], "n": 3}
