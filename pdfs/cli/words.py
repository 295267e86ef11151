"""The words that several commands use."""

from pdfs.core.amounts import amount


def printable(text: str) -> str:
    """`text` with escapes for what a terminal would obey or can't show, as names may have it."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


SET_ASIDE = "set aside, older or missing for other tools"
"""What is said of a file whose plain object is not what the generation says."""

NOT_REMOVED = "not removed, since another tool changed it"
"""What is said of a name that this session removed, and that stays."""


def unended(session: str, user: str, machine: str, files: int, total: int) -> str:
    """Whose session of a stage has not ended, and that its work waits there.

    Locks count that work once a minute, so a session that is counted with nothing may have some.
    """
    counted = f"{amount(files, total)} waited there when last counted"
    waits = counted if files else "what it has not published, if anything, waits there"
    return printable(f"a session of {user} on {machine} ({session[:8]}) has not ended: {waits}")


def one_line(text: str) -> str:
    """`text` without line breaks, as an error message has to be."""
    return " ".join(text.split())
