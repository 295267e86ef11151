"""A published stage with something of everything, and what can happen to it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import trio

from pdfs.core import manifest as core_manifest
from pdfs.core import root as core_root
from pdfs.core.check import findings
from pdfs.core.content import ETag
from pdfs.core.entries import Entry
from pdfs.core.finding import Finding
from pdfs.core.ids import Path
from pdfs.core.manifest import Manifest
from pdfs.core.record import Create, Kind, Link
from pdfs.core.restore import Past
from pdfs.core.root import Root
from pdfs.stage.check import look_at
from pdfs.stage.context import StageContext
from pdfs.stage.fetch import fetch_span
from pdfs.stage.load import read_tree
from pdfs.stage.repair import Mending
from pdfs.stage.restore import restore
from pdfs.store.faulty import Fate, Request
from pdfs.store.memory import StoredObject
from pdfs.store.objects import ObjectStore, Traits
from tests.simulation.machine import Machine, Process
from tests.simulation.world import AWS, Visit, World, new_world
from tests.stage.contexts import Site, claimant_of

SMALL, OTHER, BIG = Path("a.dwg"), Path("dir/b.dxf"), Path("dir/big.bin")
LINKED, HIDDEN, EMPTY = Path("linked.dwg"), Path("hidden\udcff.dwg"), Path("empty")
REPLACED = Path("replaced.txt")
BEFORE, AFTER = b"as it was before", b"as it is now, and a bit longer"
FILES: Mapping[Path, bytes] = {
    SMALL: b"drawn by anna",
    LINKED: b"drawn by anna",
    OTHER: b"1;2;3",
    BIG: bytes(range(250)) * 3,
    HIDDEN: b"other tools don't see it",
    EMPTY: b"",
    REPLACED: AFTER,
}
"""What the stage holds: small, in parts, with two names, with one that no key can hold, empty."""

FateOf = Callable[[Machine, Request], Fate]


@dataclass(slots=True)
class Stage:
    """The stage, whoever works on it, and its bucket."""

    world: World
    anna: Machine
    fate: list[FateOf] = field(default_factory=list)
    """What becomes of requests, while there is something in it."""
    looks: int = 0
    """How many processes there were without a session: each has ids of its own."""

    # --- looking ------------------------------------------------------------------------------

    def context(self, user: str = "carl", store: ObjectStore | None = None) -> StageContext:
        """A fresh process that has no session."""
        self.looks += 1
        site = Site(seed=self.looks, keys=self.world.keys)
        site.store = self.world.store
        return site.context(user, machine="ws9", store=store)

    async def check(self) -> list[Finding]:
        """What `pdfs check --read` finds."""
        return findings(await look_at(self.context(), reads=True))

    @property
    def root(self) -> Root:
        found = self.world.root()
        assert found is not None
        return found

    @property
    def tree(self) -> Manifest:
        return self.world.manifest(self.root)

    def entry(self, path: Path) -> Entry:
        return self.tree.by_path()[path]

    def content_key(self, path: Path) -> str:
        """The contents object that has a file's bytes."""
        content = self.entry(path).content
        assert content is not None
        return self.world.keys.content(content.packed[0].name)

    async def read(self, path: Path) -> bytes:
        """A file's bytes, as a new reader of the root gets them."""
        ctx = self.context()
        entry = (await read_tree(ctx, self.root.tree)).by_path()[path]
        assert entry.content is not None
        return await fetch_span(ctx, entry.content, 0, entry.content.size)

    # --- changing -----------------------------------------------------------------------------

    def change(self, key: str, body: Callable[[bytes], bytes]) -> None:
        """Another body below the same ETag, as a bad disk leaves it."""
        old = self.world.store._objects[key]
        new = body(old.body)
        assert new != old.body
        self.put(key, replace(old, body=new))

    def put(self, key: str, stored: StoredObject) -> None:
        self.world.store._objects[key] = stored

    def remove(self, key: str) -> None:
        self.world.store._remove(key)

    def rewrite_root(self, **changes: object) -> None:
        body = core_root.encode(replace(self.root, id="rewritten", **changes))  # type: ignore[arg-type]  # by name
        old = self.world.store.objects[self.world.keys.root]
        self.put(self.world.keys.root, replace(old, body=body, etag=ETag(old.etag[::-1])))

    def rewrite_tree(self, change: Callable[[Manifest], Manifest]) -> None:
        name = self.root.tree
        assert name is not None
        key = self.world.keys.tree(name)
        old = self.world.store.objects[key]
        self.put(key, replace(old, body=core_manifest.encode(change(self.tree))))

    async def repair(self) -> None:
        """What `pdfs check --read --repair` does, once."""
        if (await look_at(self.context())).past is not None:
            await self.restore()
            return

        async def mend(process: Process, work: object) -> None:
            assert process.work is not None
            mending = Mending(process.ctx, reads=True)
            process.session.on_note = mending.hear
            process.session.collects_all = True
            await mending.mend(process.work)

        await self.anna.mount(mend)

    async def restore(self) -> Past | None:
        """The first step of that, by anna, where there is no root or tree."""
        ctx = self.context("anna")
        crashed = frozenset(disk.session for disk in self.anna.crashed)
        return await restore(ctx, claimant_of(ctx, crashed=crashed))

    async def repair_all(self) -> int:
        """As often as there is something to repair; how often that was."""
        for number in range(5):
            if not any(each.is_repairable for each in await self.check()):
                return number
            await self.repair()
        raise AssertionError(f"there is always more to repair: {await self.check()}")

    async def edit(self, story: Callable[[Visit], None]) -> bool:
        async def serve(visit: Visit) -> None:
            await trio.sleep(1.0)
            story(visit)

        return await self.world.visit(self.anna, serve)


async def published(nursery: trio.Nursery, traits: Traits = AWS) -> Stage:
    """`FILES`, of which `REPLACED` was another in the generation before."""
    world = new_world(0, traits)
    fates: list[FateOf] = []

    def fate_of(machine: Machine, request: Request) -> Fate:
        return fates[0](machine, request) if fates else Fate.FINE

    stage = Stage(world, world.add_machine("ws1", "anna", nursery, fate_of), fates)

    def draw(visit: Visit) -> None:
        for path, data in {**FILES, REPLACED: BEFORE}.items():
            if path != LINKED:
                visit.editor.write(path, data)
        work = visit.process.work
        assert work is not None
        node = work.tree.find(SMALL)
        assert node is not None
        work.commit(Link(ino=node.ino, parent=work.tree.nodes[1].ino, name=LINKED, time=5))  # type: ignore[index]  # the top
        link = Create(
            parent=work.tree.nodes[1].ino,  # type: ignore[index]  # the top
            name="link",
            ino=work.new_inode(),
            kind=Kind.SYMLINK,
            mode=0o777,
            uid=0,
            gid=0,
            time=5,
            target="a.dwg",
        )
        work.commit(link)

    assert await stage.edit(draw)
    assert await stage.edit(lambda visit: visit.editor.write(REPLACED, AFTER))
    return stage
