"""A whole small world: one bucket, some machines, another tool, and chance from one seed."""

import random
from collections import ChainMap, Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import trio

from pdfs.core import manifest as core_manifest
from pdfs.core import root as core_root
from pdfs.core.ids import Path, RunId, SessionId
from pdfs.core.keys import StageKeys
from pdfs.core.lease import Claimant
from pdfs.core.manifest import Manifest
from pdfs.core.moments import decimal_seconds
from pdfs.core.root import Root
from pdfs.errors import (
    KeyClash,
    LockHeld,
    LockLost,
    SessionError,
    StoreError,
    StoreUnavailable,
    UnpublishedWork,
)
from pdfs.stage.load import MTIME
from pdfs.store.faulty import Fate, Request
from pdfs.store.memory import MemoryStore
from pdfs.store.objects import NO_METADATA, Traits
from tests.simulation.diary import Diary, Saved
from tests.simulation.editor import Editor
from tests.simulation.machine import EPOCH, Machine, Process, SimulatedDisk

AWS = Traits(
    conditional_complete=True,
    conditional_delete=True,
    conditional_part_copy=True,
    nested_keys=True,
)
R2 = Traits(
    conditional_complete=True,
    conditional_delete=False,
    conditional_part_copy=False,
    nested_keys=True,
)
MINIO = Traits(
    conditional_complete=True,
    conditional_delete=False,
    conditional_part_copy=True,
    nested_keys=False,
    hides_nested=True,
)
POOR = Traits(
    conditional_complete=False,
    conditional_delete=False,
    conditional_part_copy=False,
    nested_keys=False,
)

MOST_REQUESTS = 30_000
"""Far more than any run needs."""

Story = Callable[["Visit"], Awaitable[None]]
"""What a user does while the stage is mounted."""

FateOf = Callable[[Machine, Request], Fate]


@dataclass(slots=True)
class Visit:
    """A user at a mounted stage."""

    process: Process
    editor: Editor
    diary: Diary
    world: "World"

    async def publish(self) -> None:
        """Publish while the stage stays mounted; what comes of it is noted where it was saved."""
        begun, time = self.diary.operations, self.world.time()
        try:
            await self.process.session.publish()
        except (SessionError, LockLost, UnpublishedWork):
            return
        finally:
            self.world.asides.append((self.diary.session, time, self.world.time()))
        saved = self.diary.untouched_since(begun)
        told = tuple(self.process.session.missing)
        self.world.published.append((self.world.time(), self.diary.session, saved, told))


@dataclass(frozen=True, slots=True)
class Foreign:
    """One change of a plain object by another tool."""

    time: float
    key: str
    body: bytes | None


