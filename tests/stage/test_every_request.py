"""A session at a real server, one of whose requests meets trouble (S1)."""

import random
import time
import uuid
from contextlib import suppress
from dataclasses import replace

import pytest
import trio

from pdfs.core.ids import Path, RunId, SessionId
from pdfs.core.keys import StageKeys
from pdfs.core.lease import LockState
from pdfs.core.timing import Timing
from pdfs.errors import ContentLost, PdfsError, StoreError
from pdfs.stage.context import Owner, StageContext
from pdfs.stage.fetch import fetch_span
from pdfs.stage.load import read_tree
from pdfs.stage.lock import read_lock
from pdfs.stage.root import read_root
from pdfs.stage.work import Work
from pdfs.store.faulty import Fate, Request
from pdfs.store.memory import MemoryStore
from pdfs.store.retry import Patience
from pdfs.store.s3 import Access, S3Settings, S3Store, open_access
from tests.conftest import Reached
from tests.lengths import Length
from tests.simulation.diary import Diary
from tests.simulation.editor import Editor
from tests.simulation.machine import SIZES, Machine, Process, Sender
from tests.store.moments import AtRequest
from tests.store.network_faults import FAULTS
from tests.store.relay import relayed
from tests.store.running import settings_of
from tests.store.servers import Server
from tests.store.test_probe import SEEN

pytestmark = pytest.mark.real_clock

KEYS = StageKeys("Kraftwerk", "planning")
THEIRS, GONE, MINE, MOVED = (
    Path("list.csv"),
    Path("old.dxf"),
    Path("sub/new.dxf"),
    Path("moved.dxf"),
)
FOUND = {THEIRS: b"1;2;3", GONE: b"old", Path("first.dxf"): b"to be moved"}
LEFT = {THEIRS: b"1;2;3;4", MINE: b"new" * 100, MOVED: b"to be moved"}
TIMING = Timing(
    answer=1.5,
    patience=4.0,
    backoff=0.05,
    backoff_limit=0.5,
    delete_valid=1.0,
    foreign_plan_wait=1.1,
)
MANY = 10_000
"""More requests than a session makes."""
FEWEST = 20


class AtServer(Machine):
    """A machine whose requests really go over HTTP."""

    def __init__(self, store: S3Store, rng: random.Random, nursery: trio.Nursery) -> None:
        unused = MemoryStore(now=time.time)
        super().__init__(
            "ws7", "anna", store=unused, keys=KEYS, rng=rng, nursery=nursery, fate_of=_unasked
        )
        self._server = store

    def context(self, process: Sender, session: SessionId) -> StageContext:
        return context_of(self._server, "anna", session)


def _unasked(machine: Machine, request: Request) -> Fate:
    raise AssertionError("these requests pass no simulated network")


def context_of(store: S3Store, user: str, session: SessionId | None = None) -> StageContext:
    def new_id() -> str:
        return uuid.uuid4().hex

    return StageContext(
        store=store,
        keys=KEYS,
        owner=Owner(
            user=user, machine="ws7", session=session or SessionId(new_id()), run=RunId(new_id())
        ),
        timing=TIMING,
        sizes=SIZES,
        now=time.time,
        new_id=new_id,
        patience=Patience(TIMING, random.random),
        uid=1000,
        gid=1000,
        version="test",
        trees={},
        plans={},
    )


async def work(process: Process, work: Work) -> None:
    """Read, overwrite, delete, make, move; programs close all before the unmount."""
    assert process.work is not None
    editor = Editor(process.work, Diary(process.ctx.owner.session), random.Random(0), 0)
    node = process.work.tree.find(THEIRS)
    assert node is not None
    with suppress(StoreError, ContentLost):  # EIO, once
        assert await process.work.read(node, 0, node.size) == FOUND[THEIRS]
    editor.write(THEIRS, LEFT[THEIRS])
    editor.delete(GONE)
    editor.write(MINE, LEFT[MINE])
    editor.move(Path("first.dxf"), MOVED)


async def no_work(process: Process, work: Work) -> None:
    """Unmount at once."""


async def live(
    moment: AtRequest, number: int, fault: str, *, store: S3Store, direct: S3Store
) -> str:
    """One session with that trouble at that request; how it ended. The work is saved afterwards."""
    for path, data in FOUND.items():
        await direct.put(KEYS.plain(path), data, condition=None)
    async with trio.open_nursery() as nursery:
        machine = AtServer(store, random.Random(number), nursery)
        moment.arm(number, FAULTS[fault])
        try:
            await machine.mount(work)
            ended = "saved"
        except PdfsError as error:
            ended = type(error).__name__
            moment.arm(0, moment.happen)
            if machine.crashed:
                await machine.mount(no_work, resume=machine.crashed[0])
            else:  # it has the lock, perhaps, and no journal yet: its directory would say so
                await machine.mount(work, take_over=True)
        nursery.cancel_scope.cancel()
    await check_saved(direct)
    return ended


async def check_saved(direct: S3Store) -> None:
    """Another reader finds the whole work, in the generation and in the plain objects."""
    ctx = context_of(direct, "bert")
    root = await read_root(ctx)
    assert root is not None
    assert root.root.plan is None
    assert not root.root.sessions
    manifest = await read_tree(ctx, root.root.tree)
    published = {
        entry.path: await fetch_span(ctx, entry.content, 0, entry.content.size)
        for entry in manifest.entries
        if entry.content is not None
    }
    plain = {
        KEYS.path_of(row.key): (await direct.get(row.key)).body
        async for page in direct.list(KEYS.plain_prefix)
        for row in page
    }
    assert published == plain
    for path, data in LEFT.items():
        assert data in (body for name, body in plain.items() if name.startswith(path.split(".")[0]))
    lock = await read_lock(ctx)
    assert lock is None or (lock.lock and lock.lock.state is LockState.RELEASED)


@pytest.mark.figure(name="S1")
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("credentials")
async def test_trouble_with_any_request_ends_in_saved_work_or_an_error_that_keeps_it(
    seaweed: Server, seed: int, length: Length, reached: Reached
) -> None:
    moment = AtRequest(lambda asked: True)
    with relayed(seaweed, moment) as relay:
        slow, quick = open_access(settings_of(seaweed)), open_access(quick_settings(relay.server))

        async def meet(number: int, fault: str) -> str:
            prefix = f"{uuid.uuid4().hex}/"
            return await live(
                moment,
                number,
                fault,
                store=store_below(prefix, quick),
                direct=store_below(prefix, slow),
            )

        assert await meet(MANY, "500") == "saved"
        count = moment.counted
        assert count >= FEWEST
        chance = random.Random(seed)
        every = [(number, fault) for number in range(1, count + 1) for fault in FAULTS]
        some = [(chance.randint(1, count), fault) for fault in FAULTS]
        for number, fault in length.pick(sample=some, full=every, long=every * 3):
            try:
                await meet(number, fault)
            except BaseException as error:
                error.add_note(f"request {number}, {fault}: {moment.met}")
                raise
            reached(1, "requests that met trouble")


def store_below(prefix: str, access: Access) -> S3Store:
    """A store on a prefix of its own, known for what its server does."""
    store = S3Store(replace(access, settings=replace(access.settings, prefix=prefix)))
    store.believe(SEEN["seaweed"])
    return store


def quick_settings(server: Server) -> S3Settings:
    """Those of a client that soon gives up waiting."""
    return replace(settings_of(server), connect_timeout=0.5, read_timeout=1.0, bulk_timeout=1.2)
