"""Bugs to plant in a copy of the source: each takes away what keeps a reader in one generation."""

from functools import partial

from tests.planted import Planted, PlantedBugs

_ABOUT = """\
Noticed by the tests of `pdfs/reader.py` and of what it rests on. The last column is the first that
failed.
"""

_bug = partial(Planted, where="tests/test_reader.py")

_BUGS = (
    _bug(
        what="bytes are served whatever their digest says",
        rule="a content that is found nowhere is an error that names the file, never other bytes",
        file="pdfs/stage/fetch.py",
        old="if _is_right(content, number, data, home) or data == unproven:",
        new="if data is not None:",
        test="not_those_published",
    ),
    _bug(
        what="a plain object is read whatever version it is",
        rule="a plain home is a key at one ETag",
        file="pdfs/stage/fetch.py",
        old="ctx.store.get(key, span=at, if_match=etag)",
        new="ctx.store.get(key, span=at)",
        test="another_tool_replaced",
    ),
    _bug(
        what="a home that is missing is not looked up",
        rule="who misses a home looks the digest up in the root's tree, then in its kept",
        file="pdfs/stage/fetch.py",
        old="    if found is None and look_up:\n",
        new="    if False:\n",
        test="every_byte",
    ),
    _bug(
        what="a home is looked up in one generation only, though that is replaced meanwhile",
        rule="what a publish takes away it has kept: a look-up follows the root",
        file="pdfs/stage/fetch.py",
        old="    while True:\n        root = await read_root(ctx)\n",
        new="    for _ in range(1):\n        root = await read_root(ctx)\n",
        where="tests/stage/test_fetch.py",
        test="takes_away",
    ),
    _bug(
        what="a replaced object that nobody had read is kept under its digest alone",
        rule="what a generation knows by a plain home can be found by that",
        file="pdfs/stage/staging.py",
        old="            home.with_plain(*(content.plain if content.digest is None else ()))\n",
        new="            home\n",
        test="every_byte and overwrite and found",
    ),
    _bug(
        what="a renamed file that nobody had read is known by its new home alone",
        rule="what a generation knows by a plain home can be found by that",
        file="pdfs/stage/publish.py",
        old="        (*staged.displaced, *_moved(staged, unread)),\n",
        new="        staged.displaced,\n",
        test="every_byte and found",
    ),
    _bug(
        what="a listing is shown though a publish came into it",
        rule="a listing is judged only if nothing was published before it was complete",
        file="pdfs/stage/present.py",
        old="        if root is None:\n            return listed\n",
        new="        return listed\n",
        test="during_which",
    ),
    _bug(
        what="a read-only mount takes changes",
        rule="every change in a read-only mount is EROFS",
        file="pdfs/mount/reading.py",
        old='    filesystem.read_only = SessionError("the stage is mounted read-only")\n',
        new="",
        test="every_change",
    ),
    _bug(
        what="a file keeps its number when its bytes change",
        rule="a replaced content is a new inode: pages and handles hold one generation's bytes",
        file="pdfs/core/moving.py",
        old="        return ino if _is_same(node, entry) else self.new()\n",
        new="        return ino\n",
        where="tests/core/test_moving.py",
        test="keeps_anything",
    ),
    _bug(
        what="a number that came back is given to a file that the kernel takes for another",
        rule="an inode number means the same bytes for as long as the mount lives",
        file="pdfs/core/moving.py",
        old="            return self.new() if ino in in_use else ino\n",
        new="            return ino\n",
        where="tests/core/test_moving.py",
        test="comes_back",
    ),
    _bug(
        what="the kernel is not told of names that a newer generation has otherwise",
        rule="what the kernel keeps is invalidated when another generation is shown",
        file="pdfs/fs/filesystem.py",
        old="        for parent, name in moved.names:\n"
        "            self.upward.invalidate(parent, raw_of(name))\n",
        new="",
        test="what_is_open_stays",
    ),
    _bug(
        what="a listing goes on in a newer generation than it began in",
        rule="a listing is never a mixture of two generations",
        file="pdfs/fs/handles.py",
        old="            child = self._tree.child(self.node.ino, text)\n",
        new="            child = tree.child(self.node.ino, text)\n",
        test="listing_that_has_begun",
    ),
    _bug(
        what="the kernel keeps the names of a listing that has been overtaken",
        rule="a listing is never a mixture of two generations",
        file="pdfs/fs/handles.py",
        old="        is_past = self._tree is not tree\n",
        new="        is_past = False\n",
        test="listing_that_has_begun",
    ),
    _bug(
        what="who follows stays in the generation that he opened",
        rule="a mount that follows goes over to newer generations",
        file="pdfs/reader.py",
        old="        while self.follows:\n",
        new="        while False:\n",
        where="tests/simulation/test_protocol.py",
        test="weather and fair",
    ),
    _bug(
        what="who follows goes back to an older generation",
        rule="a mount that follows goes over to newer generations only",
        file="pdfs/reader.py",
        old="        if manifest.generation < self._turned_to.generation:\n",
        new="        if False:\n",
        test="goes_back",
    ),
)

READING = PlantedBugs(title="Read-only mounts", about=_ABOUT, bugs=_BUGS, sample=2)
