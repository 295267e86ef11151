"""What a session's publishes tell of it while it is served: asked often, counted seldom."""

from pdfs.core.ids import TOP, Path
from pdfs.core.lease import Unpublished
from pdfs.core.record import SetAttributes
from pdfs.stage.hold import Hold
from pdfs.stage.publishing import Publishing
from tests.core.effort import calls_in
from tests.stage.contexts import Site
from tests.stage.works import sit_down


def unheard(_: object) -> None:
    """Nobody listens."""


async def test_what_a_status_tells_is_looked_for_anew_only_after_another_record() -> None:
    site = Site()
    ctx = site.context()
    person = await sit_down(site, ctx)
    for number in range(50):
        person.editor.write(Path(str(number)), b"x")
    hold = Hold(ctx, unpublished=Unpublished, on_start=unheard, note=unheard)
    publishing = Publishing(ctx, hold, person.work, opened=frozenset, note=unheard)

    def status() -> object:
        return publishing.unpublished, publishing.invisible

    first, second = calls_in(status), calls_in(status)
    assert second < first / 10
    person.work.commit(SetAttributes(ino=TOP, time=1))
    assert calls_in(status) > 10 * second
