"""What a stage keeps in the bucket beside its plain objects: what is there, and what is named.

Reads only. By which rule something is named: `core.garbage`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pdfs.core.content import Digest
from pdfs.core.garbage import Internal, Named, Origin, forgotten, is_in_use
from pdfs.core.ids import ObjectName, PublishId, fence_of, publish_name
from pdfs.core.keys import CONTENTS, PLANS, TREES
from pdfs.core.manifest import Manifest
from pdfs.core.plan import Plan
from pdfs.core.root import Root
from pdfs.errors import ObjectDamaged, ObjectNotFound, OtherVersion, StoreRefused
from pdfs.stage.context import StageContext
from pdfs.stage.load import read_plan, read_tree
from pdfs.store import step
from pdfs.store.objects import ListedUpload
from pdfs.store.step import Step


@dataclass(slots=True)
class Inventory:
    """The internal objects, by a listing."""

    objects: list[Internal] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    """Keys among them that PDFS did not make."""
    uploads: list[ListedUpload] = field(default_factory=list)
    """Uploads under way, those of plain objects included."""
    hides_uploads: bool = False
    """The bucket does not let this user list them."""
    now: float = 0.0
    """When it was made, by the store's clock."""

    @property
    def written(self) -> Mapping[ObjectName, float]:
        """When each tree was."""
        return {each.name: each.written for each in self.objects if each.folder == TREES}


async def list_internal(ctx: StageContext) -> Inventory:
    """What is there. Raises StoreError."""
    with step.at(Step.COLLECT_LIST):
        now = await _date_of(ctx, ctx.keys.root)
        found = await ctx.patience.ask(lambda: _listed(ctx, ctx.keys.internal_prefix))
        found.now = await _later(ctx, found) if now is None else now
        try:
            found.uploads = await ctx.patience.ask(lambda: _uploads(ctx))
        except StoreRefused:  # a right of its own, which nothing else needs
            found.hides_uploads = True
    return found


async def _date_of(ctx: StageContext, key: str) -> float | None:
    """What the store's clock shows now, from its answer about that object; None without one."""
    try:
        return (await ctx.patience.look(lambda: ctx.store.head(key))).date
    except ObjectNotFound:
        return None


async def _later(ctx: StageContext, found: Inventory) -> float:
    """The same where the root is gone: any other object will do."""
    for each in found.objects:
        now = await _date_of(ctx, key_of(ctx, each))
        if now is not None:
            return now
    return 0.0


def key_of(ctx: StageContext, found: Internal) -> str:
    """The key of an internal object."""
    of = {TREES: ctx.keys.tree, PLANS: ctx.keys.plan, CONTENTS: ctx.keys.content}
    return of[found.folder](found.name)


async def list_trees(ctx: StageContext) -> Inventory:
    """The trees alone. Raises StoreError."""
    with step.at(Step.COLLECT_LIST):
        root = await ctx.patience.look(lambda: ctx.store.head(ctx.keys.root))
        prefix = f"{ctx.keys.internal_prefix}{TREES}/"
        found = await ctx.patience.ask(lambda: _listed(ctx, prefix))
        found.now = root.date
    return found


async def _listed(ctx: StageContext, prefix: str) -> Inventory:
    found = Inventory()
    async for page in ctx.store.list(prefix):
        for row in page:
            place = ctx.keys.internal_of(row.key)
            if place is not None:
                folder, name = place
                each = Internal(folder=folder, name=name, size=row.size, written=row.last_modified)
                found.objects.append(each)
            elif row.key != ctx.keys.root:
                found.strange.append(row.key)
    return found


async def _uploads(ctx: StageContext) -> list[ListedUpload]:
    found: list[ListedUpload] = []
    for prefix in (ctx.keys.internal_prefix, ctx.keys.plain_prefix):
        async for page in ctx.store.list_uploads(prefix):
            found += page
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A tree or plan that somebody needs, and that can't be read."""

    folder: str
    name: ObjectName
    needed: str
    """By whom, for people."""
    error: ObjectDamaged

    @property
    def is_of_other_version(self) -> bool:
        """It is whole, and not for this PDFS."""
        return isinstance(self.error, OtherVersion)


