"""What a stage rests on: its root, the trees and the plan that it names; and what is wrong there.

Nothing follows from a root or a current tree that can't be read. A repair then goes on from the
newest generation that is left (`core.restore`), and says what that can't bring back.
"""

from collections.abc import Iterator

from pdfs.core.finding import Finding, damage
from pdfs.core.look import Look
from pdfs.core.manifest import Manifest
from pdfs.core.moments import local_moment
from pdfs.core.restore import Past
from pdfs.core.root import Root


def is_judgeable(look: Look) -> bool:
    """Whether the root and its tree can be trusted: else nothing follows from what they say."""
    if look.root is None or look.newer or look.broken_root:
        return False
    if look.root.tree is None:
        return True
    return look.tree is not None and look.tree.generation == look.root.generation


BACKUP = "bring it back from a backup of the bucket"
_NOTHING_LEFT = (
    f"{BACKUP}; without one, only the plain objects are left: who removes all below .pdfs/STAGE/"
    " begins anew with them"
)


def foundation(look: Look) -> Iterator[Finding]:
    """What is wrong with root, lock, trees and plan."""
    yield from _basis(look)
    yield from _unread(look)


def _basis(look: Look) -> Iterator[Finding]:
    if look.broken_root:
        yield damage(
            "root",
            "root.json",
            look.broken_root,
            "nobody can mount the stage",
            _way_back(look),
            is_repairable=look.past is not None,
        )
    if look.broken_lock:
        yield damage(
            "lock",
            "lock",
            look.broken_lock,
            "nobody can take the stage",
            "if nobody works on it: pdfs lock break",
        )
    for key in look.newer:
        yield damage(
            "old-root",
            key,
            "it is of a history that the root does not continue",
            "the root was replaced by an older one, or made anew, and publishes are forgotten",
            "if it is wanted, and nobody has published since: remove root.json, then pdfs check"
            " --repair; if nobody wants it, delete the object",
        )
    if look.root is not None and look.tree is not None:
        yield from _mismatches(look, look.root, look.tree)


def _mismatches(look: Look, root: Root, tree: Manifest) -> Iterator[Finding]:
    if tree.generation != root.generation:
        yield damage(
            "tree",
            str(root.tree),
            f"it is of generation {tree.generation}, the root's is {root.generation}",
            "another tree lies where the current one should, and nobody can mount the stage",
            _way_back(look),
            is_repairable=look.past is not None,
        )


def _way_back(look: Look) -> str:
    """What to do where there is no generation that could be opened."""
    past = look.past
    if look.is_of_other_version:
        return "use the version of PDFS that wrote it; this one changes nothing"
    if past is None:
        return f"change nothing; {BACKUP}" if look.newer else _NOTHING_LEFT
    when = local_moment(past.time)
    back = f"pdfs check --repair brings back generation {past.generation}, published {when}"
    return back if past.is_whole else f"{back}; {lost_with(past)}"


def lost_with(past: Past) -> str:
    """What a repair that goes on from `past` can't bring back."""
    newer = "a newer one may be among the trees that can't be read"
    if past.is_behind:
        newer = "a newer one was published, and its trees are gone or can't be read"
    return (
        f"{newer}: what only its tree said is lost (modes, links, xattrs, names that no object can"
        " have), and what its plain objects hold is taken in from there"
    )


def _unread(look: Look) -> Iterator[Finding]:
    for each in look.unread:
        kind, remedy, is_repairable = "tree", BACKUP, False
        if each.is_plan:
            kind, is_repairable = "plan", is_judgeable(look)
            remedy = "pdfs check --repair makes it anew" if is_repairable else BACKUP
        elif each.is_current:
            remedy, is_repairable = _way_back(look), look.past is not None
        means = f"it is needed by {each.needed}"
        yield damage(kind, each.key, each.why, means, remedy, is_repairable=is_repairable)
