"""Where this machine's directories are, by the environment (XDG Base Directory 0.8)."""

import os
import pwd
from collections.abc import Mapping
from pathlib import PurePath


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
