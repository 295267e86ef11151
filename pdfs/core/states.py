"""The states of a session, as a table: an illegal event raises and changes nothing.

    IDLE → ACQUIRING → DOWNLOADING → ACTIVE → UPLOADING → CLOSED
                     ↘ RESTORING  ↗     ↓
                                     RECOVERING → CLOSED

A lost lock is a flag, not a state.
"""

from enum import StrEnum

from pdfs.errors import SessionError


class State(StrEnum):
    """Where a session is in its life."""

    IDLE = "IDLE"
    ACQUIRING = "ACQUIRING"
    DOWNLOADING = "DOWNLOADING"
    """The lock is held; until root and tree are read and the mount answers."""
    RESTORING = "RESTORING"
    """The same for a session that crashed and is resumed."""
    ACTIVE = "ACTIVE"
    UPLOADING = "UPLOADING"
    """From the unmount, or the call to publish, until nothing is unpublished."""
    RECOVERING = "RECOVERING"
    """Crash hooks seal the journal."""
    CLOSED = "CLOSED"


class Event(StrEnum):
    """What moves a session on."""

    OPENED = "opened"
    STARTED = "started"
    RESUMED = "resumed"
    SERVED = "served"
    PUBLISHING = "publishing"
    PUBLISHED = "published"
    RELEASED = "released"
    REFUSED = "refused"
    CRASHED = "crashed"
    SEALED = "sealed"
    ABORTED = "aborted"


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.IDLE, Event.OPENED): State.ACQUIRING,
    (State.ACQUIRING, Event.STARTED): State.DOWNLOADING,
    (State.ACQUIRING, Event.RESUMED): State.RESTORING,
    (State.ACQUIRING, Event.REFUSED): State.CLOSED,
    (State.DOWNLOADING, Event.SERVED): State.ACTIVE,
    (State.DOWNLOADING, Event.RELEASED): State.CLOSED,
    (State.RESTORING, Event.SERVED): State.ACTIVE,
    (State.RESTORING, Event.PUBLISHING): State.UPLOADING,
    (State.RESTORING, Event.RELEASED): State.CLOSED,
    (State.ACTIVE, Event.PUBLISHING): State.UPLOADING,
    (State.UPLOADING, Event.PUBLISHED): State.ACTIVE,
    (State.UPLOADING, Event.RELEASED): State.CLOSED,
    (State.RECOVERING, Event.SEALED): State.CLOSED,
} | {
    (state, event): target
    for event, target in ((Event.CRASHED, State.RECOVERING), (Event.ABORTED, State.CLOSED))
    for state in State
    if state not in {State.RECOVERING, State.CLOSED}
}


def next_state(state: State, event: Event) -> State:
    """The state that follows. Raises SessionError for an event that is illegal in `state`."""
    following = TRANSITIONS.get((state, event))
    if following is None:
        raise SessionError(f"a session that is {state} can't be {event}; nothing was changed")
    return following
