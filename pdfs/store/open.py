"""From what a user calls a bucket to the store that keeps it.

s3://{bucket}[/{prefix}]     the prefix gets one `/` at its end
file:///{directory}          a directory that plays the bucket
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import trio

from pdfs.disk import OsDisk
from pdfs.errors import UsageError
from pdfs.store.directory import DirectoryStore, make_root

if TYPE_CHECKING:
    from pdfs.store.s3 import S3Settings, S3Store

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}")
_LONGEST_PREFIX = 512
_FORMS = "write s3://bucket/prefix or file:///directory"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """What a URL does not say. None comes from the environment and files that S3 tools read."""

    endpoint: str | None = None
    """`https://host[:port]` of a store that is not AWS."""
    region: str | None = None
    profile: str | None = None
    answer: float = 30.0
    """Longest wait for one answer (`Timing.answer`): what it takes to connect and to hear something
    add up to less."""
    makes_directory: bool = False
    """Whether a `file:` bucket that is not there is made."""


async def open_store(url: str, options: StoreOptions) -> "S3Store | DirectoryStore":
    """The store of that URL, with nothing asked of it yet; an S3 store is yet to be probed.

    Raises UsageError for what can't be right, StoreRefused without credentials, StoreUnavailable
    where there is no such directory.
    """
    return await trio.to_thread.run_sync(_open, url, options, abandon_on_cancel=True)


def _open(url: str, options: StoreOptions) -> "S3Store | DirectoryStore":
    scheme, colon, rest = url.partition("://")
    match scheme if colon else "":
        case "file":
            return _open_directory(url, options)
        case "s3":
            return _open_s3(rest, options)
        case _:
            _refuse_secrets(url)
            raise UsageError(f"{url!r} names no bucket", remedy=_FORMS)


def _open_s3(location: str, options: StoreOptions) -> "S3Store":
    # Imported here: it takes half a second, and a directory has no use for it.
    from pdfs.store.s3 import S3Store, open_access

    return S3Store(open_access(s3_settings(location, options)))


def _open_directory(url: str, options: StoreOptions) -> DirectoryStore:
    parts = urlsplit(url)
    root = PurePosixPath(unquote(parts.path))
    _refuse_secrets(parts.netloc)
    if parts.netloc or parts.query or parts.fragment or not root.is_absolute():
        raise UsageError(f"{url!r} names no directory of this machine", remedy=_FORMS)
    if ".." in root.parts or "\0" in str(root):
        raise UsageError(f"{url!r} is no plain path", remedy=_FORMS)
    if options.makes_directory:
        make_root(OsDisk(), root)
    return DirectoryStore(root)


def s3_settings(location: str, options: StoreOptions) -> "S3Settings":
    """The settings for `bucket[/prefix]`."""
    from pdfs.store.s3 import S3Settings  # as above

    bucket, _, prefix = location.partition("/")
    # A secret key may have slashes: then what is in front of the '@' is no bucket's name.
    _refuse_secrets(location if ":" in bucket else bucket)
    if not _BUCKET.fullmatch(bucket):
        raise UsageError(f"{bucket!r} can't be the name of a bucket", remedy=_FORMS)
    if prefix not in ("", "/"):
        prefix = prefix.removesuffix("/")
    if prefix and any(part in ("", ".", "..") for part in prefix.split("/")):
        raise UsageError(f"the prefix {prefix!r} has an empty part, '.' or '..' between slashes")
    if not prefix.isprintable() or len(prefix.encode(errors="replace")) > _LONGEST_PREFIX:
        raise UsageError(f"the prefix {prefix!r} is too long, or holds what no prefix should")
    return S3Settings(
        bucket=bucket,
        prefix=f"{prefix}/" if prefix else "",
        endpoint=_checked_endpoint(options.endpoint),
        region=options.region,
        profile=options.profile,
        connect_timeout=min(5.0, options.answer / 4),
        read_timeout=options.answer * 0.7,
    )


def _checked_endpoint(endpoint: str | None) -> str | None:
    if not endpoint:
        return None
    _refuse_secrets(endpoint)
    if not _is_endpoint(endpoint):
        raise UsageError(
            f"{endpoint!r} can't be the endpoint of a store",
            remedy="write it like https://s3.example.com or http://localhost:9000",
        )
    return endpoint.rstrip("/")


def _refuse_secrets(text: str) -> None:
    """Without repeating what stands there: it would end in logs."""
    if "@" in text:
        raise UsageError(
            "a bucket's URL and endpoint hold no credentials",
            remedy="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile (aws configure)",
        )


def _is_endpoint(text: str) -> bool:
    try:
        parts = urlsplit(text)
        has_host = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        return False
    return bool(has_host) and not (parts.query or parts.fragment)
