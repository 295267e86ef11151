"""What can happen to a stage in the bucket: each by itself, and what a look must make of it."""

import gzip
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import md5

from pdfs.core import root as core_root
from pdfs.core.content import ETag
from pdfs.core.entries import Entry
from pdfs.core.finding import Level
from pdfs.core.ids import Fence, ObjectName, Path, PublishId, Sequence, SessionId
from pdfs.core.manifest import Manifest, relinked
from pdfs.core.root import LastPublish, SessionEntry
from pdfs.store.faulty import Fate, Request
from pdfs.store.memory import StoredObject, _Upload
from pdfs.store.objects import UploadId
from pdfs.store.step import Step
from tests.simulation.machine import EPOCH, Machine
from tests.stage.stages import BIG, FILES, HIDDEN, LINKED, OTHER, SMALL, Stage

FOREIGN, LEFTOVER, WAITING = Level.FOREIGN, Level.LEFTOVER, Level.WAITING
_UNIQUE = "f" * 32
_SMALL_FILES = {SMALL, LINKED, OTHER, HIDDEN}


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One of them."""

    inject: Callable[[Stage], None]
    kind: str
    level: Level = Level.DAMAGE
    named: str = ""
    """What the path or key of a finding ends in."""
    lost: set[Path] = field(default_factory=set)
    """Files whose bytes are nowhere then."""
    is_repairable: bool = True
    """Whether it is gone after a repair; what it took may be named as lost."""
    is_amid_publish: bool = False
    """It happens to a stage whose publish was cut short."""
    is_undone: bool = False
    """That publish is not in the stage then: its session has it, and publishes it when resumed."""
    is_taken_in: bool = False
    """The file is another tool's from then on."""


# --- how ----------------------------------------------------------------------------------------


