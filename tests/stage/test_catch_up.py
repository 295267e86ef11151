"""Catching up: what was published is known by the trees, and what is lost keeps its session."""

from dataclasses import replace

import pytest
import trio

from pdfs.core.ids import Path, Sequence
from pdfs.errors import ObjectDamaged, StageMoved, StoreUnavailable
from pdfs.stage.catch_up import Standing
from pdfs.store.faulty import Fate, Request
from pdfs.store.step import Step
from tests.stage.contexts import Site
from tests.stage.works import Person, sit_down

PLAN = Path("plan.dwg")
LIST = Path("list.csv")
BYTES = b"drawn by anna"


async def cut_off_before_commit(site: Site) -> Person:
    """anna, whose publish never reached the root."""

    def fate_of(request: Request) -> Fate:
        return Fate.REQUEST_LOST if request.step is Step.COMMIT_ROOT else Fate.FINE

    async with trio.open_nursery() as late:
        anna = await sit_down(site, site.context(store=site.behind(late, fate_of)))
        anna.editor.write(PLAN, BYTES)
        with pytest.raises(StoreUnavailable):
            await anna.publish()
        late.cancel_scope.cancel()
    anna.ctx = replace(anna.ctx, store=site.store)
    assert anna.work.tree.in_flight is not None
    return anna


async def other_publishes(site: Site) -> None:
    """bert takes the stage, finishes what he finds, and publishes something of his own."""
    bert = await sit_down(site, site.context("bert", machine="ws8"))
    bert.editor.write(Path("bert.txt"), b"by bert %f" % trio.current_time())
    await bert.save()


async def take_away_contents(site: Site) -> None:
    """Another tool removes every contents object that PDFS keeps."""
    for key in [key for key in site.store.objects if "/contents/" in key]:
        await site.store.delete(key, condition=None)


# --- what proves a publish ------------------------------------------------------------------------


async def test_a_publish_that_was_never_committed_still_has_to_be_made() -> None:
    anna = await cut_off_before_commit(Site())
    assert await anna.standing() is Standing.CURRENT


async def test_a_session_that_was_discarded_and_brought_back_is_not_taken_for_published() -> None:
    """The root knows nothing of it any more, as if all of it had been published."""
    anna = await cut_off_before_commit(Site())
    await anna.discard()
    assert await anna.standing() is Standing.CURRENT


async def test_a_discarded_session_is_not_taken_for_published_when_others_went_on() -> None:
    site = Site()
    anna = await cut_off_before_commit(site)
    await anna.discard()
    await other_publishes(site)
    assert await anna.standing() is Standing.MOVED


async def test_a_session_whose_publish_was_overtaken_before_its_commit_keeps_its_work() -> None:
    site = Site()
    anna = await cut_off_before_commit(site)
    await other_publishes(site)
    assert await anna.standing() is Standing.MOVED
    anna.root = (await sit_down(site, site.context("carl"))).root
    with pytest.raises(StageMoved):
        await anna.catch_up()
    assert anna.changed(PLAN)


@pytest.mark.parametrize("others", [0, 1, 3])
async def test_a_publish_is_found_however_many_others_have_published_since(others: int) -> None:
    site = Site()
    anna = await sit_down(site, site.context())
    anna.editor.write(PLAN, BYTES)
    await anna.publish()  # and her machine dies
    for _ in range(others):
        await other_publishes(site)
    assert await anna.standing() is (Standing.SUPERSEDED if others else Standing.COMMITTED)


async def rolled_back(site: Site) -> Person:
    """anna, whose work stands on a generation that an older copy of the root has since undone."""
    anna = await sit_down(site, site.context())
    anna.editor.write(PLAN, BYTES)
    await anna.save()
    root = site.store.objects[site.keys.root].body
    await anna.begin_again()
    anna.editor.write(LIST, b"the second generation")
    await anna.save()
    await anna.begin_again()
    anna.editor.write(Path("more.txt"), b"work of anna")
    await site.store.put(site.keys.root, root, condition=None)
    return anna


async def test_a_generation_is_not_taken_for_another_of_the_same_number() -> None:
    """The root came back from a backup, and bert published on it: his bytes are not hers."""
    site = Site()
    anna = await rolled_back(site)
    bert = await sit_down(site, site.context("bert", machine="ws8"))
    bert.editor.write(PLAN, b"drawn anew, and longer, by bert")
    await bert.save()
    assert bert.root.root.generation == anna.work.tree.generation
    assert await anna.standing() is Standing.MOVED
    await anna.resume()
    await anna.save()
    carl = await sit_down(site, site.context("carl"))
    found = {path: node.size for path, node in carl.work.tree.walk()}
    assert found == {
        PLAN: len(b"drawn anew, and longer, by bert"),
        LIST: len(b"the second generation"),
        Path("more.txt"): len(b"work of anna"),
    }


async def test_work_on_a_generation_that_the_root_lost_is_merged_into_an_older_one() -> None:
    site = Site()
    anna = await rolled_back(site)
    assert await anna.standing() is Standing.MOVED
    await anna.resume()
    await anna.take_in()
    await anna.save()
    assert plain(site, LIST) == b"the second generation"
    assert plain(site, Path("more.txt")) == b"work of anna"
    assert not copies(site)


async def test_work_whose_root_is_gone_is_kept_and_told() -> None:
    site = Site()
    anna = await sit_down(site, site.context())
    anna.editor.write(PLAN, BYTES)
    await anna.save()
    await anna.begin_again()
    anna.editor.write(LIST, b"work of anna")
    await site.store.delete(site.keys.root, condition=None)
    with pytest.raises(ObjectDamaged, match="root"):
        await anna.resume()
    assert anna.changed(LIST)


