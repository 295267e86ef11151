"""What a look at a whole stage means: every deviation from what was written, one by one.

A *look* (`core.look`) is what root, trees, plan, listings and, if asked for, the bytes themselves
said. A *finding* (`core.finding`) is one deviation of one thing, with its consequence and the
remedy. Where root or current tree can't be trusted (`core.foundation`), nothing else can be judged.
"""

from collections.abc import Iterable, Iterator

from pdfs.core.content import Content, Packed
from pdfs.core.entries import Entry
from pdfs.core.finding import Finding, Level, damage, waiting
from pdfs.core.foundation import BACKUP, foundation, is_judgeable
from pdfs.core.garbage import garbage
from pdfs.core.generation import tree_of
from pdfs.core.ids import Fence, Inode, Path
from pdfs.core.lease import Lock
from pdfs.core.look import Homes, Look, Places
from pdfs.core.manifest import Manifest
from pdfs.core.merge import Merged, merge_listing
from pdfs.core.moments import local_moment
from pdfs.core.plan import Plan
from pdfs.core.record import Echoed, Found, Gone
from pdfs.core.root import Restored, SessionEntry


def findings(look: Look) -> list[Finding]:
    """Every deviation, the graver ones first."""
    found = [*foundation(look)]
    if is_judgeable(look):
        places = Places(look)
        found += [*_files(look, places), *_kept(look, places), *_older(look)]
        found += [*_old_plans(look), *_others(look), *_leftovers(look)]
    found += _waiting(look)
    order = list(Level)
    return sorted(found, key=lambda each: order.index(each.level))


# --- files --------------------------------------------------------------------------------------


def _files(look: Look, places: Places) -> Iterator[Finding]:
    if look.tree is None:
        return
    is_settled = look.root is not None and look.root.plan is None
    for entry in look.tree.entries:
        content = entry.content
        if content is None or not content.size:
            continue
        homes = places.of(content)
        if entry.lost or not homes.good:
            yield from _lost(entry, content, homes, places, look)
        else:
            yield from _half(entry, content, homes, places)
    if is_settled:
        yield from _unput(look)


def _lost(
    entry: Entry, content: Content, homes: Homes, places: Places, look: Look
) -> Iterator[Finding]:
    if entry.lost and homes.good:
        yield damage(
            "found",
            entry.path,
            "it was published as lost, and its bytes are there",
            "other tools don't see it",
            "pdfs check --repair puts it",
            is_repairable=True,
        )
        return
    if not homes.bad and entry.etag is not None:
        return  # another tool's object has its place
    why = "; ".join(places.why(home, content) for home in homes.bad)
    yield damage(
        "lost",
        entry.path,
        why or "it was published as lost",
        "its bytes are nowhere in the bucket: reading it fails, and its name stays",
        "bring its object back from a backup, or the file from wherever there is a copy",
        is_repairable=not entry.lost and (look.root is None or look.root.plan is None),
    )


def _half(entry: Entry, content: Content, homes: Homes, places: Places) -> Iterator[Finding]:
    for home in homes.bad:
        if isinstance(home, Packed):
            kind, means = "content", "PDFS reads the file from another place, perhaps the last one"
            remedy = "pdfs check --repair lets go of the place that is none"
        elif home.path == entry.path:
            kind, means = "plain", "other tools read what was never written"
            remedy = "pdfs check --repair puts it again"
        else:
            continue  # told at its own name
        why = places.why(home, content)
        yield damage(kind, entry.path, why, means, remedy, is_repairable=True)


def _unput(look: Look) -> Iterator[Finding]:
    assert look.tree is not None
    there = {row.path for row in look.rows}
    for entry in look.tree.entries:
        if entry.content is None or entry.lost or entry.etag is not None:
            continue
        if not look.is_visible(entry.path) or entry.path in look.tree.aside:
            continue
        if entry.path not in there:
            yield damage(
                "unput",
                entry.path,
                "it has no plain object",
                "other tools don't see it",
                "pdfs check --repair puts it",
                is_repairable=True,
            )
            continue
        yield Finding(
            level=Level.FOREIGN,
            kind="in-place",
            path=entry.path,
            what="another tool's object has the place of its plain object",
            means="PDFS shows ours, other tools see theirs",
            remedy="mount the stage and publish: theirs stays, ours becomes a conflict copy",
        )


def _kept(look: Look, places: Places) -> Iterator[Finding]:
    if look.tree is None:
        return
    lost = {entry.content.digest for entry in look.tree.entries if entry.content and entry.lost}
    for digest, kept in look.tree.kept.items():
        if digest in lost:
            continue  # told by its name
        homes = places.of(kept.content)
        if kept.content.size and not homes.good:
            yield damage(
                "kept",
                f"content {digest.hex()}",
                "; ".join(places.why(home, kept.content) for home in homes.bad),
                "it was replaced or removed, and can't be read by who still shows it",
                "none is needed unless somebody wants it back: it would go by itself in some days",
            )


def _older(look: Look) -> Iterator[Finding]:
    """What only older generations, or sessions that have not ended, name, and nobody has."""
    if look.tree is None:
        return
    told = {digest for content in look.tree.contents() if (digest := content.digest) is not None}
    for name, digests in sorted(look.lacking.items()):
        if digests - told:
            yield damage(
                "older",
                f"contents/{name}",
                "it is gone, or is too short",
                "an earlier generation, or a session that has not ended, needs it",
                BACKUP,
            )


def _old_plans(look: Look) -> Iterator[Finding]:
    for key, why in sorted(look.old_plans.items()):
        yield damage(
            "old-plan",
            key,
            why,
            "a late write of that publish would be taken for another tool's",
            "none is needed: it goes by itself in some days",
        )


