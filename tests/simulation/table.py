"""What the simulation promises to have hit: each step of the protocols, with each fault."""

from pdfs.store.faulty import READ_FATES, WRITE_FATES, Fate
from pdfs.store.step import Step

PROMISED_STEPS = {
    "start": {
        *(Step.START_READ_LOCK, Step.START_READ_ROOT, Step.START_TAKE_LOCK),
        *(Step.START_WRITE_ROOT, Step.LOAD_TREE, Step.LOAD_LISTING, Step.LOAD_STRANGER),
    },
    "renew": {Step.RENEW},
    "take over": {Step.TAKE_OVER_LOCK, Step.TAKE_OVER_ROOT},
    "stage": {Step.FETCH, Step.STAGE_CONTENT},
    "commit": {Step.COMMIT_TREE, Step.COMMIT_PLAN, Step.COMMIT_ROOT},
    "apply": {
        *(Step.APPLY_READ, Step.APPLY_CHECK_ROOT, Step.APPLY_PUT, Step.APPLY_JUDGE),
        *(Step.APPLY_VERIFY, Step.APPLY_CONFLICT, Step.APPLY_DELETE),
    },
    "settle": {Step.SETTLE_TREE, Step.SETTLE_ROOT},
    "release": {Step.END_ROOT, Step.RELEASE_MARK, Step.RELEASE_DELETE},
    "collect": {
        *(Step.COLLECT_LIST, Step.COLLECT_READ),
        *(Step.COLLECT_CHECK_ROOT, Step.COLLECT_DELETE),
    },
    "a reader moves on": {Step.READER_ROOT, Step.READER_TREE},
}
PROMISED_FAULTS = {
    "loses responses": {Fate.ANSWER_LOST, Fate.REQUEST_LOST},
    "applies a request twice": {Fate.DOUBLED, Fate.ECHOED},
    "delays": {Fate.SLOW, Fate.LATE},
    "fails": {Fate.REFUSED, Fate.DAMAGED},
    "answers 412/409/429/5xx": {
        *(Fate.UNMET, Fate.CONTENDED, Fate.BUSY, Fate.UNAVAILABLE, Fate.BROKEN),
    },
    "lists what was": {Fate.STALE},
    "freezes and wakes": {Fate.FROZEN},
    "crashes": {Fate.CRASH_BEFORE, Fate.CRASH_AFTER},
}

READS = {
    *(Step.START_READ_LOCK, Step.START_READ_ROOT),
    *(Step.LOAD_TREE, Step.LOAD_LISTING, Step.LOAD_STRANGER, Step.FETCH),
    *(Step.APPLY_READ, Step.APPLY_CHECK_ROOT, Step.APPLY_JUDGE, Step.APPLY_VERIFY),
    *(Step.COLLECT_LIST, Step.COLLECT_READ, Step.COLLECT_CHECK_ROOT),
    *(Step.READER_ROOT, Step.READER_TREE),
}
LISTINGS = {Step.LOAD_LISTING, Step.COLLECT_LIST}
VERIFIED_WRITES = {
    *(Step.STAGE_CONTENT, Step.COMMIT_TREE, Step.COMMIT_PLAN),
    *(Step.APPLY_PUT, Step.APPLY_CONFLICT, Step.SETTLE_TREE),
}


SESSION_STEPS = [step for step in Step if step is not Step.RESTORE_ROOT]
"""What no session sends is tried in `tests/stage/test_restore.py`."""


def fates_at(step: Step) -> list[Fate]:
    """The faults that a request of this step can suffer: a read is not carried out late or twice,
    and only a listing is stale."""
    fates = set(READ_FATES if step in READS else WRITE_FATES)
    if step in LISTINGS:
        fates.add(Fate.STALE)
    if step in VERIFIED_WRITES:
        fates.add(Fate.DAMAGED)
    return sorted(fates)


def sampled_at(step: Step, seed: int) -> list[Fate]:
    """A third of them, and damage always; three seeds in a row take all."""
    fates = fates_at(step)
    third = fates[(seed + list(Step).index(step)) % 3 :: 3]
    return [fate for fate in fates if fate in third or fate is Fate.DAMAGED]


CELLS = {(step, fate) for step in SESSION_STEPS for fate in fates_at(step)}
"""The whole table."""