async def test_what_was_written_after_the_publish_is_in_none() -> None:
    site = Site()
    anna = await sit_down(site, site.context())
    anna.editor.write(PLAN, BYTES)
    await anna.publish()
    anna.editor.write(PLAN, b"later")
    await other_publishes(site)
    assert await anna.standing() is Standing.MOVED


# --- others have published since ------------------------------------------------------------------


def plain(site: Site, path: Path) -> bytes:
    return site.store.objects[site.keys.plain(path)].body


def copies(site: Site) -> list[bytes]:
    return [stored.body for key, stored in site.store.objects.items() if "(conflict " in key]


@pytest.mark.parametrize("later", [b"", b"and later"])
async def test_what_another_tool_wrote_over_a_committed_file_survives_the_merge(
    later: bytes,
) -> None:
    """bert finishes her plan and makes the conflict copy; her journal knows nothing of it."""
    site = Site()
    anna = await sit_down(site, site.context())
    anna.editor.write(PLAN, b"base")
    await anna.save()
    await anna.begin_again()
    anna.editor.write(PLAN, BYTES)
    await anna.publish()
    await site.store.put(site.keys.plain(PLAN), b"foreign", condition=None)
    if later:
        anna.editor.write(PLAN, later)
    anna.editor.write(LIST, b"and a list")
    await other_publishes(site)
    await anna.resume()
    await anna.save()
    assert plain(site, PLAN) == b"foreign"
    assert plain(site, LIST) == b"and a list"
    assert sorted(copies(site)) == sorted({BYTES, later or BYTES})


async def test_a_file_that_bert_changed_since_is_his_and_ours_lies_beside_it() -> None:
    site = Site()
    anna = await sit_down(site, site.context())
    anna.editor.write(PLAN, b"base")
    await anna.save()
    await anna.begin_again()
    anna.editor.write(PLAN, BYTES)
    bert = await sit_down(site, site.context("bert", machine="ws8"))
    bert.editor.write(PLAN, b"by bert")
    await bert.save()
    await anna.resume()
    await anna.save()
    assert plain(site, PLAN) == b"by bert"
    assert copies(site) == [BYTES]


async def test_a_file_whose_bytes_bert_found_nowhere_keeps_those_that_are_here() -> None:
    site = Site()
    anna = await sit_down(site, site.context())
    anna.editor.write(PLAN, BYTES)
    await anna.publish()
    await take_away_contents(site)
    await other_publishes(site)
    assert site.keys.plain(PLAN) not in site.store.objects
    await anna.resume()
    assert await anna.editor.read(PLAN) == BYTES
    await anna.save()
    assert plain(site, PLAN) == BYTES
    assert copies(site) == []


# --- what is lost ---------------------------------------------------------------------------------


async def test_a_superseded_publish_with_a_lost_file_is_not_all_in_the_bucket() -> None:
    """bert finishes anna's plan, but the bytes of her file are gone: she alone still has them."""
    site = Site()
    anna = await sit_down(site, site.context())
    anna.editor.write(PLAN, BYTES)
    await anna.publish()
    await take_away_contents(site)
    await other_publishes(site)
    assert await anna.standing() is Standing.MOVED
    assert await anna.editor.read(PLAN) == BYTES


async def test_a_session_whose_file_is_lost_stays_in_the_root_and_keeps_the_bytes() -> None:
    site = Site()
    anna = await sit_down(site, site.context())
    anna.editor.write(PLAN, BYTES)
    await anna.publish()
    await take_away_contents(site)
    caught = await anna.catch_up(ends=True)
    assert caught.lost == (PLAN,)
    assert await anna.is_in_root()
    assert anna.changed(PLAN)
    assert await anna.editor.read(PLAN) == BYTES


async def test_a_session_with_a_file_that_could_not_be_made_whole_stays_in_the_root() -> None:
    """Only a byte of it is anna's; another tool took the rest away before anybody read it."""
    site = Site()
    await site.store.put(site.keys.plain(LIST), bytes(300), condition=None)
    anna = await sit_down(site, site.context())
    await site.store.put(site.keys.plain(LIST), b"replaced", condition=None)
    node = anna.work.tree.find(LIST)
    assert node is not None
    anna.editor.write(PLAN, BYTES)
    anna.editor.write_at(LIST, 7, b"!")
    await anna.publish()
    caught = await anna.catch_up(ends=True)
    assert caught.standing is Standing.COMMITTED
    assert await anna.is_in_root()
    assert anna.changed(LIST)
    assert not anna.changed(PLAN)


async def test_a_session_that_went_on_during_its_publish_stays_in_the_root() -> None:
    site = Site()
    anna = await sit_down(site, site.context())
    anna.editor.write(PLAN, BYTES)
    await anna.publish()
    anna.editor.write(LIST, b"1;2;3")
    await anna.catch_up(ends=True)
    assert await anna.is_in_root()
    await anna.save()
    assert not await anna.is_in_root()


async def test_a_publish_over_what_is_no_root_is_damage_and_nobody_else_has_the_stage() -> None:
    site = Site()
    anna = await sit_down(site, site.context())
    anna.editor.write(PLAN, BYTES)
    root = site.store.objects[site.keys.root].body
    await site.store.put(site.keys.root, b"<html>", condition=None)
    with pytest.raises(ObjectDamaged, match="check Kraftwerk/planning"):
        await anna.publish()
    assert await anna.editor.read(PLAN) == BYTES
    await site.store.put(site.keys.root, root, condition=None)
    await anna.publish()


async def test_a_session_that_is_published_wholly_leaves_the_root() -> None:
    site = Site()
    anna = await sit_down(site, site.context())
    anna.editor.write(PLAN, BYTES)
    await anna.save()
    assert not await anna.is_in_root()
    assert not anna.work.tree.has_edits
    assert anna.work.last > Sequence(0)
