"""On a machine whose PYTHONPATH has this, journals roll and are checkpointed all the time."""

from pdfs.local import sizes

SMALL = sizes.JournalSizes(
    segment=256 << 10, growth=64 << 10, reserve=64 << 10, garbage=512 << 10, records=2_000, often=3
)

sizes.sizes_for = lambda free: SMALL
