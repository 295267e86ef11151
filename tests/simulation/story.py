"""One story that takes a stage through every step of the protocols, with one fault at one place.

anna on ws1 and bert on ws2 work on a project that other tools write to as well; bert's machine dies
right after its commit point, so that anna's finishes his publish.
"""

from collections import Counter
from dataclasses import dataclass, field

import trio

from pdfs.core.ids import Path
from pdfs.store.faulty import LIST, Fate, Request
from pdfs.store.objects import Traits
from pdfs.store.step import Step
from tests.simulation.machine import Machine
from tests.simulation.onlooker import Onlooker
from tests.simulation.oracle import check_everything
from tests.simulation.world import Visit, World, idle, new_world

NAMES = [Path(name) for name in ("a.dwg", "b.dwg", "dir/c.dwg", "dir/d.dxf", "new/e.txt", "g")]
READERS = {Step.READER_ROOT, Step.READER_TREE}
COLLECTS = {
    Step.COLLECT_LIST,
    Step.COLLECT_READ,
    Step.COLLECT_CHECK_ROOT,
    Step.COLLECT_DELETE,
}


@dataclass(slots=True)
class Fault:
    """The `occurrence`-th request of `step` has `fate`; all others are fine."""

    step: Step
    fate: Fate
    occurrence: int = 1
    seen: int = 0
    hit: bool = False

    def fate_of(self, machine: Machine, request: Request) -> Fate:
        if self.step is Step.APPLY_VERIFY and request.step is Step.APPLY_PUT:
            return Fate.DAMAGED if not self.hit and request.operation == "put" else Fate.FINE
        if request.step is not self.step or self.hit:
            return Fate.FINE
        if self.fate is Fate.DAMAGED and request.operation != "put":
            return Fate.FINE
        if self.fate is Fate.STALE and request.operation != LIST:
            return Fate.FINE
        self.seen += 1
        self.hit = self.seen >= self.occurrence
        return self.fate if self.hit else Fate.FINE


@dataclass(slots=True)
class Told:
    """What a run came to."""

    world: World
    requests: Counter[Step] = field(default_factory=Counter)


async def tell(seed: int, traits: Traits, fault: Fault) -> Told:
    """The whole story; raises AssertionError where a rule was broken."""
    world = new_world(seed, traits)
    told = Told(world)
    dies_at_commit: set[str] = set()

    def fate_of(machine: Machine, request: Request) -> Fate:
        if request.step is not None:
            told.requests[request.step] += 1
        if machine.name in dies_at_commit and request.step is Step.COMMIT_ROOT:
            dies_at_commit.clear()
            return Fate.CRASH_AFTER
        return fault.fate_of(machine, request)

    async with trio.open_nursery() as nursery:
        anna = world.add_machine("ws1", "anna", nursery, fate_of)
        bert = world.add_machine("ws2", "bert", nursery, fate_of)
        onlooker = Onlooker(world, world.new_machine("ws3", "carl", nursery, fate_of))
        if fault.step in READERS:
            nursery.start_soon(onlooker.look_on)
        await _import(world)
        await world.visit_somehow(anna, lambda visit: _first_day(world, visit))
        await _others_at_work(world)
        dies_at_commit.add("ws2")
        await world.visit_until_crash(bert, _edit)
        await world.visit_somehow(anna, _edit)
        await world.visit_somehow(bert, idle)
        if fault.step in COLLECTS:
            await trio.sleep(15 * 86400.0)  # so long that there is something to collect
            await world.visit_somehow(bert, _edit)
        await come_to_rest(world)
        if fault.step in READERS:
            await onlooker.check_moved_on()
        nursery.cancel_scope.cancel()
    check_everything(world)
    return told


@dataclass(slots=True)
class Cut:
    """From its next request of `step` on, a machine hears nothing from the bucket for a while.

    Its first write on the other side of the cut arrives all the same, much later.
    """

    step: Step
    seconds: float
    begun: float | None = None
    has_late: bool = False
    hit: trio.Event = field(default_factory=trio.Event)

    def fate_of(self, request: Request) -> Fate:
        now = trio.current_time()
        if self.begun is None and request.step is self.step:
            self.begun = now
            self.hit.set()
        if self.begun is None or now > self.begun + self.seconds:
            return Fate.FINE
        if request.is_write and not self.has_late:
            self.has_late = True
            return Fate.LATE
        return Fate.REQUEST_LOST


