"""Bugs to plant in a copy of the source: each switches one safety mechanism of the protocol off."""

from functools import partial

from tests.planted import Planted, PlantedBugs

_WHERE = "tests/simulation/test_protocol.py"
_ABOUT = """\
Noticed by the simulation of whole sessions on a bucket with faults. The last column is the first of
the runs that broke a rule, of those that the tests make with the list's seed.
"""

_bug = partial(Planted, where=_WHERE)

_BUGS = (
    # --- start ------------------------------------------------------------------------------------
    _bug(
        what="a Start does not raise the fence",
        rule="each Start raises the fence; numbers made under it are unique for ever",
        file="pdfs/stage/start.py",
        old="    return Fence(1 + max(locked, rooted))",
        new="    return Fence(max(1, locked, rooted))",
        test="weather and fair",
    ),
    _bug(
        what="a Start writes the root whatever came after it was read",
        rule="the root is written with If-Match of the version that was read",
        file="pdfs/stage/start.py",
        old="    condition: Condition = IfAbsent() if before is None else IfMatch(before.etag)\n",
        new="    condition: Condition | None = None\n",
        test="handed",
    ),
    _bug(
        what="a lock is taken whatever came after it was read",
        rule="the lock is taken with If-None-Match or If-Match, never unconditionally",
        file="pdfs/stage/start.py",
        old="outcome = await swap(ctx, ctx.keys.lock, lease.encode(lock), condition)",
        new="outcome = await swap(ctx, ctx.keys.lock, lease.encode(lock), None)",
        test="handed",
    ),
    _bug(
        what="the age of a lock is told by this machine's clock",
        rule="a lock's age is measured by the store's clock alone",
        file="pdfs/stage/lock.py",
        old="    return SeenLock(lock=lock, etag=found.info.etag, age=age)",
        new="    return SeenLock(lock=lock, etag=found.info.etag, age=ctx.now() - lock.renewed)",
        test="weather and fair",
    ),
    _bug(
        what="a lock that vanished is made again without a look at the root",
        rule="only the session whose fence the root carries makes its lock again",
        file="pdfs/stage/lock.py",
        old="            await root.read_held_root(self._ctx, self.lock.fence)\n",
        new="",
        test="vanished",
    ),
    _bug(
        what="one's own write whose answer was lost is taken for another's",
        rule="ambiguous answers: the same bytes again, then the id in what is there",
        file="pdfs/stage/swap.py",
        old="    if found is not None and found.body == body:\n",
        new="    if found is not None and not body:\n",
        test="himself",
    ),
    _bug(
        what="the root is swapped without looking at its version",
        rule="compare-and-swap of the root is the commit point",
        file="pdfs/stage/root.py",
        old="outcome = await swap(ctx, ctx.keys.root, body, IfMatch(seen.etag))",
        new="outcome = await swap(ctx, ctx.keys.root, body, None)",
        test="handed",
    ),
    # --- stage and commit -------------------------------------------------------------------------
    _bug(
        what="what is replaced is not copied away first",
        rule="what a plan replaces or deletes gets another home first",
        file="pdfs/stage/publish.py",
        old="staged = await stage_contents(ctx, seen.root.fence, files, draft.displaced)",
        new="staged = await stage_contents(ctx, seen.root.fence, files, ())",
        test="handed",
    ),
    _bug(
        what="a file whose bytes are only at its old name is not staged",
        rule="every changed content gets a home that no plan touches",
        file="pdfs/core/generation.py",
        old="            if not node.is_clean or (etag is None and not node.base.outlives_plain):",
        new="            if not node.is_clean:",
        test="handed",
    ),
    _bug(
        what="a staged content is not verified",
        rule="past the commit point every byte is in the bucket",
        file="pdfs/stage/immutable.py",
        old="        if stored.etag == expected:\n            return",
        new="        if stored:\n            return",
        test="every_fault and contents",
    ),
    _bug(
        what="bytes are read without a look at their digest",
        rule="bytes whose digest is wrong count as no bytes",
        file="pdfs/stage/fetch.py",
        old="        if _is_right(content, number, data):",
        new="        if data is not None:",
        test="every_fault and put",
    ),
    _bug(
        what="a plain object is read whatever its version",
        rule="nothing is ever spliced from two versions",
        file="pdfs/stage/fetch.py",
        old="key, at, etag = ctx.keys.plain(path), span, plain_etag",
        new="key, at, etag = ctx.keys.plain(path), span, None and plain_etag",
        test="handed",
    ),
    _bug(
        what="a publish whose commit answer was lost is committed twice",
        rule="a publish is found by the chain of trees, not by what its sender heard",
        file="pdfs/stage/catch_up.py",
        old="    while manifest.publish != flight.record.publish:\n",
        new="    while True:\n",
        test="every_fault and commit-root",
    ),
    # --- apply ------------------------------------------------------------------------------------
    _bug(
        what="a plain object is put without its condition",
        rule="a plain object is replaced only if it is the one that the user was served",
        file="pdfs/stage/apply.py",
        old="expect: Condition = IfAbsent() if put.expect is None else IfMatch(put.expect)",
        new="expect: Condition = None",
        test="handed",
    ),
    _bug(
        what="what is there instead is overwritten, no conflict copy is made",
        rule="another tool's object keeps its name; ours becomes a conflict copy",
        file="pdfs/stage/apply.py",
        old="                if not self._is_this_publish(there):\n"
        "                    return await self._put_copy(sending, put.conflict, _theirs(there))",
        new="                if not self._is_this_publish(there):\n"
        "                    condition = IfMatch(there.etag)\n"
        "                    continue",
        test="handed",
    ),
    _bug(
        what="one's own put that is refused is taken for another tool's object",
        rule="412: an object that carries this publish's name is its own",
        file="pdfs/stage/apply.py",
        old="        return there.metadata.get(PUBLISH) == self._plan.publish",
        new="        return there.metadata.get(PUBLISH) == ''",
        test="himself",
        seed=30,
    ),
    _bug(
        what="a put that arrived damaged is taken for done",
        rule="every object is verified before the settle",
        file="pdfs/stage/plain.py",
        old="if etag == self._md5 or not self._put.content.size:",
        new="if etag:",
        test="every_fault and put",
    ),
    _bug(
        what="a delete takes whatever is there",
        rule="a plain object is deleted only if it is the one that the user was served",
        file="pdfs/stage/apply.py",
        old="lambda: ctx.store.delete(key, condition=IfMatch(step.expect))",
        new="lambda: ctx.store.delete(key, condition=None)",
        test="handed",
    ),
    _bug(
        what="a signed delete does not look first",
        rule="where DELETE takes no condition: HEAD, sign, read the root, send once",
        file="pdfs/stage/apply.py",
        old="            if there.etag != step.expect:\n"
        "                return Stays(_theirs(there))\n",
        new="",
        test="handed",
    ),
    _bug(
        what="an unanswered delete is not waited out",
        rule="nobody settles while an unanswered delete is still valid",
        file="pdfs/stage/apply.py",
        old="                await ctx.unanswered.wait_out()\n",
        new="                return Deleted()\n",
        test="waited_out",
    ),
    _bug(
        what="a delete that was cancelled without an answer is forgotten",
        rule="nobody settles while an unanswered delete is still valid",
        file="pdfs/stage/apply.py",
        old="    await ctx.unanswered.wait_out()\n    applying",
        new="    applying",
        where="tests/stage/test_apply.py",
        test="cancelled",
    ),
    _bug(
        what="another process's plan is applied at once",
        rule="who finds another process's plan waits a minute before the first step",
        file="pdfs/stage/apply.py",
        old="    if plan.run != ctx.owner.run:\n",
        new="    if plan.run == '':\n",
        test="late_delete",
    ),
    _bug(
        what="a plan is applied though the root is another's by now",
        rule="before each batch the root is read; not its own version: stop",
        file="pdfs/stage/apply.py",
        old="        if now is None or now.etag != self._seen.etag:",
        new="        if now is None:",
        test="handed",
    ),
    _bug(
        what="a process that was frozen makes a conflict copy in another's stage",
        rule="nothing is sent under a new condition without a look at the root",
        file="pdfs/stage/apply.py",
        old="            await self._check_root()\n"
        "            with steps.at(steps.Step.APPLY_CONFLICT):\n",
        new="            with steps.at(steps.Step.APPLY_CONFLICT):\n",
        test="frozen",
    ),
    _bug(
        what="puts go before the deletes that make way for them",
        rule="deletes of a key above or below a put's key come first",
        file="pdfs/core/plan.py",
        old="        return clearing, self.puts, [step",
        new="        return self.puts, clearing, [step",
        test="becomes_a_directory",
    ),
    _bug(
        what="a plan is not finished, but forgotten",
        rule="any machine finishes the plan that the root names",
        file="pdfs/stage/catch_up.py",
        old="    outcomes = await apply(ctx, seen, plan)",
        new="    from pdfs.core.settle import Done\n"
        "    from pdfs.core.content import ETag\n"
        "    outcomes = {p.path: Done(ETag('0' * 32)) for p in (*plan.puts, *plan.deletes)}",
        test="handed",
    ),
    # --- settle -----------------------------------------------------------------------------------
    _bug(
        what="an object that the tree has no room for is counted as known",
        rule="expect is the ETag of what the user was served, nothing else",
        file="pdfs/core/settle.py",
        old="        if absent:\n            now",
        new="        if False:\n            now",
        test="handed",
    ),
    _bug(
        what="a publish counts as all edits made by now",
        rule="a publish is of the tree as of its sequence number S",
        file="pdfs/core/tree.py",
        old="            self.published_edits = self.in_flight.edits\n",
        new="            self.published_edits = self.edits\n",
        test="handed",
    ),
    _bug(
        what="bytes written since a publish began go with its settle",
        rule="contents as of S become bases, extents after S stay",
        file="pdfs/core/tree.py",
        old="            node.extents.drop_until(self.in_flight.boundary)\n",
        new="            node.extents.cut(0)\n",
        test="handed",
    ),
    # --- other tools ------------------------------------------------------------------------------
    _bug(
        what="a listing of a stage that is another's by now is judged",
        rule="judge a listing only if the root is ours, the same before and after, without a plan",
        file="pdfs/stage/root.py",
        old="    if seen is None or not seen.is_held_by(ctx.owner, fence):\n",
        new="    if seen is None:\n",
        test="former",
    ),
    _bug(
        what="a changed file is replaced or removed by what a listing says",
        rule="file dirty here: leave it",
        file="pdfs/core/merge.py",
        old="not node.is_file or not node.is_clean or node.ino in self.busy:",
        new="not node.is_file or node.ino in self.busy:",
        test="handed",
    ),
    _bug(
        what="an open file is replaced or removed by what a listing says",
        rule="file open here: leave it",
        file="pdfs/core/merge.py",
        old="not node.is_file or not node.is_clean or node.ino in self.busy:",
        new="not node.is_file or not node.is_clean:",
        test="handed",
    ),
    _bug(
        what="what a publish may replace is taken from the listing",
        rule="expect is the ETag of what the user was served, nothing else",
        file="pdfs/core/merge.py",
        old="        if node is not None and self._is_ours_to_keep(path, node):\n"
        "            return\n",
        new="        if node is not None and self._is_ours_to_keep(path, node):\n"
        "            theirs = Content(size=row.size, digest=None, plain=(Plain(path, row.etag),))\n"
        "            self.out.records.append(Echoed(path=path, content=theirs))\n"
        "            return\n",
        test="handed",
    ),
    # --- the end of a session ---------------------------------------------------------------------
    _bug(
        what="a superseded session publishes all the same",
        rule="who stands on another generation than the root's publishes nothing",
        file="pdfs/stage/catch_up.py",
        old="                return Standing.SUPERSEDED if is_all_in else Standing.MOVED\n",
        new="                return Standing.CURRENT if is_all_in else Standing.MOVED\n",
        test="handed",
    ),
    _bug(
        what="a superseded session does not say what it lost",
        rule="called saved means that it is all in the bucket, or named",
        file="pdfs/session.py",
        old="        self.missing = await missing_of(self._ctx, self._hold.root.root, "
        "self._resumed)\n",
        new="",
        test="superseded",
    ),
    _bug(
        what="work on a generation that is no longer the current one is published over it",
        rule="who stands on another generation than the root's publishes nothing",
        file="pdfs/stage/catch_up.py",
        old="    is_all_in = not holds_work(tree)\n"
        "    return Standing.SUPERSEDED if is_all_in else Standing.MOVED",
        new="    return Standing.CURRENT",
        test="handed",
    ),
    _bug(
        what="the session ends without having published",
        rule="called saved means that it is all in the bucket",
        file="pdfs/session.py",
        old="            if stands is Standing.SUPERSEDED or not is_left:",
        new="            if stands is Standing.SUPERSEDED or work.tree.in_flight is None:",
        test="weather and fair",
    ),
    _bug(
        what="the session ends with its commit, before plan and verification",
        rule="the lock is released only after the publish was verified",
        file="pdfs/session.py",
        old="            is_tried = True\n",
        new="            return\n",
        test="weather and fair",
    ),
    _bug(
        what="the lock is released before the publish",
        rule="the lock is released only after the publish was verified",
        file="pdfs/session.py",
        old="                await self._upload(work)\n",
        new="                await self._hold.release()\n"
        "                await self._upload(work)\n",
        test="weather and fair",
    ),
    Planted(
        what="a stage that another had, published and gave back meanwhile is published over",
        rule="who stands on another generation than the root's publishes nothing",
        file="pdfs/session.py",
        old="        if caught.standing is Standing.SUPERSEDED and not ends:\n",
        new="        if False:\n",
        where="tests/mount/test_publish.py",
        test="another_had",
    ),
    Planted(
        what="a file that took the place of ours is replaced by a program that never looked at it",
        rule="a plain object is replaced only if it is the one that the user was served",
        file="pdfs/core/generation.py",
        old="        if ino not in opened and not is_as_found:\n",
        new="        if False:\n",
        where="tests/mount/test_publish.py",
        test="saves_again",
    ),
    Planted(
        what="a publish reads files as they are when it comes to them",
        rule="a publish is of the tree as of one record",
        file="pdfs/stage/publish.py",
        old="        frozen = work.tree.frozen()\n",
        new="        frozen = work.tree\n",
        where="tests/stage/test_publish_beside.py",
        test="beside_the_computing",
    ),
    _bug(
        what="a publish goes on from a root that a cancelled one may still change",
        rule="after a write whose answer nobody heard, the way on leads through a Start",
        file="pdfs/stage/hold.py",
        old="            self._is_root_doubtful = True\n",
        new="",
        test="himself",
    ),
    _bug(
        what="the journal goes before the publish",
        rule="local bytes are dropped only after the settle",
        file="pdfs/session.py",
        old="                await self._upload(work)\n",
        new="                await self._workspace.retire()\n"
        "                await self._upload(work)\n",
        test="handed",
    ),
)

PROTOCOL = PlantedBugs(title="The protocol", about=_ABOUT, bugs=_BUGS, sample=10)
