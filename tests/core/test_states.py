"""The states of a session: every pair of state and event, and the paths that users know."""

from itertools import product

import pytest

from pdfs.core.states import TRANSITIONS, Event, State, next_state
from pdfs.errors import SessionError

PATHS = {
    "an ordinary session": "opened started served publishing released: CLOSED",
    "a publish without unmount": "opened started served publishing published publishing: UPLOADING",
    "a resume with a mount": "opened resumed served publishing released: CLOSED",
    "a resume without a mount": "opened resumed publishing released: CLOSED",
    "a resume of what is published already": "opened resumed released: CLOSED",
    "a lock that another holds": "opened refused: CLOSED",
    "a crash": "opened started served crashed sealed: CLOSED",
    "a crash amid the upload": "opened started served publishing crashed sealed: CLOSED",
    "an abort": "opened started served aborted: CLOSED",
    "an abort while the lock is asked for": "opened aborted: CLOSED",
}


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_a_session_can_go(path: str) -> None:
    events, end = path.split(": ")
    state = State.IDLE
    for event in events.split():
        state = next_state(state, Event(event))
    assert state is State(end)


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_an_event_leads_where_the_table_says_or_is_refused_in_words(
    state: State, event: Event
) -> None:
    if (state, event) in TRANSITIONS:
        assert next_state(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(SessionError, match=f"{state} can't be {event}"):
            next_state(state, event)


def test_a_closed_session_stays_closed_and_every_other_state_can_be_left() -> None:
    assert not [event for state, event in TRANSITIONS if state is State.CLOSED]
    assert {state for state, _ in TRANSITIONS} == set(State) - {State.CLOSED}


def test_every_open_state_can_crash_or_be_aborted() -> None:
    for state in set(State) - {State.RECOVERING, State.CLOSED}:
        assert next_state(state, Event.CRASHED) is State.RECOVERING
        assert next_state(state, Event.ABORTED) is State.CLOSED


def test_only_a_session_that_got_the_lock_is_ever_released() -> None:
    releasing = {state for state, event in TRANSITIONS if event is Event.RELEASED}
    assert releasing == {State.DOWNLOADING, State.RESTORING, State.UPLOADING}