async def tell_of_a_cut(seed: int, traits: Traits, step: Step) -> tuple[World, bool]:
    """anna is cut off at `step`, and bert takes the stage over meanwhile; whether it came to that.

    What she was told is not saved stays with her; what she was told is saved is in the bucket.
    """
    world = new_world(seed, traits)
    cut = Cut(step, seconds=world.rng.choice([90.0, 400.0, 3600.0]))
    armed = False

    def fate_of(machine: Machine, request: Request) -> Fate:
        return cut.fate_of(request) if armed and machine.name == "ws1" else Fate.FINE

    async def bert_takes_over() -> None:
        await cut.hit.wait()
        await trio.sleep(world.rng.choice([1.0, 15.0, 60.0]))
        await world.visit_somehow(bert, _edit, is_forceful=True)

    async with trio.open_nursery() as late:
        anna = world.add_machine("ws1", "anna", late, fate_of)
        bert = world.add_machine("ws2", "bert", late, fate_of)
        await _import(world)
        await world.visit_somehow(anna, lambda visit: _first_day(world, visit))
        await _others_at_work(world)
        armed = True
        with trio.move_on_after(7 * 86400.0):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(bert_takes_over)
                await world.visit_somehow(anna, _edit_anew)
                armed = False
                if not cut.hit.is_set():
                    nursery.cancel_scope.cancel()
        await come_to_rest(world)
        late.cancel_scope.cancel()
    check_everything(world)
    return world, cut.hit.is_set()


async def _edit_anew(visit: Visit) -> None:
    """As `_edit`, with something of everything that a publish can be about."""
    await _edit(visit)
    editor = visit.editor
    editor.write(Path("big.bin"), editor.fresh(700))
    if editor.exists(Path("shared.bak")):
        await editor.rename(Path("shared.bak"), Path("shared.old"))
    await trio.sleep(100.0)


async def _import(world: World) -> None:
    """A bucket that PDFS has never written."""
    for number, name in enumerate(NAMES[:4]):
        await world.foreign_put(name, world.rng.randbytes(30 + 150 * number))
    await world.foreign_put("shared.bak", world.rng.randbytes(300))
    await world.foreign_put("shared.tmp", world.rng.randbytes(40))


async def _first_day(world: World, visit: Visit) -> None:
    editor = visit.editor
    if editor.exists(Path("dir/c.dwg")):  # a stale listing may not show what was imported
        await editor.read(Path("dir/c.dwg"))
    editor.write(Path("new/e.txt"), editor.fresh(20))
    editor.write(Path("big.bin"), editor.fresh(700))
    editor.write(Path("empty"), b"")
    if editor.exists(Path("a.dwg")):
        await editor.rename(Path("a.dwg"), Path("a.bak"))
    editor.write(Path("a.dwg"), editor.fresh())
    await trio.sleep(70.0)
    editor.write(Path("shared.bak"), editor.fresh(50))
    if editor.exists(Path("shared.tmp")):
        editor.delete(Path("shared.tmp"))
    await world.foreign_put("shared.bak", world.rng.randbytes(310))
    await world.foreign_put("shared.tmp", world.rng.randbytes(41))
    if editor.exists(Path("dir/d.dxf")):
        await editor.append(Path("dir/d.dxf"), editor.fresh(5))
    await trio.sleep(5.0)


async def _others_at_work(world: World) -> None:
    await world.foreign_put("g", world.rng.randbytes(90))
    await world.foreign_put("shared.bak", world.rng.randbytes(99))
    await world.foreign_delete("shared.tmp")


async def _edit(visit: Visit) -> None:
    await trio.sleep(200.0)
    for name in NAMES[:3]:
        if visit.editor.exists(name):
            await visit.editor.append(name, visit.editor.fresh(3))
        else:
            visit.editor.write(name, visit.editor.fresh())
    if visit.editor.exists(Path("a.bak")):
        visit.editor.delete(Path("a.bak"))


async def come_to_rest(world: World) -> None:
    """Let late requests arrive, recover every machine, and mount once more without editing."""
    await trio.sleep(2 * 7200.0)
    world.calm = True
    for machine in world.machines:
        await world.visit_somehow(machine, idle)
    await world.visit_somehow(world.machines[0], idle)
