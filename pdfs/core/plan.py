"""A plan: what a committed publish still has to do to the plain objects.

`plans/{fence}-{id}.json.gz`, a gzip of one JSON object:

    schema     1
    publish    its own name: `{fence}-{id}`
    session, run, user, machine, time     who committed it, and when
    puts       [{path, size, digest, parts, packed, mtime, expect, conflict, aside}]
    deletes    [{path, expect}]

`expect` is the ETag of the object whose bytes the user was served or that the same session put
there; a put without it expects no object. Where another is found, it stays, and the content goes
to `conflict`, a free name beside it. A put that can't be done because a key above or below it is
in the way goes to `aside`, a free name in the top directory.

Order: deletes of keys above or below a put's key, then all puts, then the other deletes. Within a
round steps commute. Each step can be done twice: an object with the size of a put and the metadata
that it gives, this publish's name among them, is that step's own. No step reads a key that the plan
changes: every put reads contents objects.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pdfs.core import document
from pdfs.core.content import Content, ETag, Plain, content_fields
from pdfs.core.document import Malformed, Reader
from pdfs.core.entries import Entry
from pdfs.core.ids import Path, PublishId, RunId, SessionId
from pdfs.core.keys import COMPONENT_LIMIT, ancestors, join, leaf, parent, why_no_file
from pdfs.core.manifest import Manifest, content_in

SCHEMA = 1
_WHO_LIMIT = 64
"""Bytes of a conflict copy's name that say who and where: time and number always fit behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """Make the plain object of `path` hold `content`."""

    path: Path
    content: Content
    mtime: int
    """ns since 1970, for other tools."""
    expect: ETag | None
    conflict: Path
    aside: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Remove the plain object of `path`."""

    path: Path
    expect: ETag


Step = Put | Delete


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The steps of one publish, and who committed them."""

    publish: PublishId
    session: SessionId
    run: RunId
    user: str
    machine: str
    time: float
    puts: tuple[Put, ...]
    deletes: tuple[Delete, ...]

    @property
    def has_steps(self) -> bool:
        """Whether there is anything to apply."""
        return bool(self.puts or self.deletes)

    @property
    def steps(self) -> tuple[Step, ...]:
        """All of them, in no order."""
        return (*self.puts, *self.deletes)

    def rounds(self) -> tuple[Sequence[Step], ...]:
        """The steps in the order that they must take; those of one round commute."""
        paths = {put.path for put in self.puts}
        above = {directory for path in paths for directory in ancestors(path)}
        clearing = [
            step
            for step in self.deletes
            if step.path in above or not paths.isdisjoint(ancestors(step.path))
        ]
        cleared = {step.path for step in clearing}
        return clearing, self.puts, [step for step in self.deletes if step.path not in cleared]


@dataclass(slots=True, kw_only=True)
class ConflictNames:
    """Chooses names for conflict copies: free ones, told apart by who, where and when.

    A name that was given out is added to `taken`, so that it isn't given twice.
    """

    user: str
    machine: str
    time: float
    taken: set[Path]
    is_visible: Callable[[Path], bool]
    _numbers: dict[tuple[Path, str], int] = field(default_factory=dict, init=False)
    """Of directory and name: the number that was given last. Those below stay taken."""

    def beside(self, path: Path) -> Path:
        """`dir/name (conflict anna ws7 2026-11-22 14.03).dwg` for `dir/name.dwg`."""
        return self._free(parent(path), leaf(path))

    def on_top(self, path: Path) -> Path:
        """The same in the stage's top directory."""
        return self._free(Path(""), leaf(path))

    def _free(self, directory: Path, name: str) -> Path:
        moment = datetime.fromtimestamp(self.time, UTC).strftime("%Y-%m-%d %H.%M")
        mark, number = _mark(self.user, self.machine), self._numbers.get((directory, name), 0)
        while True:
            number += 1
            label = f"{mark}{moment}{f' {number}' if number > 1 else ''})"
            found = join(directory, _labelled(name, label))
            if not self.is_visible(found):
                short = join(directory, _labelled(name[:1], label))
                found = short if self.is_visible(short) else found
            if found not in self.taken:
                self.taken.add(found)
                self._numbers[directory, name] = number
                return found


def is_conflict_copy(name: str, user: str, machine: str) -> bool:
    """Whether this is how a conflict copy of that user's file, made on that machine, is called."""
    return _mark(user, machine) in name


def _mark(user: str, machine: str) -> str:
    who = _cut(f"{user} {machine}".replace("/", "-"), _WHO_LIMIT)
    return f" (conflict {who} "


