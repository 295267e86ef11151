"""Configuration: where the bucket is, who the user is, where this machine keeps things.

Each setting is taken from the first place that has it: the command line, the environment, the
user's `config.toml`, the system's, the default. Both files are TOML with these keys:

    bucket      "s3://bucket/prefix" or "file:///directory"     PDFS_BUCKET
    endpoint    "https://…" of a store that is not AWS          PDFS_ENDPOINT_URL
    region      as S3 tools know it                             PDFS_REGION
    profile     a section of ~/.aws/credentials                 PDFS_PROFILE
    user        who you are, for locks; default: login name     PDFS_USER
    machine     this machine's name, for people                 PDFS_MACHINE
    stop_timeout    seconds for publishing after a signal       PDFS_STOP_TIMEOUT

Credentials are found as every S3 tool finds them, and never stand here.
"""

import getpass
import json
import os
import pwd
import socket
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Final
from urllib.parse import quote

from pdfs.core.timing import Timing, override
from pdfs.errors import UsageError

DEFAULT_BUCKET: Final = "/pdfs/bucket"
"""Where the bucket is below XDG_DATA_HOME that is there without a configuration."""
KEYS = ("bucket", "endpoint", "region", "profile", "user", "machine", "stop_timeout")
STOP_TIMEOUT = 45.0
"""With what a break-off takes at the worst (10 s, to give the stage back) it ends in the 90 s that
systemd gives a login session, or a service that says nothing."""
_ENVIRONMENT = {
    "bucket": "PDFS_BUCKET",
    "endpoint": "PDFS_ENDPOINT_URL",
    "region": "PDFS_REGION",
    "profile": "PDFS_PROFILE",
    "user": "PDFS_USER",
    "machine": "PDFS_MACHINE",
    "stop_timeout": "PDFS_STOP_TIMEOUT",
}
SYSTEM_FILE = PurePath("/etc/pdfs/config.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Everything that is configured, with nothing left to look up."""

    bucket: str
    is_default_bucket: bool
    """Nobody named a bucket: a directory of this machine plays it."""
    endpoint: str | None
    region: str | None
    profile: str | None
    user: str
    machine: str
    state: PurePath
    """What must survive: sessions, logs, trash."""
    cache: PurePath
    """What costs only time to lose."""
    runtime: PurePath
    """Control sockets."""
    stop_timeout: float
    """Seconds from a signal to the break-off of a session that is not published then; 0 = none."""
    timing: Timing
    timing_overrides: Mapping[str, float]
    """What PDFS_TEST_TIMING changed."""


def configure(
    environ: Mapping[str, str], given: Mapping[str, str | None], read: Callable[[str], bytes]
) -> Configuration:
    """The configuration of this process.

    `given` is what the command line says, by key; `read` gives the bytes of a file, or OSError.
    Raises UsageError, naming the place, for what can't be right.
    """
    user_file = _home(environ, "XDG_CONFIG_HOME", ".config") / "pdfs" / "config.toml"
    sources = [
        {key: value for key, value in given.items() if value},
        {key: environ[name] for key, name in _ENVIRONMENT.items() if environ.get(name)},
        _read(user_file, read),
        _read(SYSTEM_FILE, read),
    ]
    chosen = {key: _first(sources, key) for key in KEYS}
    data = _home(environ, "XDG_DATA_HOME", ".local/share")
    overrides = _timing_overrides(environ)
    return Configuration(
        bucket=chosen["bucket"] or f"file://{quote(str(data))}{DEFAULT_BUCKET}",
        is_default_bucket=chosen["bucket"] is None,
        endpoint=chosen["endpoint"],
        region=chosen["region"],
        profile=chosen["profile"],
        user=chosen["user"] or getpass.getuser(),
        machine=chosen["machine"] or socket.gethostname(),
        state=state_path(environ),
        cache=cache_path(environ),
        runtime=runtime_path(environ),
        stop_timeout=_seconds(chosen["stop_timeout"]),
        timing=override(Timing(), overrides),
        timing_overrides=overrides,
    )


def state_path(environment: Mapping[str, str]) -> PurePath:
    """Where sessions are kept; it must survive as long as they have unpublished work."""
    return _home(environment, "XDG_STATE_HOME", ".local/state") / "pdfs"


def cache_path(environment: Mapping[str, str]) -> PurePath:
    """Where clean contents are kept; losing it costs time only."""
    return _home(environment, "XDG_CACHE_HOME", ".cache") / "pdfs"


def runtime_path(environment: Mapping[str, str]) -> PurePath:
    """Where control sockets are; `run` in the state directory where the system names no place."""
    given = environment.get("XDG_RUNTIME_DIR", "")
    return PurePath(given) / "pdfs" if given.startswith("/") else state_path(environment) / "run"


def _home(environment: Mapping[str, str], variable: str, default: str) -> PurePath:
    """The variable's value; unset, empty and relative ones mean the default, as XDG has it."""
    given = environment.get(variable, "")
    if given.startswith("/"):
        return PurePath(given)
    home = environment.get("HOME", "")
    if not home.startswith("/"):
        home = pwd.getpwuid(os.geteuid()).pw_dir
    return PurePath(home) / default


def _first(sources: list[dict[str, str]], key: str) -> str | None:
    return next((source[key] for source in sources if source.get(key)), None)


def _read(path: PurePath, read: Callable[[str], bytes]) -> dict[str, str]:
    """The settings of one file; none where it does not exist."""
    try:
        found = tomllib.loads(read(str(path)).decode())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} can't be read: {error}") from error
    return {key: _checked(path, key, value) for key, value in found.items()}


def _checked(path: PurePath, key: str, value: object) -> str:
    if key not in KEYS:
        known = ", ".join(KEYS)
        raise UsageError(f"{path} has the unknown key {key!r}", remedy=f"known are {known}")
    if key == "stop_timeout" and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise UsageError(f"{key!r} in {path} is {value!r}, not a string")
    return value


def _seconds(text: str | None) -> float:
    if text is None:
        return STOP_TIMEOUT
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise UsageError(f"stop_timeout is {text!r}", remedy="write seconds, or 0 for no limit")
    return seconds


def _timing_overrides(environ: Mapping[str, str]) -> dict[str, float]:
    text = environ.get("PDFS_TEST_TIMING")
    if not text:
        return {}
    try:
        found: Any = json.loads(text)
        return {str(name): float(value) for name, value in found.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise UsageError(
            f"PDFS_TEST_TIMING is {text!r}", remedy='write a JSON object like {"renewal": 1}'
        ) from error