@dataclass(slots=True)
class Survey:
    """What is named, as far as it can be found out."""

    named: Named = field(default_factory=Named)
    faults: list[Fault] = field(default_factory=list)
    newer: list[ObjectName] = field(default_factory=list)
    """Objects that this root can't have led to: it is older, or began anew."""
    settled: dict[PublishId, float] = field(default_factory=dict)
    """When the plan of each publish was carried out, at the latest."""
    lacking: dict[ObjectName, set[Digest]] = field(default_factory=dict)
    """What a contents object should have, by some tree, and by the listing has not."""
    tree: Manifest | None = None
    """The root's."""
    plan: Plan | None = None

    @property
    def is_sure(self) -> bool:
        """Whether what is not named is garbage."""
        return not self.faults and not self.newer


async def survey(ctx: StageContext, root: Root, there: Inventory) -> Survey:
    """Follow every name from `root` on. Raises StoreError."""
    with step.at(Step.COLLECT_READ):
        found = _Surveying(ctx, root, there)
        await found.follow_root()
        await found.follow_sessions()
        await found.follow_chain()
        await found.look_for_newer()
    return found.survey


class _Surveying:
    """One walk."""

    def __init__(self, ctx: StageContext, root: Root, there: Inventory) -> None:
        self._ctx = ctx
        self._root = root
        self._there = there
        self._oldest = root.generation
        """The generation of the oldest base of a session."""
        self._origins: dict[ObjectName, Origin] = {}
        self._sizes = {each.name: each.size for each in there.objects if each.folder == CONTENTS}
        self.survey = Survey()

    async def follow_root(self) -> None:
        root = self._root
        if root.tree is not None:
            self.survey.tree = await self._tree(root.tree, "the current generation")
        if root.plan is not None:
            try:
                self.survey.plan = await read_plan(self._ctx, root.plan)
                self.survey.named.by_plan(root.plan, self.survey.plan)
            except ObjectDamaged as error:
                needed = "the publish that is to be finished"
                self.survey.faults.append(
                    Fault(folder=PLANS, name=root.plan, needed=needed, error=error)
                )

    async def follow_sessions(self) -> None:
        for entry in self._root.sessions:
            whose = f"a session of {entry.user} on {entry.machine}, which has not ended"
            if entry.base is None:
                self._oldest = 0
            for name in {entry.base, entry.last and entry.last.tree} - {None}:
                manifest = await self._tree(ObjectName(str(name)), whose)
                if manifest is not None and name == entry.base:
                    self._oldest = min(self._oldest, manifest.generation)

    async def follow_chain(self) -> None:
        manifest, chain = self.survey.tree, [self._root.tree or ObjectName("")]
        written, kept_for = self._there.written, self._ctx.timing.kept_for
        while manifest is not None and manifest.predecessor is not None:
            is_shown = is_in_use(chain, written, now=self._there.now, kept_for=kept_for)
            if not is_shown and manifest.generation <= self._oldest:
                return
            chain.append(manifest.predecessor)
            needed = f"whoever still shows a generation before {manifest.generation}"
            manifest = await self._tree(manifest.predecessor, needed)

    async def _tree(self, name: ObjectName, needed: str) -> Manifest | None:
        try:
            manifest = await read_tree(self._ctx, name)
        except ObjectDamaged as error:
            if all(fault.name != name for fault in self.survey.faults):
                fault = Fault(folder=TREES, name=name, needed=needed, error=error)
                self.survey.faults.append(fault)
            return None
        self.survey.named.by_tree(name, manifest)
        self._origins[name] = Origin(manifest.generation, manifest.publish)
        self._note_lacking(manifest)
        if manifest.publish is not None and name != publish_name(manifest.publish):
            self.survey.settled[manifest.publish] = self._there.written.get(name, 0.0)
        return manifest

    def _note_lacking(self, manifest: Manifest) -> None:
        named = self.survey.named.contents.items()
        if all(self._sizes.get(name, -1) >= size for name, size in named):
            return
        for content in manifest.contents():
            for home in content.packed:
                is_there = self._sizes.get(home.name, -1) >= home.offset + content.size
                if not is_there and content.digest is not None:
                    self.survey.lacking.setdefault(home.name, set()).add(content.digest)

    async def look_for_newer(self) -> None:
        """A root that was brought back, or began anew, knows nothing of what came after it."""
        root, newer = self._root, self.survey.newer
        newer += [each.name for each in self._there.objects if fence_of(each.name) > root.fence]
        for each in self._there.objects:
            if each.folder == TREES and each.name not in self._origins:
                try:
                    manifest = await read_tree(self._ctx, each.name)
                except ObjectDamaged:
                    continue
                self._origins[each.name] = Origin(manifest.generation, manifest.publish)
        newer += forgotten(self._origins, root)
