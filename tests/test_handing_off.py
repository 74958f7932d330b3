"""Wanting to go to another room: by words, by a model's tool and by a button, and what is said where it stays."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from conftest import Run
from home import Home, whole
from roomtone.core.board import Binding, _binding, meaning
from roomtone.core.errors import DeviceOffline, HandoffRefused, HouseError, ToolError
from roomtone.core.presses import Gesture
from roomtone.core.schedule import Action
from roomtone.core.wire import Code
from roomtone.mind.house import Alone, Neighbour, refusal_phrase
from roomtone.mind.phrases import Phrases, load_language
from roomtone.mind.sentences import Skills
from roomtone.mind.thinking import Mind
from roomtone.mind.tools.rooms import Target, hand_off

SKILLS = Skills.load()


class Beside(Alone):
    """A house with a kitchen and Anna's room; ``went`` is where a conversation was let go."""

    def __init__(self, refusal: HouseError | None = None) -> None:
        super().__init__("office")
        self.refusal = refusal
        self.went: list[str] = []

    def rooms(self) -> Sequence[Neighbour]:
        return [Neighbour("kitchen-1", "kitchen"), Neighbour("anna", "Anna's room"), Neighbour("bed", "bedroom")]

    def find(self, spoken: str) -> Neighbour:
        known = {each.room.casefold(): each for each in self.rooms()}
        return known.get(spoken.casefold()) or super().find(spoken)

    async def hand_off(self, to: Neighbour, why: str = "") -> None:
        if self.refusal is not None:
            raise self.refusal
        self.went.append(to.room)


async def answered(text: str, home: Home) -> str:
    return await whole((await Mind(SKILLS, Phrases.load()).answer(text, home)).deltas)


@pytest.mark.parametrize(
    ("text", "room"),
    [
        ("continue in the kitchen", "kitchen"),
        ("Go on in the kitchen.", "kitchen"),
        ("Please move this to the kitchen.", "kitchen"),
        ("come with me to the bedroom", "bedroom"),
        ("I'm going to bed, come with me.", "bedroom"),
        ("take the conversation to Anna's room", "Anna's room"),
        ("Carry on in the kitchen, please.", "kitchen"),
    ],
)
def test_what_people_say_goes_to_the_room_they_mean(run: Run[str], text: str, room: str) -> None:
    house = Beside()
    home = Home(house=house)
    assert run(answered(text, home)) == ""
    assert house.went == [room]
    assert home.acted


@pytest.mark.parametrize("text", ["go on", "continue", "continue the story", "come here", "move on"])
def test_what_means_no_room_goes_nowhere(text: str) -> None:
    match = SKILLS.recognise(text)
    assert match is None or match.skill != "handoff"


def test_where_it_stays_that_is_said_and_the_answer_goes_on(run: Run[str]) -> None:
    home = Home(house=Beside(DeviceOffline("the kitchen is off")), rest="And then the wolf came.")
    said = run(answered("continue in the kitchen", home))
    assert said == "The kitchen is off, so I stay here. And then the wolf came."


def test_every_reason_has_a_sentence() -> None:
    say = load_language("en").say
    for code in (*Code, DeviceOffline.code, "PERSONA_NOT_FOUND", "HUB_GONE", "SOMETHING_NEW"):
        assert refusal_phrase(code) in say
        assert refusal_phrase(code, back=True) in say


def test_a_model_can_bring_the_conversation_to_another_room(run: Run[None]) -> None:
    async def scenario() -> None:
        house = Beside()
        await hand_off.run({"room": "kitchen"}, Home(house=house))
        assert house.went == ["kitchen"]
        with pytest.raises(ToolError, match="no room called attic"):
            await hand_off.run({"room": "attic"}, Home(house=house))
        with pytest.raises(ToolError, match="busy"):
            refused = Beside(HandoffRefused("the kitchen is busy", why=Code.BUSY))
            await hand_off.do(Target(room="kitchen"), Home(house=refused))
        with pytest.raises(ToolError, match="alone"):
            await hand_off.run({"room": "kitchen"}, Home())

    run(scenario())


@pytest.mark.parametrize("job", [Action(handoff="kitchen"), Action(routine="morning"), Action(say="hello")])
def test_a_button_with_a_job_does_it_when_it_is_pressed(job: Action) -> None:
    assert meaning(_binding(job), Gesture.PRESSED) == job


def test_a_button_that_only_names_a_persona_is_there_to_talk_to_it() -> None:
    assert _binding(Action(persona="chef")) == Binding(persona="chef")
