"""What is written down of a session where people and a recovery look, without the bucket.

The same stands in `session.json` and, should that be lost, in the journal's own header.
"""

from pdfs.config import Configuration
from pdfs.local.journal_format import Header
from pdfs.stage.context import StageContext


def header_of(configuration: Configuration, ctx: StageContext, **more: str) -> Header:
    """The header of the session's journal; `more` goes with the bucket."""
    owner = ctx.owner
    return Header(
        session=owner.session,
        run=owner.run,
        project=ctx.keys.project,
        stage=ctx.keys.stage,
        user=owner.user,
        machine=owner.machine,
        base={
            "bucket": configuration.bucket,
            "endpoint": configuration.endpoint or "",
            **more,
        },
    )


def description_of(
    configuration: Configuration, ctx: StageContext, mountpoint: str, **more: object
) -> dict[str, object]:
    """The fields of `session.json`; without a mount, `mountpoint` is empty."""
    return {
        "project": ctx.keys.project,
        "stage": ctx.keys.stage,
        "user": ctx.owner.user,
        "machine": ctx.owner.machine,
        "bucket": configuration.bucket,
        "endpoint": configuration.endpoint or "",
        "mountpoint": mountpoint,
        **more,
    }
