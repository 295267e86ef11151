"""Times as people read them, by the clock on their wall, and as other tools do."""

from datetime import datetime


def local_moment(seconds: float) -> str:
    """`2027-01-15 09:00:00 +0100`, from seconds since 1970; empty where no calendar has it."""
    try:
        return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")
    except (ValueError, OverflowError, OSError):
        return ""


def decimal_seconds(ns: int) -> str:
    """`-0.000000001`: ns since 1970 in seconds with 9 decimals, as rclone and s3fs read them."""
    seconds, rest = divmod(abs(ns), 1_000_000_000)
    return f"{'-' if ns < 0 else ''}{seconds}.{rest:09d}"


def span(seconds: float) -> str:
    """`20 s`, `2 min`, `3 h`, `5 days`, rounded down."""
    for unit, length in (("days", 2 * 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // (86400 if unit == 'days' else length))} {unit}"
    return f"{max(0, int(seconds))} s"


def rough_span(seconds: float) -> str:
    """`20 s`, `3 min`, `100 min`, `5 h`: a time that was estimated, to the nearest of its unit."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length or (unit == "min" and seconds >= length):
            return f"{round(seconds / length)} {unit}"
    return f"{max(1, round(seconds))} s"
