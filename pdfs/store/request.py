"""What every store checks before it sends or changes anything, so that all refuse alike.

A request that breaks a rule here can't have been meant: it raises `UsageError`, and nothing was
sent. The limits are those that all S3 stores share.
"""

import re
import string
from collections.abc import Mapping
from urllib.parse import quote, unquote

from pdfs.errors import UsageError

MAX_KEY_BYTES = 1024
MAX_PARTS = 10_000
MAX_METADATA_BYTES = 2048
"""Names and values of one object's user metadata together."""

_PUNCTUATION = string.punctuation.replace("%", "")
_CONTENT_TYPE = re.compile(r"[!-~]+/[!-~]+(?: [!-~]+)*")
_METADATA_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")


def check_key(key: str, max_bytes: int) -> None:
    """Refuse a key that no store can hold: empty, too long, not Unicode, or with a NUL."""
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        raise UsageError(
            f"the key {key!r} is not valid Unicode, which no bucket can hold"
        ) from None
    if not length:
        raise UsageError("an object needs a key, and this one is empty")
    if length > max_bytes:
        raise UsageError(f"the key {key!r} has {length} bytes; this bucket takes {max_bytes}")
    if "\0" in key:
        raise UsageError(f"the key {key!r} holds a NUL, which few stores keep")


def check_span(span: tuple[int, int]) -> None:
    start, stop = span
    if not 0 <= start < stop:
        raise UsageError(f"bytes {start} to {stop} are not a span that can be asked for")


def check_part_number(number: int) -> None:
    if not 1 <= number <= MAX_PARTS:
        raise UsageError(f"a part's number is 1 to {MAX_PARTS}, not {number}")


def check_part_count(count: int) -> None:
    if not 1 <= count <= MAX_PARTS:
        raise UsageError(f"an upload is completed with 1 to {MAX_PARTS} parts, not {count}")


def check_description(content_type: str, metadata: Mapping[str, str]) -> None:
    """Refuse what HTTP headers would change on the way, and more than all stores keep."""
    if not _CONTENT_TYPE.fullmatch(content_type):
        raise UsageError(f"{content_type!r} is not a content type")
    size = 0
    for name, value in metadata.items():
        if not _METADATA_NAME.fullmatch(name):
            raise UsageError(f"{name!r} can't name metadata: lower-case letters, digits, - _ .")
        if not value:
            raise UsageError(f"the metadata {name!r} has no value; some stores drop such a header")
        size += len(name) + len(encode_metadata_value(value))
    if size > MAX_METADATA_BYTES:
        raise UsageError(f"{size} bytes of metadata; an object takes {MAX_METADATA_BYTES}")


def encode_metadata_value(value: str) -> str:
    """`value` as printable ASCII without spaces, as HTTP headers carry it unchanged.

    Percent-encoded UTF-8 (RFC 3986): S3 allows only ASCII in user metadata, and on the way spaces
    are trimmed and folded. Digits, letters and all punctuation but `%` stand for themselves, so
    what rclone and s3fs read there (`mtime`) looks as they write it.
    """
    return quote(value, safe=_PUNCTUATION)


def decode_metadata_value(value: str) -> str:
    """Inverse of the above; what no PDFS wrote and is not UTF-8 so encoded comes as it stands."""
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError:
        return value
