"""Contexts for the steps of the protocols: people at one bucket in memory, and their networks."""

import random
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from typing import NoReturn

import trio

from pdfs.core.ids import RunId, SessionId
from pdfs.core.keys import StageKeys
from pdfs.core.lease import Claimant
from pdfs.core.timing import Timing
from pdfs.stage.context import Owner, Sizes, StageContext
from pdfs.store.faulty import Fate, FaultyStore, Network, Request
from pdfs.store.memory import ALL_TRAITS, MemoryStore
from pdfs.store.objects import ObjectStore, Traits
from pdfs.store.retry import Patience

EPOCH = 1_800_000_000.0
"""What the store's clock shows at the start, in seconds since 1970."""

TIMING = Timing(answer=10.0, patience=25.0, backoff=0.5, backoff_limit=20.0)
SIZES = Sizes(small=64, pack=256, part=128, whole=512, parallel=3)
"""So small that contents of a few hundred bytes take every path."""

FateOf = Callable[[Request], Fate]


def fine(request: Request) -> Fate:
    """The fate of every request on a good network."""
    return Fate.FINE


def _no_crash() -> NoReturn:
    raise AssertionError("nobody dies here")


@dataclass(slots=True)
class Site:
    """One stage in one bucket, and everybody who works on it."""

    seed: int = 0
    traits: Traits = ALL_TRAITS
    keys: StageKeys = field(default_factory=lambda: StageKeys("Kraftwerk", "planning"))
    timing: Timing = TIMING
    chance: random.Random = field(init=False)
    store: MemoryStore = field(init=False)
    start: float = field(init=False)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.start = trio.current_time()
        self.store = MemoryStore(now=self.now, traits=self.traits, page_size=3)

    def now(self) -> float:
        return EPOCH + trio.current_time() - self.start

    def new_id(self) -> str:
        return f"{self.chance.getrandbits(128):032x}"

    def context(
        self,
        user: str = "anna",
        *,
        machine: str = "ws7",
        session: str | None = None,
        clock: float = 0.0,
        store: ObjectStore | None = None,
    ) -> StageContext:
        """One process of `user`; `clock` is by how much the machine's clock is wrong."""
        return StageContext(
            store=store or self.store,
            keys=self.keys,
            owner=Owner(
                user=user,
                machine=machine,
                session=SessionId(session or self.new_id()),
                run=RunId(self.new_id()),
            ),
            timing=self.timing,
            sizes=SIZES,
            now=lambda: self.now() + clock,
            new_id=self.new_id,
            patience=Patience(self.timing, self.chance.random),
            uid=1000,
            gid=1000,
            version="test",
            trees={},
            plans={},
        )

    def behind(
        self, nursery: trio.Nursery, fate_of: FateOf, lateness: float | None = None
    ) -> FaultyStore:
        """The same bucket behind a network where each request has its fate.

        `lateness`: seconds after which what is late arrives; up to chance without it.
        """
        return FaultyStore(
            self.store,
            Network(
                fate_of=fate_of,
                latency=lambda: self.chance.uniform(0.005, 0.05),
                lateness=lambda: lateness or self.chance.choice([1.0, 20.0, 40.0, 300.0]),
                nursery=nursery,
                crash=_no_crash,
            ),
        )


def claimant_of(
    ctx: StageContext, *, crashed: Set[SessionId] = frozenset(), take_over: bool = False
) -> Claimant:
    """The claim of this process."""
    owner = ctx.owner
    return Claimant(
        user=owner.user,
        session=owner.session,
        run=owner.run,
        crashed=crashed,
        take_over=take_over,
    )