def _half(body: bytes) -> bytes:
    return body[: len(body) // 2]


def _flipped(at: int = 0) -> Callable[[bytes], bytes]:
    def flip(body: bytes) -> bytes:
        there = at % len(body)
        return body[:there] + bytes([body[there] ^ 1]) + body[there + 1 :]

    return flip


def _empty(_: bytes) -> bytes:
    return b""


def _garbage(_: bytes) -> bytes:
    return b"<html>404</html>"


Change = Callable[[bytes], bytes] | None


def _harm(stage: Stage, key: str, change: Change) -> None:
    if change is None:
        stage.remove(key)
    else:
        stage.change(key, change)


def root(change: Change) -> Callable[[Stage], None]:
    return lambda stage: _harm(stage, stage.world.keys.root, change)


def tree(change: Change) -> Callable[[Stage], None]:
    return lambda stage: _harm(stage, stage.world.keys.tree(_tree(stage)), change)


def plan(change: Change) -> Callable[[Stage], None]:
    return lambda stage: _harm(stage, stage.world.keys.plan(_plan(stage)), change)


def plain(path: Path, change: Change) -> Callable[[Stage], None]:
    return lambda stage: _harm(stage, stage.world.keys.plain(path), change)


def contents(path: Path, change: Change) -> Callable[[Stage], None]:
    return lambda stage: _harm(stage, stage.content_key(path), change)


def both(*harms: Callable[[Stage], None]) -> Callable[[Stage], None]:
    def inject(stage: Stage) -> None:
        for harm in harms:
            harm(stage)

    return inject


def _tree(stage: Stage) -> ObjectName:
    assert stage.root.tree is not None
    return stage.root.tree


def _plan(stage: Stage) -> ObjectName:
    assert stage.root.plan is not None
    return stage.root.plan


def _stored(body: bytes) -> StoredObject:
    return StoredObject(
        body=body,
        etag=ETag(md5(body).hexdigest()),
        last_modified=EPOCH,
        content_type="",
        metadata={},
    )


# --- what ---------------------------------------------------------------------------------------


def _older_root(stage: Stage) -> None:
    """The root of a backup, from before the last publish."""
    key = stage.world.keys.root
    roots = [c.stored for c in stage.world.store.history if c.key == key and c.stored]
    before = [root for root in roots if core_root.decode(key, root.body).fence == 1]
    stage.put(key, before[-1])


def _newer_root(stage: Stage) -> None:
    stage.change(stage.world.keys.root, lambda body: re.sub(rb'("schema": *)1', rb"\g<1>2", body))


def _older_tree(stage: Stage) -> None:
    """Where the current tree should be, lies that of the generation before."""
    older = stage.tree
    while older.generation == stage.root.generation:
        assert older.predecessor is not None
        key = stage.world.keys.tree(older.predecessor)
        body = stage.world.store.objects[key].body
        older = stage.world.manifest(replace(stage.root, tree=older.predecessor))
    stage.change(stage.world.keys.tree(_tree(stage)), lambda _: body)


def _predecessor(stage: Stage) -> None:
    name = stage.tree.predecessor
    assert name is not None
    stage.remove(stage.world.keys.tree(name))


def _committed_cut(stage: Stage) -> None:
    name = stage.tree.predecessor
    assert name is not None
    stage.change(stage.world.keys.tree(name), _half)


def _newer_tree(stage: Stage) -> None:
    key = stage.world.keys.tree(_tree(stage))

    def newer(body: bytes) -> bytes:
        text = re.sub(rb'("schema": *)2', rb"\g<1>3", gzip.decompress(body))
        return gzip.compress(text)

    stage.change(key, newer)


def _without(folder: str) -> Callable[[Stage], None]:
    def inject(stage: Stage) -> None:
        for key in [key for key in stage.world.store.objects if folder in key]:
            stage.remove(key)

    return inject


def _session(*, base: ObjectName | None, committed: ObjectName | None) -> Callable[[Stage], None]:
    """A session that has not ended, one of whose trees is not there."""

    def inject(stage: Stage) -> None:
        last = None
        if committed is not None:
            publish = PublishId(committed)
            last = LastPublish(generation=1, publish=publish, tree=committed, sequence=Sequence(1))
        entry = SessionEntry(
            session=SessionId("5" * 32),
            user="bert",
            machine="ws2",
            fences=(Fence(1),),
            base=base or _tree(stage),
            last=last,
        )
        stage.rewrite_root(sessions=(entry,))

    return inject


def _other_plan(stage: Stage) -> None:
    """The plan of an earlier publish."""
    key = stage.world.keys.plan(_plan(stage))
    others = [k for k in stage.world.store.objects if "/plans/" in k and k != key]
    body = stage.world.store.objects[others[0]].body
    stage.change(key, lambda _: body)


def _old_plan_cut(stage: Stage) -> None:
    key = min(key for key in stage.world.store.objects if "/plans/" in key)
    stage.change(key, _half)


def _hidden_alone(stage: Stage) -> None:
    stage.change(stage.content_key(HIDDEN), lambda body: _swapped(body, FILES[HIDDEN]))


def _kept_alone(stage: Stage) -> None:
    (kept,) = stage.tree.kept.values()
    at = kept.content.packed[0].offset
    stage.change(stage.world.keys.content(kept.content.packed[0].name), _flipped(at))


def _swapped(body: bytes, data: bytes) -> bytes:
    at = body.index(data)
    return body[:at] + data[::-1] + body[at + len(data) :]


def _without_plain(stage: Stage) -> None:
    """The tree says that there is none, and no plan that one is to be made."""

    def unput(manifest: Manifest) -> Manifest:
        return replace(manifest, entries=relinked(manifest.entries, {OTHER: None}))

    stage.rewrite_tree(unput)
    stage.remove(stage.world.keys.plain(OTHER))


def _set_aside(stage: Stage) -> None:
    """A publish was ended without the file: an older object is still in its place."""
    _without_plain(stage)
    older = _stored(b"as it was")
    _new(lambda stage: stage.world.keys.plain(OTHER), older.body)(stage)
    stage.rewrite_tree(lambda tree: replace(tree, aside={OTHER: older.etag}))


def _theirs_in_place(stage: Stage) -> None:
    _without_plain(stage)
    _new(lambda stage: stage.world.keys.plain(OTHER), b"theirs")(stage)


def _called_lost(stage: Stage) -> None:
    def lose(entry: Entry) -> Entry:
        return replace(entry, lost=entry.path == OTHER)

    stage.rewrite_tree(lambda tree: replace(tree, entries=tuple(map(lose, tree.entries))))
    _without_plain(stage)


def new(key: str, body: bytes = b"?") -> Callable[[Stage], None]:
    """Something that lies at a key."""
    return _new(lambda stage: key, body)


def _internal(folder: str, body: bytes) -> Callable[[Stage], None]:
    def inject(stage: Stage) -> None:
        suffix = "" if folder == "contents" else ".json.gz"
        key = f"{stage.world.keys.internal_prefix}{folder}/000000000001-{_UNIQUE}{suffix}"
        stage.put(key, _stored(body))
        stage.world.store._keys = sorted(stage.world.store._objects)

    return inject


def _new(key: Callable[[Stage], str], body: bytes) -> Callable[[Stage], None]:
    def inject(stage: Stage) -> None:
        stage.put(key(stage), _stored(body))
        stage.world.store._keys = sorted(stage.world.store._objects)

    return inject


def _upload(stage: Stage) -> None:
    key = f"{stage.world.keys.internal_prefix}contents/000000000001-{_UNIQUE}"
    _begin_upload(stage, key, EPOCH)


def _plain_upload(stage: Stage) -> None:
    """As a process left it that was killed while it put the big file."""
    put = stage.world.store.objects[stage.world.keys.plain(BIG)]
    _begin_upload(stage, stage.world.keys.plain(BIG), put.last_modified)


def _begin_upload(stage: Stage, key: str, initiated: float) -> None:
    stage.world.store._uploads[UploadId("dead")] = _Upload(
        key=key, content_type="", metadata={}, initiated=initiated, parts={1: b"part"}
    )


def cut_short(machine: Machine, request: Request) -> Fate:
    """The process dies before the first step of its plan."""
    return Fate.CRASH_BEFORE if request.step is Step.APPLY_PUT else Fate.FINE


def _torn_lock(stage: Stage) -> None:
    _new(lambda stage: stage.world.keys.lock, b'{"user": "an')(stage)


GONE = ObjectName(f"000000000001-{_UNIQUE}")

DAMAGES = {
    # --- the root
    "the root is gone": Damage(inject=root(None), kind="root"),
    "the root is cut short": Damage(inject=root(_half), kind="root"),
    "the root is empty": Damage(inject=root(_empty), kind="root"),
    "the root is something else": Damage(inject=root(_garbage), kind="root"),
    "the root is of a newer schema": Damage(inject=_newer_root, kind="root", is_repairable=False),
    "an older root was put back": Damage(inject=_older_root, kind="old-root", is_repairable=False),
    # --- trees
    "the tree is gone": Damage(inject=tree(None), kind="tree"),
    "the tree is cut short": Damage(inject=tree(_half), kind="tree"),
    "the tree is empty": Damage(inject=tree(_empty), kind="tree"),
    "the tree has a flipped bit": Damage(inject=tree(_flipped(60)), kind="tree"),
    "the tree is something else": Damage(inject=tree(lambda _: gzip.compress(b"[]")), kind="tree"),
    "the tree is an older one": Damage(inject=_older_tree, kind="tree"),
    "the tree is gone, as settled and as committed": Damage(
        inject=both(_predecessor, tree(None)), kind="tree"
    ),
    "the tree is cut short, as settled and as committed": Damage(
        inject=both(_committed_cut, tree(_half)), kind="tree"
    ),
    "the tree is for a newer PDFS": Damage(inject=_newer_tree, kind="tree", is_repairable=False),
    "every tree is gone": Damage(
        inject=_without("/trees/"), kind="tree", named=".json.gz", is_repairable=False
    ),
    "root and tree are gone": Damage(inject=both(tree(None), root(None)), kind="root"),
    "the root and the last generation are gone": Damage(
        inject=both(_predecessor, tree(None), root(None)), kind="root"
    ),
    "root and trees are gone": Damage(
        inject=both(_without("/trees/"), root(None)), kind="root", is_repairable=False
    ),
    "the root is gone amid a publish": Damage(inject=root(None), kind="root", is_amid_publish=True),
    "the tree is gone amid a publish": Damage(
        inject=tree(None), kind="tree", is_amid_publish=True, is_undone=True
    ),
    "the tree before is gone": Damage(inject=_predecessor, kind="tree", is_repairable=False),
    "the base of a session is gone": Damage(
        inject=_session(base=GONE, committed=None),
        kind="tree",
        named=GONE + ".json.gz",
        is_repairable=False,
    ),
    "the committed tree of a session is gone": Damage(
        inject=_session(base=None, committed=GONE),
        kind="tree",
        named=GONE + ".json.gz",
        is_repairable=False,
    ),
    # --- the plan
    "the plan is gone": Damage(inject=plan(None), kind="plan", is_amid_publish=True),
    "the plan is cut short": Damage(inject=plan(_half), kind="plan", is_amid_publish=True),
    "the plan is empty": Damage(inject=plan(_empty), kind="plan", is_amid_publish=True),
    "the plan has a flipped bit": Damage(
        inject=plan(_flipped(60)), kind="plan", is_amid_publish=True
    ),
    "the plan is another publish's": Damage(inject=_other_plan, kind="plan", is_amid_publish=True),
    "the plan of an earlier publish is cut short": Damage(
        inject=_old_plan_cut, kind="old-plan", named=".json.gz", is_repairable=False
    ),
    "what the plan is to put is gone": Damage(
        inject=contents(SMALL, None),
        kind="lost",
        named=SMALL,
        lost={SMALL, LINKED},
        is_amid_publish=True,
    ),
    # --- contents objects
    "a contents object is gone": Damage(
        inject=contents(OTHER, None), kind="content", named=OTHER, lost={HIDDEN}
    ),
    "a contents object is cut short": Damage(
        inject=contents(OTHER, lambda body: body[:1]), kind="content", named=OTHER, lost={HIDDEN}
    ),
    "a contents object is empty": Damage(
        inject=contents(OTHER, _empty), kind="content", named=OTHER, lost={HIDDEN}
    ),
    "a contents object has a flipped bit": Damage(
        inject=contents(OTHER, _flipped(0)), kind="content", named=SMALL
    ),
    "a contents object is something else": Damage(
        inject=contents(OTHER, lambda body: bytes(len(body))),
        kind="content",
        named=OTHER,
        lost={HIDDEN},
    ),
    "the contents object of a big file is gone": Damage(
        inject=contents(BIG, None), kind="content", named=BIG
    ),
    "the contents object of a big file lacks its last byte": Damage(
        inject=contents(BIG, lambda body: body[:-1]), kind="content", named=BIG
    ),
    "the contents object of a big file has a flipped bit in its last part": Damage(
        inject=contents(BIG, _flipped(-1)), kind="content", named=BIG
    ),
    "the only place of a file has other bytes": Damage(
        inject=_hidden_alone, kind="lost", named=HIDDEN, lost={HIDDEN}
    ),
    "the only place of what was replaced has other bytes": Damage(
        inject=_kept_alone, kind="kept", is_repairable=False
    ),
    # --- plain objects
    "a plain object has a flipped bit": Damage(
        inject=plain(OTHER, _flipped()), kind="plain", named=OTHER
    ),
    "a plain object is cut short": Damage(inject=plain(OTHER, _half), kind="plain", named=OTHER),
    "a plain object is empty": Damage(inject=plain(OTHER, _empty), kind="plain", named=OTHER),
    "a plain object is longer": Damage(
        inject=plain(OTHER, lambda body: body + b"\0"), kind="plain", named=OTHER
    ),
    "a big plain object has a flipped bit in its last part": Damage(
        inject=plain(BIG, _flipped(-1)), kind="plain", named=BIG
    ),
    "the plain object of one of two names has a flipped bit": Damage(
        inject=plain(LINKED, _flipped()), kind="plain", named=LINKED
    ),
    "a plain object and its contents object have other bytes": Damage(
        inject=both(plain(BIG, _flipped()), contents(BIG, _flipped())),
        kind="lost",
        named=BIG,
        lost={BIG},
    ),
    "a plain object has other bytes and its contents object is gone": Damage(
        inject=both(plain(OTHER, _flipped()), contents(OTHER, None)),
        kind="lost",
        named=OTHER,
        lost={OTHER, HIDDEN},
    ),
    "a file has no plain object": Damage(inject=_without_plain, kind="unput", named=OTHER),
    "a file is called lost and is not": Damage(inject=_called_lost, kind="found", named=OTHER),
    # --- the lock
    "the lock is torn": Damage(inject=_torn_lock, kind="lock", is_repairable=False),
    # --- other tools
    "another tool removed a file": Damage(
        inject=plain(OTHER, None), kind="removed", level=FOREIGN, named=OTHER, is_taken_in=True
    ),
    "another tool replaced a file": Damage(
        inject=lambda stage: stage.put(stage.world.keys.plain(OTHER), _stored(b"theirs")),
        kind="replaced",
        level=FOREIGN,
        named=OTHER,
        is_taken_in=True,
    ),
    "another tool made a file": Damage(
        inject=_new(lambda stage: stage.world.keys.plain(Path("new.dwg")), b"theirs"),
        kind="made",
        level=FOREIGN,
        named="new.dwg",
    ),
    "another tool made what no file can be": Damage(
        inject=_new(lambda stage: f"{stage.world.keys.plain_prefix}a//b", b"theirs"),
        kind="no-file",
        level=FOREIGN,
        named="a//b",
        is_repairable=False,
    ),
    "another tool's object has the place of a file": Damage(
        inject=_theirs_in_place,
        kind="in-place",
        level=FOREIGN,
        named=OTHER,
        is_repairable=False,
    ),
    "another tool's object lies among ours": Damage(
        inject=_new(lambda stage: f"{stage.world.keys.internal_prefix}trees/notes.txt", b"?"),
        kind="strange",
        level=FOREIGN,
        named="notes.txt",
        is_repairable=False,
    ),
    # --- unfinished work
    "a publish was cut short": Damage(
        inject=lambda stage: None, kind="plan", level=WAITING, is_amid_publish=True
    ),
    "a publish was ended without a file": Damage(
        inject=_set_aside,
        kind="aside",
        level=WAITING,
        named=OTHER,
        is_repairable=False,
    ),
    "a session has not ended": Damage(
        inject=_session(base=None, committed=None),
        kind="session",
        level=WAITING,
        is_repairable=False,
    ),
    # --- leftovers
    "contents that nothing names": Damage(
        inject=_internal("contents", b"?"), kind="object", level=LEFTOVER, named=_UNIQUE
    ),
    "a tree that nothing names": Damage(
        inject=_internal("trees", b"?"), kind="object", level=LEFTOVER, named=".json.gz"
    ),
    "a plan that nothing names": Damage(
        inject=_internal("plans", b"?"), kind="object", level=LEFTOVER, named=".json.gz"
    ),
    "an upload of contents that nobody goes on with": Damage(
        inject=_upload, kind="upload", level=LEFTOVER, named=_UNIQUE
    ),
    "an upload of a file that nobody goes on with": Damage(
        inject=_plain_upload, kind="upload", level=LEFTOVER, named=BIG
    ),
}
