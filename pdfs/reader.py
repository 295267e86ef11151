"""The life of a read-only mount: one generation is opened, shown, and given up.

There is no lock, no journal and no entry in the root: nobody has to know of a reader, and nothing
of it survives. Whether the stage is locked, being published, or in the middle of a plan makes no
difference: the root names a whole generation at any time. Who follows looks at the root again and
again, and goes over to the generation that it names then, in one step.
"""

import logging
from collections.abc import Awaitable, Callable, Set
from dataclasses import dataclass
from functools import partial

import trio

from pdfs.core.ids import Inode, ObjectName
from pdfs.core.manifest import never_published
from pdfs.core.merge import Warned
from pdfs.core.moving import Numbers
from pdfs.core.states import State
from pdfs.core.tree import Tree
from pdfs.errors import ObjectDamaged, PdfsError
from pdfs.stage.context import StageContext
from pdfs.stage.present import Present, current_root, read_current, read_present
from pdfs.stage.together import background

logger = logging.getLogger(__name__)

Serve = Callable[[Tree], Awaitable[None]]
"""Shows a tree to processes until it is unmounted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The generation that processes see."""

    name: ObjectName | None
    generation: int
    published: float
    """When, in seconds since 1970 by the clock of who published it; 0.0 for generation 0."""
    since: float
    """From when on it is shown, by this machine's clock."""


def _unheard(*_: object) -> None:
    pass


class StageReader:
    """One stage, read and never changed. `run` is its whole life; the rest is for looking on."""

    def __init__(self, ctx: StageContext, *, follows: bool) -> None:
        self._ctx = ctx
        self._numbers = Numbers()
        self._tree: Tree | None = None
        self.follows = follows
        self.is_serving = False
        """Processes see the stage."""
        self._turned_to: Shown | None = None
        """What is shown, or about to be: the kernel may not have been told all of it."""
        self.shown: Shown | None = None
        """None until there is something to show."""
        self.warnings: tuple[Warned, ...] = ()
        self.trouble: PdfsError | None = None
        """Why the last look at the root led nowhere; None while it did."""
        self.in_use: Callable[[], Set[Inode]] = frozenset
        """Nodes that are open, or that the kernel knows; set by whoever serves."""
        self.move_to: Callable[[Tree, Callable[[], None]], None] = _unheard
        """Called with the tree of a newer generation, to be shown at once, and what to call when
        nothing of an older one can be seen any more; likewise."""

    @property
    def state(self) -> State:
        """How far it is, in the words of a session's states."""
        if self.is_serving:
            return State.ACTIVE
        return State.DOWNLOADING if self.shown is None else State.CLOSED

    async def run(self, serve: Serve) -> None:
        """Open the current generation and serve it. Raises StoreError, DamageFound, MountError."""
        tree = await self._turn_to(await read_present(self._ctx, self._numbers.new))
        self.shown = self._turned_to
        async with background(self._follow):
            self.is_serving = True
            try:
                await serve(tree)
            finally:
                self.is_serving = False

    async def _turn_to(self, present: Present) -> Tree:
        manifest, before = present.manifest, self._turned_to
        is_new = before is None or before.generation != manifest.generation  # else it was settled
        making = partial(
            self._numbers.tree_of,
            manifest,
            present.name,
            shown=self._tree,
            in_use=self.in_use(),
            uid=self._ctx.uid,
            gid=self._ctx.gid,
        )
        self._tree = await self._ctx.compute(making)
        self.warnings = present.warnings
        self._turned_to = Shown(
            name=present.name,
            generation=manifest.generation,
            published=manifest.time,
            since=self._ctx.now() if before is None or is_new else before.since,
        )
        return self._tree

    async def _follow(self) -> None:
        """Go over to newer generations until cancelled. What fails is told, and tried again."""
        while self.follows:
            await trio.sleep(self._ctx.timing.follow)
            try:
                await self._look()
                self.trouble = None
            except PdfsError as error:
                if str(error) != str(self.trouble):
                    logger.warning("no newer generation can be shown: %s", error)
                self.trouble = error

    async def _look(self) -> None:
        assert self._turned_to is not None
        root = await current_root(self._ctx)
        name = None if root is None else root.tree
        if name == self._turned_to.name:
            return
        manifest = never_published() if root is None else await read_current(self._ctx, root)
        if manifest.generation < self._turned_to.generation:
            raise ObjectDamaged(
                f"the bucket names generation {manifest.generation} as the current one, which is "
                f"older than the {self._turned_to.generation} that is shown",
                remedy="if the bucket was restored from a backup, unmount and mount again",
            )
        tree = await self._turn_to(Present(name=name, manifest=manifest))
        self.move_to(tree, partial(self._show, self._turned_to))

    def _show(self, turned_to: Shown) -> None:
        self.shown = turned_to
