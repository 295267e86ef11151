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
