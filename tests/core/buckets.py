"""A model of a stage's plain objects, and of a whole publish, without a store or its network."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import md5

from pdfs.core.content import Content, ETag, Packed, content_of
from pdfs.core.generation import draft_of, manifest_of
from pdfs.core.ids import Fence, Inode, ObjectName, Path, PublishId, RunId, SessionId, object_name
from pdfs.core.keys import ancestors
from pdfs.core.manifest import Manifest
from pdfs.core.merge import Row
from pdfs.core.plan import Plan, Put, Step, plan_of
from pdfs.core.settle import Deleted, Done, Moved, Outcome, SetAside, SourceLost, Stays, Theirs
from pdfs.core.tree import Tree


@dataclass(frozen=True, slots=True)
class Plain:
    """One plain object."""

    body: bytes
    publish: PublishId | None = None

    @property
    def etag(self) -> ETag:
        return ETag(md5(self.body).hexdigest())

    @property
    def theirs(self) -> Theirs:
        return Theirs(etag=self.etag, size=len(self.body), mtime=5)


def is_visible(path: Path) -> bool:
    return "\udcff" not in path


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """What a publish wrote before its commit point."""

    manifest: Manifest
    name: ObjectName
    plan: Plan


@dataclass(slots=True)
class Bucket:
    """Plain objects by path, and what the contents objects hold."""

    objects: dict[Path, Plain] = field(default_factory=dict)
    packed: dict[Packed, bytes] = field(default_factory=dict)
    count: int = 0

    def rows(self) -> list[Row]:
        return [
            Row(path=path, etag=plain.etag, size=len(plain.body), mtime=5)
            for path, plain in sorted(self.objects.items())
        ]

    def is_nested(self, path: Path) -> bool:
        """Whether an object has a key above or below this one."""
        return any(above in self.objects for above in ancestors(path)) or any(
            path in ancestors(other) for other in self.objects
        )

    def bytes_of(self, content: Content) -> bytes | None:
        """The content's bytes from any of its homes that still has them."""
        if not content.size:
            return b""
        for home in content.packed:
            return self.packed[home]
        for plain in content.plain:
            there = self.objects.get(plain.path)
            if there is not None and there.etag == plain.etag:
                return there.body
        return None

    def stage(self, data: bytes) -> Content:
        """A home for these bytes that no plan touches."""
        self.count += 1
        home = Packed(object_name(Fence(7), f"c{self.count}"), 0)
        if data:
            self.packed[home] = data
        return content_of(data).with_packed(home) if data else content_of(data)

    # --- a publish --------------------------------------------------------------------------------

    def commit(
        self,
        tree: Tree,
        before: Manifest,
        publish: PublishId,
        bodies: Mapping[Inode, bytes | None],
    ) -> Committed:
        """Stage and commit the tree as it is; `bodies` are the files' bytes, None where lost."""
        self.count += 1
        draft = draft_of(tree, is_visible)
        staged = {
            ino: self.stage(data) for ino in draft.changed if (data := bodies[ino]) is not None
        }
        old = [self.bytes_of(content) for content in draft.displaced]
        manifest = manifest_of(
            draft,
            staged,
            tuple(self.stage(data) for data in old if data is not None),
            before=before,
            predecessor=tree.base,
            publish=publish,
            time=float(self.count),
            kept_for=1e9,
        )
        plan = plan_of(
            manifest,
            tree.known,
            publish=publish,
            session=SessionId("a"),
            run=RunId("a"),
            user="anna",
            machine="ws7",
            is_visible=is_visible,
        )
        return Committed(manifest=manifest, name=ObjectName(publish), plan=plan)

    def apply(
        self, plan: Plan, chance: random.Random, *, lost: float = 0.0, nested_keys: bool = True
    ) -> dict[Path, Outcome]:
        """Carry out the plan as `stage.apply` does.

        `lost` is the share of sources that are, and of steps that are set aside.
        """
        outcomes: dict[Path, Outcome] = {}
        for steps in plan.rounds():
            shuffled: list[Step] = chance.sample(list(steps), len(steps))
            for step in shuffled:
                if chance.random() < lost:
                    outcomes[step.path] = SetAside()
                elif isinstance(step, Put) and chance.random() < lost:
                    outcomes[step.path] = SourceLost()
                elif isinstance(step, Put):
                    outcomes[step.path] = self._put(step, plan.publish, nested_keys)
                else:
                    there = self.objects.get(step.path)
                    if there is not None and there.etag != step.expect:
                        outcomes[step.path] = Stays(there.theirs)
                    else:
                        self.objects.pop(step.path, None)
                        outcomes[step.path] = Deleted()
        return outcomes

    def _put(self, put: Put, publish: PublishId, nested_keys: bool) -> Outcome:
        data = self.bytes_of(put.content)
        assert data is not None, put
        ours = Plain(data, publish)
        there = self.objects.get(put.path)
        if there is None and not nested_keys and self.is_nested(put.path):
            return self._put_copy(put.aside, ours, None, nested_keys)
        if there is None or there.etag == put.expect:
            self.objects[put.path] = ours
            return Done(ours.etag)
        return self._put_copy(put.conflict, ours, there.theirs, nested_keys)

    def _put_copy(
        self, path: Path, ours: Plain, theirs: Theirs | None, nested_keys: bool
    ) -> Outcome:
        taken = path in self.objects or (not nested_keys and self.is_nested(path))
        if taken or not is_visible(path):
            return Moved(path, None, theirs)
        self.objects[path] = ours
        return Moved(path, ours.etag, theirs)