# --- what is no damage --------------------------------------------------------------------------


def _others(look: Look) -> Iterator[Finding]:
    """What other tools did, as the next mount will see it."""
    if look.root is None or look.root.plan is not None or look.tree is None:
        return
    merged = merged_of(look)
    for path, kind in _judged(merged, look.tree):
        yield Finding(
            level=Level.FOREIGN,
            kind=kind,
            path=path,
            what=_WORDS[kind],
            means="the next mount takes it in",
            remedy="nothing needs to be done; pdfs check --repair takes it in now",
            is_repairable=True,
        )
    for warned in merged.warnings:
        yield Finding(
            level=Level.FOREIGN,
            kind="no-file",
            path=warned.path,
            what=f"another tool's object that is no file here: {warned.why}",
            means="no mount shows it",
            remedy="rename it, if it is needed",
        )


_WORDS = {
    "made": "another tool made it",
    "replaced": "another tool replaced it",
    "removed": "another tool removed it",
    "echo": "a late write of an earlier publish replaced it",
}


def _judged(merged: Merged, tree: Manifest) -> Iterator[tuple[Path, str]]:
    known = {entry.path for entry in tree.entries}
    for record in merged.records:
        match record:
            case Found(path=path):
                yield path, "replaced" if path in known else "made"
            case Gone(path=path):
                yield path, "removed"
            case Echoed(path=path):
                yield path, "echo"
            case _:
                pass


def merged_of(look: Look) -> Merged:
    """What a mount would take in."""
    assert look.root is not None
    assert look.tree is not None
    tree = tree_of(look.tree, look.root.tree, uid=0, gid=0)
    numbers = iter(range(max([1, *tree.nodes]) + 1, 1 << 63))
    return merge_listing(
        tree,
        look.rows,
        busy=frozenset(),
        echoes=look.echoes,
        new_inode=lambda: Inode(next(numbers)),
        time=0,
    )


def _waiting(look: Look) -> Iterator[Finding]:
    root = look.root
    if root is not None and look.plan is not None:
        yield _unfinished(look, look.plan)
    for path in () if look.tree is None else look.tree.aside:
        yield waiting(
            "aside",
            path,
            "a publish was ended without it, by its user's word",
            "PDFS shows the new generation, other tools see what was there before",
            "the next publish tries it again",
        )
    for entry in () if root is None else root.sessions:
        if look.lock is None or entry.session != look.lock.session:
            yield _unended(entry)
    if look.lock is not None and not look.is_owner_alive:
        yield _left(look.lock)
    if root is not None and root.restored is not None and look.now < root.restored.until:
        yield _restored(root.restored)


def _unfinished(look: Look, plan: Plan) -> Finding:
    what = (
        f"a publish of {plan.user} on {plan.machine} is not finished: "
        f"{len(plan.steps)} plain objects are to be brought up to date"
    )
    means = "PDFS shows the new generation, other tools don't see all of it yet"
    if look.is_owner_alive and look.lock is not None:
        remedy = f"none: {look.lock.user} on {look.lock.machine} has the stage, and is at it"
        return waiting("plan", plan.publish, what, means, remedy)
    remedy = "the next mount finishes it; or pdfs check --repair"
    is_repairable = is_judgeable(look)
    return waiting("plan", plan.publish, what, means, remedy, is_repairable=is_repairable)


def _unended(entry: SessionEntry) -> Finding:
    return waiting(
        "session",
        entry.session,
        f"a session of {entry.user} on {entry.machine} has not ended",
        "what it has not published, if anything, waits there",
        "on that machine: pdfs recover list",
    )


def _left(lock: Lock) -> Finding:
    """Of the session that has the lock, and does not renew it."""
    return waiting(
        "session",
        lock.session,
        f"a session of {lock.user} on {lock.machine} has the stage, and has not been heard of since"
        f" {local_moment(lock.renewed)}",
        "what it has not published, if anything, waits there",
        "on that machine: pdfs status, pdfs recover list",
    )


def _restored(restored: Restored) -> Finding:
    return waiting(
        "restored",
        "root.json",
        "a repair made it anew",
        f"until {local_moment(restored.until)} nothing goes that was in the bucket before: sessions"
        " that it does not know may need it",
        "on each machine where the stage was edited: pdfs recover list",
    )


def _leftovers(look: Look) -> Iterator[Finding]:
    if look.root is not None and not look.unread:
        fence = Fence(look.root.fence + 1)
        for each in garbage(look.objects, look.named, look.root, fence, look.now):
            yield _leftover("object", look.key(each), "nothing names it any more")
        for upload in look.uploads:
            yield _leftover("upload", upload.key, "an upload that nobody goes on with")
    if look.hides_uploads:
        yield Finding(
            level=Level.LEFTOVER,
            kind="uploads",
            path="uploads in parts",
            what="the bucket does not let this user list them",
            means="some may be left over",
            remedy="give him the right to (on AWS s3:ListBucketMultipartUploads)",
        )
    for key in look.strange:
        yield Finding(
            level=Level.FOREIGN,
            kind="strange",
            path=key,
            what="it is among PDFS's own objects, and none of them",
            means="PDFS does not touch it",
            remedy="remove it, if you know whose it is",
        )


def _leftover(kind: str, key: str, what: str) -> Finding:
    return Finding(
        level=Level.LEFTOVER,
        kind=kind,
        path=key,
        what=what,
        means="it takes room",
        remedy="it goes by itself when it is old enough; or pdfs check --repair",
        is_repairable=True,
    )


def is_whole(found: Iterable[Finding]) -> bool:
    """Whether there is no damage among them."""
    return all(each.level is not Level.DAMAGE for each in found)
