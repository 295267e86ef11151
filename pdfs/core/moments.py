"""Times as people read them: by the clock on their wall, and how far that is from UTC."""

from datetime import datetime


def local_moment(seconds: float) -> str:
    """`2027-01-15 09:00:00 +0100`, from seconds since 1970; empty where no calendar has it."""
    try:
        return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")
    except (ValueError, OverflowError, OSError):
        return ""
