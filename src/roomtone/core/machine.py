"""What may happen next: a table from a state and a signal to a new state and a list of orders.

Nothing in here does anything, waits or looks at a clock. ``step`` is called with every fact in turn; whoever
calls it carries the effects out. Signals that belong to a turn carry its number, and a number that is neither
the turn's that holds the floor nor its rival's changes nothing: that is all the stale-event guard there is.

The state INTERRUPT is the moment of doubt: someone made a sound while Roomtone thought or spoke. The sound's
utterance is heard as a *rival* turn that may not answer yet; if words follow, the rival takes the floor, and
if none do, the reply goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from roomtone.core.arbitration import Kind
from roomtone.core.dialog import Ended, Source
from roomtone.core.effects import (
    Alive,
    Anticipate,
    Await,
    Become,
    Begin,
    Called,
    ChangeVolume,
    Chime,
    Commit,
    Drop,
    Duck,
    Effect,
    Hold,
    Notice,
    Patience,
    Record,
    Release,
    Rescue,
    Resume,
    SayAgain,
    Stop,
    Tell,
)
from roomtone.core.signals import (
    Acted,
    Beat,
    Call,
    Dismiss,
    FirstSound,
    FloorKept,
    FloorTaken,
    LetGo,
    Misfired,
    Muter,
    MuteSet,
    MuteToggled,
    Overheard,
    Prompt,
    Repeat,
    Signal,
    SoundWentOn,
    SpeechEnded,
    SpeechPaused,
    SpeechStarted,
    StandDown,
    Switch,
    Timeout,
    TurnEnded,
    VolumeTurned,
    Wake,
)


class Mode(StrEnum):
    """The five states."""

    IDLE = "idle"
    LISTENING = "listening"
    THINKING = "thinking"
    SPEAKING = "speaking"
    INTERRUPT = "interrupt"


# ---------------------------------------------------------------------------------------------- state


@dataclass(frozen=True, slots=True)
class State:
    """Everything that decides what may happen next.

    ``turn`` holds the floor (in LISTENING: the turn that is being heard, None while nobody spoke); ``rival`` is
    heard in doubt, and ``rival_ended`` says that its utterance is over; ``back`` is the mode that a kept floor
    returns to. ``prompt`` is what the turn answers if nobody spoke it; ``acted``: the turn said or did
    something. ``called``: LISTENING came of a Wake, by a button that is ``held`` still. ``muted``: by one or more of
    ``mutes``. ``call`` is the number of the voice that is listened to or answered, 0 where no other room may have
    heard it. ``open`` and ``follows_up`` are settings: speech alone begins a turn; an answer is followed by
    listening.
    """

    mode: Mode = Mode.IDLE
    turn: int | None = None
    rival: int | None = None
    rival_ended: bool = False
    back: Mode = Mode.IDLE
    prompt: Prompt | None = None
    acted: bool = False
    called: bool = False
    held: bool = False
    muted: bool = False
    mutes: frozenset[Muter] = frozenset()
    open: bool = True
    follows_up: bool = True
    call: int = 0
    turns: int = 0
    waits: int = 0
    calls: int = 0
    parked: tuple[Prompt | Switch, ...] = ()


Next = tuple[State, list[Effect]]


def step(state: State, signal: Signal) -> Next:
    """Return the state that follows and the orders to carry out; what does not apply changes nothing."""
    row = TABLE.get((state.mode, type(signal))) or ANY_MODE.get(type(signal))
    return row(state, signal) if row else (state, [])


# ------------------------------------------------------------------------------ where the table leads


def _free(state: State, mode: Mode) -> State:
    """Nobody holds the floor."""
    cleared = replace(state, mode=mode, turn=None, rival=None, rival_ended=False)
    return replace(cleared, prompt=None, acted=False, called=False, held=False, call=0)


def _idle(state: State, effects: list[Effect]) -> Next:
    """Come to rest, or take up what was parked: a change of persona at once, the oldest prompt after it."""
    rest = _free(state, Mode.IDLE)
    if not rest.parked:
        return rest, effects
    first, *later = rest.parked
    rest = replace(rest, parked=tuple(later))
    if isinstance(first, Switch):
        return _idle(rest, [*effects, _become(first)])
    return _begin_prompt(rest, first, effects)


def _become(switch: Switch) -> Become:
    return Become(switch.persona, switch.source, switch.cause)


def _begin_prompt(state: State, prompt: Prompt, effects: list[Effect]) -> Next:
    turn = state.turns + 1
    begun = replace(_free(state, Mode.THINKING), turn=turn, turns=turn, prompt=prompt)
    return begun, [*effects, Begin(turn, prompt=prompt), Commit(turn)]


def _begin_utterance(state: State, signal: SpeechStarted) -> Next:
    turn = state.turns + 1
    begun = replace(state, mode=Mode.LISTENING, turn=turn, turns=turn, acted=False)
    began: list[Effect] = [Begin(turn, utterance=signal.utterance)]
    if state.called:
        return _tell_house(begun, Kind.ENGAGED, signal.call, began)
    told, effects = _tell_house(begun, Kind.SPEECH, signal.call, began)
    return replace(told, call=0 if signal.call is None else told.calls), effects


def _await(state: State, patience: Patience, effects: list[Effect]) -> Next:
    wait = state.waits + 1
    return replace(state, waits=wait), [*effects, Await(wait, patience)]


def _tell_house(state: State, kind: Kind, call: Call | None, effects: list[Effect]) -> Next:
    """Number a voice that other rooms may have heard too."""
    if call is None:
        return state, effects
    number = state.calls + 1
    return replace(state, calls=number), [*effects, Called(number, kind, call)]


def _doubt(state: State, signal: SpeechStarted, first: Effect, joined: int | None) -> Next:
    rival = state.turns + 1
    doubting = replace(state, mode=Mode.INTERRUPT, rival=rival, rival_ended=False, turns=rival)
    begun = Begin(rival, utterance=signal.utterance, joined=joined)
    return _tell_house(doubting, Kind.ENGAGED, signal.call, [first, begun])


def _keep_floor(state: State, effects: list[Effect]) -> Next:
    return replace(state, mode=state.back, rival=None, rival_ended=False), [*effects, Resume()]


def _give_floor(state: State, effects: list[Effect]) -> Next:
    """Let the rival be the turn: still listening to it, or answering if its utterance is over."""
    assert state.rival is not None
    taken = replace(_free(state, Mode.LISTENING), turn=state.rival, call=0 if state.acted else state.call)
    if state.rival_ended:
        return replace(taken, mode=Mode.THINKING), [*effects, Resume(), Commit(state.rival)]
    return taken, [*effects, Resume()]


def _yield_floor(state: State) -> Next:
    """Stop the turn for another. One that was not answered yet leaves no trace; its prompt comes again."""
    if state.turn is None:
        return state, []
    if state.prompt is not None and not state.acted:
        return replace(state, parked=(state.prompt, *state.parked)), [Drop(state.turn)]
    heard_on = state.mode is Mode.LISTENING or (state.mode is Mode.INTERRUPT and not state.acted)
    return state, [Drop(state.turn) if heard_on else Stop(state.turn, Ended.INTERRUPTED)]


def _drop_rival(state: State) -> list[Effect]:
    return [] if state.rival is None else [Drop(state.rival)]


# ------------------------------------------------------------------------------------ rows of any mode


def _wake(state: State, signal: Wake) -> Next:
    if state.muted:  # nobody can be listened to, but who presses the button at an alarm wants it to stop
        if state.mode is Mode.SPEAKING:
            return _dismiss(state, Dismiss(signal.source))
        return state, [Tell(_why_muted(state))] if state.mode is Mode.IDLE else []
    yielded, effects = _yield_floor(state)
    interrupts = Mode.SPEAKING in (state.mode, state.back if state.mode is Mode.INTERRUPT else None)
    kind = Kind.INTERRUPTION if interrupts else Kind.WAKE
    told, telling = _tell_house(_free(yielded, Mode.LISTENING), kind, signal.call, [])
    call = told.calls if signal.call is not None else 0
    called = replace(told, called=True, held=signal.held, call=call)
    let_go = [Resume()] if state.mode is Mode.INTERRUPT else []
    as_whom = [Become(signal.persona, signal.source, call=call)] if signal.persona else []
    chime = Chime(waits=signal.source is Source.VOICE, call=call)
    # Who was not heard and walks to the button must not have to say it again.
    in_vain = state.mode is Mode.IDLE and not state.open and signal.source is Source.BUTTON
    rescue = [Rescue()] if in_vain else []
    before = [*_drop_rival(state), *effects, *let_go]
    return _await(called, Patience.CALLED, [*before, *telling, *as_whom, chime, *rescue])


def _stand_down(state: State, signal: StandDown) -> Next:
    """Rest as if nobody had been heard here, since another room answers them; but never in the midst of an answer."""
    if not state.call or signal.call != state.call or state.acted:
        return state, []
    gone = [turn for turn in (state.rival, state.turn) if turn is not None]
    let_go: list[Effect] = [Resume()] if state.mode is Mode.INTERRUPT else []
    return _idle(state, [*(Drop(turn, heard_out=True) for turn in gone), *let_go])


def _came_along(parked: Prompt | Switch) -> bool:
    return isinstance(parked, Prompt) and bool(parked.goes_on)


def _dismiss(state: State, signal: Dismiss) -> Next:
    effects = _drop_rival(state)
    if signal.how is Ended.MOVED:
        state = replace(state, parked=tuple(each for each in state.parked if not _came_along(each)))
    if state.turn is not None:
        asked_again = signal.how is Ended.MOVED and not state.acted
        effects.append(Drop(state.turn) if asked_again else Stop(state.turn, signal.how))
    rest = _free(state, Mode.IDLE)
    # A parked prompt waits a moment: whoever asked for silence gets some first.
    return _await(rest, Patience.PARKED, effects) if state.parked else (rest, effects)


def _park(state: State, signal: Prompt | Switch) -> Next:
    """Let it wait; what waits already, word for word, is not said twice: a button may be pressed five times."""
    if isinstance(signal, Prompt) and signal in state.parked:
        return state, []
    return replace(state, parked=(*state.parked, signal)), []


def _repeat(state: State, signal: Repeat) -> Next:
    """Give the floor to what was said last; a prompt that nobody heard yet comes after it."""
    yielded, effects = _yield_floor(state)
    let_go = [Resume()] if state.mode is Mode.INTERRUPT else []
    return _free(yielded, Mode.IDLE), [*_drop_rival(state), *effects, *let_go, SayAgain(signal.source)]


def _turn_volume(state: State, signal: VolumeTurned) -> Next:
    return state, [ChangeVolume(signal.steps, audibly=state.mode is Mode.IDLE)]


def _why_muted(state: State) -> Notice:
    return Notice.SWITCHED_OFF if Muter.SWITCH in state.mutes else Notice.IS_MUTED


def _toggle_mute(state: State, _: MuteToggled) -> Next:
    if state.held and state.turn is not None:  # who speaks while they hold the button wants to be heard
        return state, []
    after, effects = _mute(state, MuteSet(not state.muted))
    if after.muted is state.muted:
        return after, effects
    return after, [*effects, Tell(Notice.MUTED if after.muted else Notice.UNMUTED)]


def _mute(state: State, signal: MuteSet) -> Next:
    if not signal.muted and signal.by is not Muter.SWITCH and Muter.SWITCH in state.mutes:
        return state, [Tell(Notice.SWITCHED_OFF)]
    mutes = state.mutes | {signal.by} if signal.muted else state.mutes - {signal.by}
    switched = replace(state, muted=bool(mutes), mutes=mutes)
    if not switched.muted:
        return switched, []
    if state.mode is Mode.LISTENING:
        return _idle(switched, [Drop(state.turn)] if state.turn is not None else [])
    if state.mode is Mode.INTERRUPT:
        assert state.rival is not None
        return _keep_floor(switched, [Drop(state.rival)])
    return switched, []


def _beat(state: State, signal: Beat) -> Next:
    return state, [Alive(signal.taken)]


def _acted(state: State, signal: Acted) -> Next:
    return (replace(state, acted=True) if signal.turn == state.turn else state), []


def _ended(state: State, signal: TurnEnded) -> Next:
    """A turn that holds the floor ends outside SPEAKING: nothing (more) will be said, so come to rest."""
    recorded: list[Effect] = [Record(signal.turn)]
    return _idle(state, recorded) if signal.turn == state.turn else (state, recorded)


# ----------------------------------------------------------------------------------- rows of one mode


def _idle_prompt(state: State, signal: Prompt) -> Next:
    return _begin_prompt(state, signal, [])


def _idle_switch(state: State, signal: Switch) -> Next:
    return state, [_become(signal)]


def _idle_speech(state: State, signal: SpeechStarted) -> Next:
    return _begin_utterance(state, signal) if state.open and not state.muted else (state, [])


def _idle_timeout(state: State, signal: Timeout) -> Next:
    return _idle(state, []) if signal.wait == state.waits else (state, [])


def _listening_prompt(state: State, signal: Prompt) -> Next:
    """Who only waits for a follow-up is not busy; who was called, or hears someone, is."""
    return _park(state, signal) if state.called or state.turn is not None else _begin_prompt(state, signal, [])


def _listening_switch(state: State, signal: Switch) -> Next:
    return _park(state, signal) if state.turn is not None else (state, [_become(signal)])


def _listening_speech(state: State, signal: SpeechStarted) -> Next:
    return _begin_utterance(state, signal) if state.turn is None and not state.muted else (state, [])


def _listening_paused(state: State, _: SpeechPaused) -> Next:
    return state, [Anticipate(state.turn)] if state.turn is not None else []


def _listening_ended(state: State, _: SpeechEnded) -> Next:
    if state.turn is None:
        return state, []
    return replace(state, mode=Mode.THINKING, held=False), [Commit(state.turn)]


def _listening_misfired(state: State, _: Misfired) -> Next:
    if state.turn is None:
        return state, []
    dropped = replace(state, turn=None, call=state.call if state.called else 0)
    if state.called:
        return _await(dropped, Patience.CALLED, [Drop(state.turn)])
    return _await(dropped, Patience.FOLLOW_UP, [Drop(state.turn)])


def _listening_overheard(state: State, signal: Overheard) -> Next:
    if signal.turn != state.turn:
        return state, []
    return _listening_ended(state, SpeechEnded()) if signal.understood else _listening_misfired(state, Misfired())


def _listening_timeout(state: State, signal: Timeout) -> Next:
    over = state.turn is None and not state.held and signal.wait == state.waits
    return _idle(state, []) if over else (state, [])


def _listening_let_go(state: State, signal: LetGo) -> Next:
    """Who held the button to talk has finished; a word that was not noticed yet may still come."""
    if not state.held:
        return state, []
    free = replace(state, held=False)
    if state.turn is not None:
        return free, [Release(signal.talked)]
    return _await(free, Patience.LET_GO, []) if signal.talked else (free, [])


def _thinking_speech(state: State, signal: SpeechStarted) -> Next:
    if state.muted:
        return state, []
    joined = None if state.acted else state.turn
    return _doubt(replace(state, back=Mode.THINKING), signal, Hold(), joined)


def _thinking_sounds(state: State, signal: FirstSound) -> Next:
    sounding = replace(state, mode=Mode.SPEAKING, acted=True, called=False)
    return (sounding if signal.turn == state.turn else state), []


def _thinking_ended(state: State, signal: TurnEnded) -> Next:
    """Who was called and heard nothing but a cough listens once more: what was to be said is still to come."""
    if signal.turn != state.turn or not state.called or state.acted or state.parked or state.muted:
        return _ended(state, signal)
    return _await(_free(state, Mode.LISTENING), Patience.CALLED, [Record(signal.turn)])


def _speaking_speech(state: State, signal: SpeechStarted) -> Next:
    if state.muted:
        return state, []
    return _doubt(replace(state, back=Mode.SPEAKING), signal, Duck(), None)


def _speaking_ended(state: State, signal: TurnEnded) -> Next:
    if signal.turn != state.turn or state.parked or state.muted or not state.follows_up:
        return _ended(state, signal)
    return _await(_free(state, Mode.LISTENING), Patience.FOLLOW_UP, [Record(signal.turn)])


def _doubt_goes_on(state: State, _: SoundWentOn) -> Next:
    return state, [Hold()]


def _doubt_paused(state: State, _: SpeechPaused) -> Next:
    assert state.rival is not None
    return state, [Anticipate(state.rival)]


def _doubt_ended(state: State, _: SpeechEnded) -> Next:
    return replace(state, rival_ended=True), []


def _doubt_misfired(state: State, _: Misfired) -> Next:
    assert state.rival is not None
    return _keep_floor(state, [Drop(state.rival)])


def _doubt_speech(state: State, signal: SpeechStarted) -> Next:
    """More speech before the verdict on the last: hear both as one."""
    if state.muted:
        return state, []
    assert state.rival is not None
    rival = state.turns + 1
    later = replace(state, rival=rival, rival_ended=False, turns=rival)
    begun = Begin(rival, utterance=signal.utterance, joined=state.rival)
    return _tell_house(later, Kind.ENGAGED, signal.call, [begun, Drop(state.rival)])


def _doubt_taken(state: State, signal: FloorTaken) -> Next:
    if signal.turn != state.rival:
        return state, []
    return _give_floor(*_yield_floor(state))


def _doubt_kept(state: State, signal: FloorKept) -> Next:
    return _keep_floor(state, [Drop(signal.turn)]) if signal.turn == state.rival else (state, [])


def _doubt_sounds(state: State, signal: FirstSound) -> Next:
    return (replace(state, back=Mode.SPEAKING, acted=True) if signal.turn == state.turn else state), []


def _doubt_turn_ended(state: State, signal: TurnEnded) -> Next:
    recorded: list[Effect] = [Record(signal.turn)]
    if signal.turn == state.turn:
        return _give_floor(replace(state, turn=None), recorded)
    if signal.turn == state.rival:
        return _keep_floor(state, recorded)
    return state, recorded


Row = Callable[[State, Any], Next]

ANY_MODE: Mapping[type, Row] = {
    Wake: _wake,
    StandDown: _stand_down,
    Dismiss: _dismiss,
    Prompt: _park,
    Switch: _park,
    MuteSet: _mute,
    MuteToggled: _toggle_mute,
    Repeat: _repeat,
    VolumeTurned: _turn_volume,
    Acted: _acted,
    TurnEnded: _ended,
    Beat: _beat,
}

TABLE: Mapping[tuple[Mode, type], Row] = {
    (Mode.IDLE, Prompt): _idle_prompt,
    (Mode.IDLE, Switch): _idle_switch,
    (Mode.IDLE, SpeechStarted): _idle_speech,
    (Mode.IDLE, Timeout): _idle_timeout,
    (Mode.LISTENING, Prompt): _listening_prompt,
    (Mode.LISTENING, Switch): _listening_switch,
    (Mode.LISTENING, SpeechStarted): _listening_speech,
    (Mode.LISTENING, SpeechPaused): _listening_paused,
    (Mode.LISTENING, SpeechEnded): _listening_ended,
    (Mode.LISTENING, Misfired): _listening_misfired,
    (Mode.LISTENING, Overheard): _listening_overheard,
    (Mode.LISTENING, Timeout): _listening_timeout,
    (Mode.LISTENING, LetGo): _listening_let_go,
    (Mode.THINKING, SpeechStarted): _thinking_speech,
    (Mode.THINKING, FirstSound): _thinking_sounds,
    (Mode.THINKING, TurnEnded): _thinking_ended,
    (Mode.SPEAKING, SpeechStarted): _speaking_speech,
    (Mode.SPEAKING, TurnEnded): _speaking_ended,
    (Mode.INTERRUPT, SpeechStarted): _doubt_speech,
    (Mode.INTERRUPT, SpeechPaused): _doubt_paused,
    (Mode.INTERRUPT, SpeechEnded): _doubt_ended,
    (Mode.INTERRUPT, Misfired): _doubt_misfired,
    (Mode.INTERRUPT, SoundWentOn): _doubt_goes_on,
    (Mode.INTERRUPT, FloorTaken): _doubt_taken,
    (Mode.INTERRUPT, FloorKept): _doubt_kept,
    (Mode.INTERRUPT, FirstSound): _doubt_sounds,
    (Mode.INTERRUPT, TurnEnded): _doubt_turn_ended,
}