@dataclass(slots=True)
class World:
    """Everything that a run consists of."""

    rng: random.Random
    habits: random.Random
    """Of other tools."""
    store: MemoryStore
    keys: StageKeys
    machines: list[Machine] = field(default_factory=list)
    diaries: dict[SessionId, Diary] = field(default_factory=dict)
    foreign: list[Foreign] = field(default_factory=list)
    written: set[bytes] = field(default_factory=set)
    """What any file was ever made to hold."""
    completed: list[tuple[float, SessionId]] = field(default_factory=list)
    """Sessions whose `run` returned: called saved, and when."""
    published: list[tuple[float, SessionId, Saved, tuple[Path, ...]]] = field(default_factory=list)
    """Publishes of sessions that went on: when they were over, and what they called saved."""
    asides: list[tuple[SessionId, float, float]] = field(default_factory=list)
    """When sessions that went on were publishing: what was done meanwhile may have been too late
    for that."""
    kept: set[SessionId] = field(default_factory=set)
    """Sessions that were refused because the stage moved on; their journal stays."""
    missing: dict[SessionId, list[Path]] = field(default_factory=dict)
    """What a session that was called saved named as lost."""
    late_keys: set[str] = field(default_factory=set)
    """Keys to which a write was sent that could arrive at any later time."""
    echoed_keys: set[str] = field(default_factory=set)
    """Those of them whose write was answered, and arrived once more."""
    refused: set[str] = field(default_factory=set)
    """Keys that the bucket would not let be written for a while: what is there stays in the way."""
    denied: Counter[str] = field(default_factory=Counter)
    """How often a write to a key was refused for a condition that held."""
    requests: int = 0
    calm: bool = False
    """No more faults."""

    def add_machine(self, name: str, user: str, nursery: trio.Nursery, fate_of: FateOf) -> Machine:
        """One that edits the stage."""
        machine = self.new_machine(name, user, nursery, fate_of)
        self.machines.append(machine)
        return machine

    def new_machine(self, name: str, user: str, nursery: trio.Nursery, fate_of: FateOf) -> Machine:
        """One that looks at it, at most."""
        return Machine(
            name,
            user,
            store=self.store,
            keys=self.keys,
            rng=random.Random(self.rng.getrandbits(64)),
            nursery=nursery,
            fate_of=partial(self._fate_of, fate_of),
        )

    def _fate_of(self, chosen: FateOf, machine: Machine, request: Request) -> Fate:
        self.requests += 1
        assert self.requests < MOST_REQUESTS, "the machines go on for ever without getting on"
        fate = Fate.FINE if self.calm else chosen(machine, request)
        if request.is_write and fate in (Fate.LATE, Fate.ECHOED, Fate.FROZEN):
            self.late_keys.add(request.key)
            if fate is Fate.ECHOED:
                self.echoed_keys.add(request.key)
        if request.is_write and fate is Fate.UNMET:
            self.denied[request.key] += 1
        return fate

    # --- people -----------------------------------------------------------------------------------

    async def visit(
        self,
        machine: Machine,
        story: Story,
        *,
        resume: SimulatedDisk | None = None,
        agreed: bool = False,
        take_over: bool = False,
    ) -> bool:
        """Mount, do what `story` says, unmount. Returns whether it was called saved."""

        async def serve(process: Process, work: object) -> None:
            assert process.work is not None
            session = process.ctx.owner.session
            diary = self.diaries.setdefault(session, Diary(session, self.time, self.written))
            editor = Editor(process.work, diary, self.rng, round(process.ctx.now() * 1e9))
            process.session.busy = lambda: editor.busy
            await story(Visit(process, editor, diary, self))

        process = await machine.mount(serve, resume=resume, agreed=agreed, take_over=take_over)
        if process.is_dead:
            return False
        session = process.ctx.owner.session
        self.completed.append((self.time(), session))
        self.missing[session] = process.session.missing
        return True

    async def visit_somehow(
        self,
        machine: Machine,
        story: Story,
        *,
        resumed: Story | None = None,
        gives_up_at_crash: bool = False,
        is_forceful: bool = False,
    ) -> None:
        """Keep at it until a session of this machine is called saved: resume, ask, take over.

        `resumed` is what the user does where a crashed session was mounted again.
        """
        for attempt in range(200):
            resume = machine.crashed[0] if machine.crashed else None
            if resume is not None and resume.session in self.kept:
                machine.disks.pop(resume.session)
                continue
            patient = attempt < 6 and not is_forceful
            try:
                saved = await self.visit(
                    machine,
                    story if resume is None else resumed or idle,
                    resume=resume,
                    agreed=not patient,
                    take_over=is_forceful or (not patient and self.rng.random() < 0.5),
                )
            except UnpublishedWork:  # what was written is kept on its machine, for people
                self.kept.update(disk.session for disk in machine.crashed[:1])
            except (LockHeld, LockLost, StoreError):
                await trio.sleep(self.rng.choice([30.0, 700.0, 12 * 3600.0]))
            else:
                if (saved and resume is None) or (gives_up_at_crash and not saved):
                    return
        raise AssertionError(f"{machine.name} could not get on")

    async def visit_until_crash(self, machine: Machine, story: Story) -> None:
        """Visits of this machine until one of them dies, or three were called saved."""
        for _ in range(3):
            await self.visit_somehow(machine, story, gives_up_at_crash=True)
            if machine.crashed:
                return

    # --- another tool -----------------------------------------------------------------------------

    async def foreign_put(self, path: str, body: bytes) -> None:
        """Some tools keep what metadata they don't know, as s3fs does; most keep none."""
        key = self.keys.plain(Path(path))
        there = self.store.objects.get(key)
        kept = NO_METADATA
        if there is not None and self.habits.random() < 0.4:
            kept = {**there.metadata, MTIME: decimal_seconds(round(self.time() * 1e9))}
        try:
            await _insist(lambda: self.store.put(key, body, condition=None, metadata=kept))
        except KeyClash:  # there is something above or below it, and the store won't have both
            return
        self.written.add(body)
        self.foreign.append(Foreign(self.time(), key, body))

    async def foreign_delete_lock(self) -> None:
        await _insist(lambda: self.store.delete(self.keys.lock, condition=None))
        self.foreign.append(Foreign(self.time(), self.keys.lock, None))

    async def foreign_delete(self, path: str) -> None:
        key = self.keys.plain(Path(path))
        if key not in self.store.objects:
            return
        await _insist(lambda: self.store.delete(key, condition=None))
        self.foreign.append(Foreign(self.time(), key, None))

    # --- looking from outside ---------------------------------------------------------------------

    @property
    def claims(self) -> Mapping[RunId, Claimant]:
        """What each process said when it asked for the stage."""
        return ChainMap(*(machine.claims for machine in self.machines))

    def time(self) -> float:
        return EPOCH + trio.current_time()

    @property
    def publishes(self) -> int:
        """How many generations were published."""
        root = self.root()
        return 0 if root is None else root.generation

    def root(self) -> Root | None:
        stored = self.store.objects.get(self.keys.root)
        return None if stored is None else core_root.decode(self.keys.root, stored.body)

    def manifest(self, root: Root) -> Manifest:
        assert root.tree is not None
        key = self.keys.tree(root.tree)
        return core_manifest.decode(key, self.store.objects[key].body)


async def _insist(call: Callable[[], Awaitable[object]]) -> None:
    """As other tools do, too, where a key takes one write a second."""
    while True:
        try:
            await call()
        except StoreUnavailable:
            await trio.sleep(1.0)
        else:
            return


async def idle(visit: Visit) -> None:
    """Do nothing; long enough that a plan that was found is finished, and a listing judged."""
    await trio.sleep(200.0)


def new_world(seed: int, traits: Traits) -> World:
    """A world with an empty bucket. Must be called under trio."""
    start = trio.current_time()
    store = MemoryStore(
        traits=traits,
        now=lambda: EPOCH + trio.current_time() - start,
        page_size=5,
        writes_apart=1.0 if traits == R2 else 0.0,
    )
    return World(
        rng=random.Random(seed),
        habits=random.Random(f"habits {seed}"),
        store=store,
        keys=StageKeys("Kraftwerk", "planning"),
    )
