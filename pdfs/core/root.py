"""The root: the one small object whose compare-and-swap is the commit point of a stage.

`root.json`, a JSON object:

    schema       1
    id           fresh in every write, so that no two versions have equal bytes or ETags
    generation   of `tree`; 0 while nothing was published
    fence        of the Start that wrote it, or that its writer holds
    session      the session that holds this fence
    run          the process that holds this fence
    tree         name of the current manifest, or null
    plan         name of the plan that is still to be applied, or null
    sessions     every session that has not ended: {session, user, machine, fences, base,
                 last: {generation, publish, tree, sequence} or null, unpublished: {files, bytes}}
    restored     {fence, until} where a repair has made the root anew, else absent; see `Restored`
"""

from dataclasses import dataclass, replace
from typing import Any

from pdfs.core import document
from pdfs.core.document import Malformed, Reader
from pdfs.core.ids import MOST_FENCE, Fence, ObjectName, PublishId, RunId, Sequence, SessionId
from pdfs.core.lease import Unpublished

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LastPublish:
    """The newest commit of a session: what its journal says up to `sequence` is in `tree`."""

    generation: int
    publish: PublishId
    tree: ObjectName
    sequence: Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEntry:
    """A session that has not ended, as everybody can see it."""

    session: SessionId
    user: str
    machine: str
    fences: tuple[Fence, ...]
    base: ObjectName | None
    """The manifest that it was mounted from."""
    last: LastPublish | None = None
    unpublished: Unpublished = Unpublished()


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """The root was made anew: what was written before may be needed by whom it doesn't know."""

    fence: Fence
    """All that was written before has a lower one."""
    until: float
    """How long it is kept, in seconds since 1970 by the store's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """The current generation of a stage, and who may make the next one."""

    id: str
    generation: int
    fence: Fence
    session: SessionId
    run: RunId
    tree: ObjectName | None
    plan: ObjectName | None
    sessions: tuple[SessionEntry, ...]
    restored: Restored | None = None

    def entry(self, session: SessionId) -> SessionEntry | None:
        """The session's entry, if it has not ended."""
        return next((entry for entry in self.sessions if entry.session == session), None)

    def has_ended(self, session: SessionId, fence: Fence) -> bool:
        """Whether the session that took the lock with `fence` has left nothing to protect.

        A Start enters its session before anything is served, and under a fence above all before;
        an entry goes only when all is published or discarded. So a lock whose fence the root has
        reached, of a session that it doesn't list, is an echo: a write to it that arrived late.
        """
        return fence <= self.fence and self.entry(session) is None

    def with_entry(self, entry: SessionEntry) -> "Root":
        """The same root where `entry` replaces the one of its session, or is added."""
        others = [other for other in self.sessions if other.session != entry.session]
        return replace(self, sessions=(*others, entry))

    def without_entry(self, session: SessionId) -> "Root":
        """The same root where this session has ended."""
        others = tuple(other for other in self.sessions if other.session != session)
        return replace(self, sessions=others)


def encode(root: Root) -> bytes:
    """The bytes of a root."""
    return document.render(
        {
            "schema": SCHEMA,
            "id": root.id,
            "generation": root.generation,
            "fence": root.fence,
            "session": root.session,
            "run": root.run,
            "tree": root.tree,
            "plan": root.plan,
            "sessions": [_entry_out(entry) for entry in root.sessions],
            **_restored_out(root.restored),
        }
    )


def _restored_out(restored: Restored | None) -> dict[str, object]:
    if restored is None:
        return {}
    return {"restored": {"fence": restored.fence, "until": restored.until}}


def _entry_out(entry: SessionEntry) -> dict[str, object]:
    last = entry.last
    return {
        "session": entry.session,
        "user": entry.user,
        "machine": entry.machine,
        "fences": list(entry.fences),
        "base": entry.base,
        "last": None
        if last is None
        else {
            "generation": last.generation,
            "publish": last.publish,
            "tree": last.tree,
            "sequence": last.sequence,
        },
        "unpublished": {"files": entry.unpublished.files, "bytes": entry.unpublished.bytes},
    }


def decode(key: str, body: bytes) -> Root:
    """The root in `body`. Raises ObjectDamaged, naming `key`, for anything else."""
    try:
        reader = document.parse(body, schema=SCHEMA)
        return Root(
            id=reader.text("id"),
            generation=reader.whole("generation"),
            fence=_fence(reader.whole("fence")),
            session=SessionId(reader.text("session")),
            run=RunId(reader.text("run")),
            tree=_name(reader, "tree"),
            plan=_name(reader, "plan"),
            sessions=tuple(_entry_in(item) for item in reader.items("sessions")),
            restored=_restored_in(reader.child("restored")) if reader.has("restored") else None,
        )
    except Malformed as error:
        raise document.damaged(key, error) from error


def _entry_in(item: Any) -> SessionEntry:
    reader = Reader(item)
    counted = reader.child("unpublished")
    return SessionEntry(
        session=SessionId(reader.text("session")),
        user=reader.text("user"),
        machine=reader.text("machine"),
        fences=tuple(_fence(fence) for fence in reader.items("fences")),
        base=_name(reader, "base"),
        last=_last_in(reader.child("last")) if reader.has("last") else None,
        unpublished=Unpublished(files=counted.whole("files"), bytes=counted.whole("bytes")),
    )


def _restored_in(reader: Reader) -> Restored:
    return Restored(fence=_fence(reader.whole("fence")), until=reader.number("until"))


def _last_in(reader: Reader) -> LastPublish:
    return LastPublish(
        generation=reader.whole("generation", least=1),
        publish=PublishId(reader.object_name("publish")),
        tree=reader.object_name("tree"),
        sequence=Sequence(reader.whole("sequence")),
    )


def _fence(value: object) -> Fence:
    if type(value) is not int or not 1 <= value <= MOST_FENCE:
        raise Malformed(f"{value!r} is not a fence")
    return Fence(value)


def _name(reader: Reader, name: str) -> ObjectName | None:
    return reader.object_name(name) if reader.has(name) else None
