"""Each safety mechanism of the protocol is switched off in a copy of the source, and is missed.

A planted bug that the simulation doesn't notice is a rule that nothing holds.
"""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Planted:
    """Replace `old` by `new` in `file`; `old` stands there exactly once."""

    what: str
    file: str
    old: str
    new: str


PLANTED = (
    Planted(
        "a plain object is put without its condition",
        "pdfs/stage/apply.py",
        "expect: Condition = IfAbsent() if put.expect is None else IfMatch(put.expect)",
        "expect: Condition = None",
    ),
    Planted(
        "a conflict copy is not made: what is there is overwritten",
        "pdfs/stage/apply.py",
        "                if not self._is_this_publish(there):\n"
        "                    return await self._put_copy(sending, put.conflict, _theirs(there))",
        "                if not self._is_this_publish(there):\n"
        "                    condition = IfMatch(there.etag)\n"
        "                    continue",
    ),
    Planted(
        "a delete takes whatever is there",
        "pdfs/stage/apply.py",
        "lambda: ctx.store.delete(key, condition=IfMatch(step.expect))",
        "lambda: ctx.store.delete(key, condition=None)",
    ),
    Planted(
        "a signed delete does not look first",
        "pdfs/stage/apply.py",
        "            if there.etag != step.expect:\n                return Stays(_theirs(there))\n",
        "",
    ),
    Planted(
        "the root is swapped without looking at its version",
        "pdfs/stage/root.py",
        "outcome = await swap(ctx, ctx.keys.root, body, IfMatch(seen.etag))",
        "outcome = await swap(ctx, ctx.keys.root, body, None)",
    ),
    Planted(
        "a plan is not finished, but forgotten",
        "pdfs/stage/catch_up.py",
        "    outcomes = await apply(ctx, seen, plan)",
        "    from pdfs.core.settle import Done\n"
        "    from pdfs.core.content import ETag\n"
        "    outcomes = {p.path: Done(ETag('0' * 32)) for p in (*plan.puts, *plan.deletes)}",
    ),
    Planted(
        "a publish whose commit answer was lost is committed twice",
        "pdfs/stage/catch_up.py",
        "    while manifest.publish != flight.record.publish:\n",
        "    while True:\n",
    ),
    Planted(
        "what is replaced is not copied away first",
        "pdfs/stage/publish.py",
        "return await stage_contents(ctx, fence, files, draft.displaced)",
        "return await stage_contents(ctx, fence, files, ())",
    ),
    Planted(
        "files with a name only in the old place are not staged",
        "pdfs/core/generation.py",
        "            if not node.is_clean or (etag is None and not node.base.outlives_plain):",
        "            if not node.is_clean:",
    ),
    Planted(
        "the session ends without having published",
        "pdfs/session.py",
        "            if stands is Standing.SUPERSEDED or not is_left:",
        "            if stands is Standing.SUPERSEDED or work.tree.in_flight is None:",
    ),
    Planted(
        "a staged content is not verified",
        "pdfs/stage/immutable.py",
        "        if stored.etag == expected:\n            return",
        "        if stored:\n            return",
    ),
    Planted(
        "a put that arrived damaged is taken for done",
        "pdfs/stage/plain.py",
        "if etag == self._md5 or not self._put.content.size:",
        "if etag:",
    ),
    Planted(
        "bytes are read without a look at their digest",
        "pdfs/stage/fetch.py",
        "        if _is_right(content, number, data):",
        "        if data is not None:",
    ),
)


SEED = {"PDFS_TEST_SEED": "0"}
"""With which each of them was seen to be noticed: what one seed misses, another may find."""


def chosen() -> Sequence[Planted]:
    """All of them, or a few that the seed chooses."""
    if os.environ.get("PDFS_TEST_LENGTH") == "full":
        return PLANTED
    return random.Random(os.environ.get("PDFS_TEST_SEED", "0")).sample(PLANTED, 2)


@pytest.mark.parametrize("planted", chosen(), ids=lambda planted: planted.what)
def test_the_simulation_notices_that(planted: Planted, tmp_path: Path) -> None:
    for name in ("pdfs", "tests", "pyproject.toml"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path / name)
    target = tmp_path / planted.file
    text = target.read_text()
    assert text.count(planted.old) == 1, "the planted bug fits the source no more"
    target.write_text(text.replace(planted.old, planted.new))
    run = subprocess.run(
        [
            sys.executable,
            *("-m", "pytest", "-q", "-x", "tests/simulation/test_protocol.py"),
            f"--basetemp={tmp_path / 'pytest'}",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PDFS_TEST_LENGTH": "sample", **SEED},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1, f"nothing was noticed:\n{run.stdout[-2000:]}"