def _labelled(name: str, label: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    if not stem or suffix.endswith(")"):  # such as the end of another conflict copy's label
        stem, dot, suffix = name, "", ""
    tail = _cut(label, COMPONENT_LIMIT // 2) + _cut(dot + suffix, 32)
    return _cut(stem, COMPONENT_LIMIT - len(tail.encode("utf-8", "surrogateescape"))) + tail


def _cut(text: str, limit: int) -> str:
    """The longest beginning of `text` that has at most `limit` bytes."""
    encoded = text.encode("utf-8", "surrogateescape")
    if len(encoded) <= limit:
        return text
    return encoded[:limit].decode("utf-8", "ignore")


def plan_of(
    manifest: Manifest,
    known: Mapping[Path, Content],
    *,
    publish: PublishId,
    session: SessionId,
    run: RunId,
    user: str,
    machine: str,
    is_visible: Callable[[Path], bool],
) -> Plan:
    """The plan of the publish that made `manifest`; `known` as for `plan_steps`."""
    names = ConflictNames(
        user=user,
        machine=machine,
        time=manifest.time,
        taken={entry.path for entry in manifest.entries} | set(known),
        is_visible=is_visible,
    )
    puts, deletes = plan_steps(manifest.entries, known, names=names, is_visible=is_visible)
    return Plan(
        publish=publish,
        session=session,
        run=run,
        user=user,
        machine=machine,
        time=manifest.time,
        puts=puts,
        deletes=deletes,
    )


def plan_steps(
    entries: Iterable[Entry],
    known: Mapping[Path, Content],
    *,
    names: ConflictNames,
    is_visible: Callable[[Path], bool],
) -> tuple[tuple[Put, ...], tuple[Delete, ...]]:
    """What makes the plain objects, of which `known` is known, those of `entries`.

    An entry that has an ETag is in place already. `known` holds, for each path, the content of its
    plain object as this session was served or put it. An object that may be all that is left of an
    entry which could not be made whole is not deleted.
    """
    entries = tuple(entries)
    left = {
        home for entry in entries if entry.lost and entry.content for home in entry.content.plain
    }
    files = {entry.path: entry for entry in entries if entry.content is not None}
    puts = tuple(
        Put(
            path=path,
            content=entry.content,
            mtime=entry.mtime,
            expect=known[path].etag_at(path) if path in known else None,
            conflict=names.beside(path),
            aside=names.on_top(path),
        )
        for path, entry in files.items()
        if entry.content is not None and entry.etag is None and not entry.lost and is_visible(path)
    )
    deletes = tuple(
        Delete(path=path, expect=etag)
        for path, content in sorted(known.items())
        if path not in files
        and (etag := content.etag_at(path)) is not None
        and Plain(path, etag) not in left
    )
    return puts, deletes


# --- bytes ------------------------------------------------------------------------------------


def encode(plan: Plan) -> bytes:
    """The bytes of a plan."""
    return document.pack(
        {
            "schema": SCHEMA,
            "publish": plan.publish,
            "session": plan.session,
            "run": plan.run,
            "user": plan.user,
            "machine": plan.machine,
            "time": plan.time,
            "puts": (
                {
                    "path": put.path,
                    **content_fields(put.content),
                    "mtime": put.mtime,
                    "expect": put.expect,
                    "conflict": put.conflict,
                    "aside": put.aside,
                }
                for put in plan.puts
            ),
            "deletes": ({"path": step.path, "expect": step.expect} for step in plan.deletes),
        }
    )


def decode(key: str, body: bytes) -> Plan:
    """The plan in `body`. Raises ObjectDamaged, naming `key`, for anything else."""
    reader = document.unpack(key, body, schema=SCHEMA)
    try:
        return Plan(
            publish=PublishId(reader.object_name("publish")),
            session=SessionId(reader.text("session")),
            run=RunId(reader.text("run")),
            user=reader.text("user"),
            machine=reader.text("machine"),
            time=reader.number("time"),
            puts=tuple(_put_in(item) for item in reader.items("puts")),
            deletes=tuple(_delete_in(item) for item in reader.items("deletes")),
        )
    except Malformed as error:
        raise document.damaged(key, error) from error


def _put_in(item: Any) -> Put:
    reader = Reader(item)
    return Put(
        path=_path(reader, "path"),
        content=content_in(reader),
        mtime=reader.time("mtime"),
        expect=ETag(reader.text("expect")) if reader.has("expect") else None,
        conflict=_path(reader, "conflict"),
        aside=_path(reader, "aside"),
    )


def _delete_in(item: Any) -> Delete:
    reader = Reader(item)
    return Delete(path=_path(reader, "path"), expect=ETag(reader.text("expect")))


def _path(reader: Reader, name: str) -> Path:
    path = reader.text(name)
    why = why_no_file(path)
    if why is not None:
        raise Malformed(f"{name!r} is {path!r}, which can't be a path: {why}")
    return Path(path)
