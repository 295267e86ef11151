"""People at work on a stage: what they took, their tree, and a journal in memory."""

import random
from dataclasses import dataclass

from pdfs.core import snapshot
from pdfs.core.content import Content
from pdfs.core.generation import tree_of
from pdfs.core.ids import Path
from pdfs.core.manifest import Top, never_published
from pdfs.core.tree import Tree
from pdfs.local.ledger import Ledger
from pdfs.stage.catch_up import CaughtUp, Standing, catch_up, rebase_onto, standing
from pdfs.stage.context import StageContext
from pdfs.stage.end import end_session
from pdfs.stage.fetch import fetch_span
from pdfs.stage.load import list_stage, merge_foreign, read_tree
from pdfs.stage.lock import HeldLock
from pdfs.stage.publish import publish
from pdfs.stage.root import SeenRoot, read_root
from pdfs.stage.start import start
from tests.simulation.diary import Diary
from tests.simulation.editor import Editor
from tests.simulation.machine import SimulatedDisk, SimulatedJournal
from tests.stage.contexts import Site, claimant_of


@dataclass(slots=True)
class Person:
    """Who has, or had, the stage; `root` is what he saw of it last."""

    ctx: StageContext
    root: SeenRoot
    work: Ledger
    editor: Editor
    lock: HeldLock

    async def publish(self) -> None:
        """Commit, and do no more."""
        self.root = await publish(self.ctx, self.root, self.work)

    async def catch_up(self, *, ends: bool = False) -> CaughtUp:
        caught = await catch_up(self.ctx, self.root, self.work, ends=ends)
        self.root = caught.root
        return caught

    async def take_in(self) -> None:
        """What other tools did enters his tree."""
        merged = await merge_foreign(
            self.ctx,
            self.work.tree,
            await list_stage(self.ctx, self.root.root.fence),
            busy=frozenset,
            new_inode=self.work.new_inode,
        )
        for record in merged.records:
            self.work.commit(record)

    async def save(self) -> None:
        """Publish everything."""
        await self.publish()
        await self.catch_up(ends=True)

    async def standing(self) -> Standing:
        """As a new Start of his session would find it."""
        root = await read_root(self.ctx)
        assert root is not None
        return await standing(self.ctx, root.root, self.work)

    async def begin_again(self) -> None:
        """A new Start of the same session, by whatever right."""
        started = await start(self.ctx, claimant_of(self.ctx, take_over=True))
        self.root = started.root
        self.work.adopt(started.fence)

    async def resume(self) -> None:
        """Begin again, and be merged into what others have published since."""
        await self.begin_again()
        await rebase_onto(self.ctx, self.root.root, self.work)

    async def is_in_root(self) -> bool:
        root = await read_root(self.ctx)
        assert root is not None
        return root.root.entry(self.ctx.owner.session) is not None

    async def discard(self) -> None:
        """His session is given up, from wherever: the root knows it no more."""
        root = await read_root(self.ctx)
        assert root is not None
        await end_session(self.ctx, root)

    def changed(self, path: str) -> bool:
        node = self.work.tree.find(Path(path))
        return node is not None and not node.is_clean


async def sit_down(site: Site, ctx: StageContext) -> Person:
    """Take the stage, from whomever, open the current generation, finish its plan, and list."""
    started = await start(ctx, claimant_of(ctx, take_over=True))
    name = started.root.root.tree
    manifest = await read_tree(ctx, name) if name else never_published(Top(mtime=0))
    work = ledger_in_memory(ctx, tree_of(manifest, name, uid=1000, gid=1000))
    work.adopt(started.fence)
    editor = Editor(work, Diary(ctx.owner.session), random.Random(site.seed), 0)
    person = Person(ctx, started.root, work, editor, started.lock)
    await person.catch_up()
    await person.take_in()
    return person


def ledger_in_memory(ctx: StageContext, tree: Tree) -> Ledger:
    """A ledger that begins with `tree`."""
    disk = SimulatedDisk(ctx.owner.session, snapshot.encode(tree))

    async def fetch(content: Content, start: int, stop: int) -> bytes:
        return await fetch_span(ctx, content, start, stop)

    return Ledger(
        tree, SimulatedJournal(disk, lambda: False), fetch=fetch, run_blocking=_run_inline
    )


async def _run_inline(call: object) -> None:
    assert callable(call)
    call()
