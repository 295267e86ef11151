"""What an S3 store's refusals and the clients' failures mean: one table, into `pdfs.errors`.

A `Refusal` is a complete answer that is not a success. Its code decides, else its status. What is
no complete answer is `StoreUnavailable`; `sent` is false only where the request can't have reached
the store, or the store says that it did nothing.
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import botocore.exceptions as boto
import obstore.exceptions as obstore

from pdfs.core.moments import span
from pdfs.errors import (
    ClockSkewed,
    KeyClash,
    NoSuchUpload,
    ObjectNotFound,
    PreconditionFailed,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    UsageError,
)
from pdfs.store.s3.clock import parse_date
from pdfs.store.s3.settings import S3Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An answer that is not a success."""

    status: int
    code: str
    message: str
    key: str
    """Without the prefix; empty if the request named none."""
    settings: S3Settings
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case; empty where the client does not show them."""
    body: str = ""
    is_of_head: bool = False
    """An answer to HEAD, which has no body that could name a code."""

    @property
    def is_page(self) -> bool:
        """Whether the head of the answer announces a page for people."""
        kind = self.headers.get("content-type", "").partition(";")[0].strip()
        return kind in _PAGES and self.headers.get("content-length") != "0"


_PAGES: Final = ("text/html", "text/plain")

Meaning = Callable[[Refusal], StoreError]

_LASTS: Final = "if that lasts, ask whoever runs the bucket"

_PEACE: Final = 1.0
"""Seconds to leave a store in peace that wants fewer requests and does not say for how long: R2
takes one write a second to a key."""


def judge(refusal: Refusal) -> StoreError:
    """The error to raise for a refusal."""
    meaning = _BY_CODE.get(refusal.code) or _BY_STATUS.get(refusal.status)
    if meaning is None:
        meaning = _refused if 400 <= refusal.status < 500 else _unavailable
    return meaning(refusal)


def _not_found(refusal: Refusal) -> StoreError:
    return ObjectNotFound(refusal.key)


def _nowhere(refusal: Refusal) -> StoreError:
    """404 without a code: a proxy says it, too, while the store behind it is away.

    What S3 does not have it calls by name. Taken for an answer of the store, this would say that
    the lock is gone, and the root, and the bytes of every file.
    """
    if refusal.code or (refusal.is_of_head and not refusal.is_page):
        return _not_found(refusal)
    return StoreUnavailable(
        f"{_place(refusal)} gave an answer that is not S3's (404 without a code)",
        remedy="check the endpoint, and whether a proxy answers in its place",
    )


def _no_upload(refusal: Refusal) -> StoreError:
    return NoSuchUpload(refusal.key)


def _precondition(refusal: Refusal) -> StoreError:
    return PreconditionFailed(refusal.key)


def _clash(refusal: Refusal) -> StoreError:
    return KeyClash(refusal.key)


def _unavailable(refusal: Refusal) -> StoreError:
    return StoreUnavailable(_words(refusal), remedy=_LASTS, retry_after=_retry_after(refusal))


def _argument(refusal: Refusal) -> StoreError:
    """AWS and versitygw have no code of its own for a part that is copied from beyond the end."""
    beyond = "Range specified is not valid for source object" in refusal.message
    return _precondition(refusal) if beyond else _refused(refusal)


def _not_done(refusal: Refusal) -> StoreError:
    return StoreUnavailable(_words(refusal), sent=False, retry_after=_retry_after(refusal))


def _too_often(refusal: Refusal) -> StoreError:
    wait = _retry_after(refusal)
    return StoreUnavailable(
        _words(refusal),
        remedy=_LASTS,
        sent=False,
        retry_after=_PEACE if wait is None else wait,
    )


def _refused(refusal: Refusal) -> StoreError:
    return StoreRefused(_words(refusal))


def _no_bucket(refusal: Refusal) -> StoreError:
    settings = refusal.settings
    return StoreRefused(
        f"there is no bucket {settings.bucket!r} at {settings.endpoint or 'AWS'}",
        remedy="correct its name or endpoint, or create it",
    )


def _credentials(refusal: Refusal) -> StoreError:
    return StoreRefused(
        _words(refusal),
        remedy=f"check the access key and secret key {_whose(refusal.settings)}",
    )


def _expired(refusal: Refusal) -> StoreError:
    return StoreRefused(
        _words(refusal), remedy=f"renew the credentials {_whose(refusal.settings)} and go on"
    )


def _rights(refusal: Refusal) -> StoreError:
    return StoreRefused(
        _words(refusal), remedy="ask whoever runs the bucket for the rights to read and write there"
    )


def _region(refusal: Refusal) -> StoreError:
    region = refusal.headers.get("x-amz-bucket-region")
    stated = f"to {region!r}" if region else f"(now it is {refusal.settings.region!r})"
    return StoreRefused(_words(refusal), remedy=f"set the region of the bucket {stated}")


def _full(refusal: Refusal) -> StoreError:
    return StoreRefused(_words(refusal), remedy="make room in the bucket or raise its quota")


def _skewed(refusal: Refusal) -> StoreError:
    return skewed(_place(refusal), _store_time(refusal))


def skewed(place: str, store_time: float | None) -> ClockSkewed:
    """The error for a wrong clock, where the store's shows `store_time`, if that is known."""
    remedy = "set this machine's clock (timedatectl set-ntp true)"
    if store_time is None:
        what = f"this machine's clock and that of {place} differ"
        return ClockSkewed(what, remedy=remedy, is_measured=False)
    offset = time.time() - store_time
    direction = "ahead of" if offset > 0 else "behind"
    return ClockSkewed(
        f"this machine's clock is {span(round(abs(offset)))} {direction} that of {place}",
        remedy=remedy,
    )


def _whose(settings: S3Settings) -> str:
    return f"of profile {settings.profile!r}" if settings.profile else "in use"


def _place(refusal: Refusal) -> str:
    return refusal.settings.name


def _words(refusal: Refusal) -> str:
    about = f" for {refusal.key!r}" if refusal.key else ""
    said = ": ".join(filter(None, [refusal.code, refusal.message])) or "no reason given"
    return f"{_place(refusal)} answered {refusal.status}{about} ({said})"


def _retry_after(refusal: Refusal) -> float | None:
    value = refusal.headers.get("retry-after", "")
    if value.isdecimal():
        return float(value)
    until, now = parse_date(value), parse_date(refusal.headers.get("date", ""))
    return max(0.0, until - now) if until is not None and now is not None else None


def _store_time(refusal: Refusal) -> float | None:
    date = parse_date(refusal.headers.get("date", ""))
    stated = re.search(r"<ServerTime>([^<]+)</ServerTime>", refusal.body)
    if date is None and stated is not None:
        try:
            return datetime.fromisoformat(stated[1]).timestamp()
        except ValueError:
            return None
    return date


_BY_CODE: Final[Mapping[str, Meaning]] = {
    "NoSuchKey": _not_found,
    "NoSuchUpload": _no_upload,
    "NoSuchBucket": _no_bucket,
    "PreconditionFailed": _precondition,
    "InvalidRange": _precondition,  # the object is shorter than the one that was asked for
    "InvalidArgument": _argument,
    "ConditionalRequestConflict": _not_done,
    "OperationAborted": _not_done,
    "BadDigest": _not_done,  # damaged on its way
    "IncompleteBody": _not_done,
    "XAmzContentSHA256Mismatch": _not_done,
    "RequestTimeout": _unavailable,
    "RequestTimeTooSkewed": _skewed,
    "ExpiredToken": _expired,
    "InvalidAccessKeyId": _credentials,
    "SignatureDoesNotMatch": _credentials,
    "InvalidToken": _credentials,
    "AccessDenied": _rights,
    "AllAccessDisabled": _rights,
    "AuthorizationHeaderMalformed": _region,
    "PermanentRedirect": _region,
    "IllegalLocationConstraintException": _region,
    "QuotaExceeded": _full,
    "XMinioStorageFull": _full,
    "XMinioAdminBucketQuotaExceeded": _full,
    "ExistingObjectIsDirectory": _clash,  # versitygw, SeaweedFS
    "ObjectParentIsFile": _clash,
    "ExistingObjectIsFile": _clash,
    "XMinioObjectExistsAsDirectory": _clash,
    "XMinioParentIsObject": _clash,
}

_BY_STATUS: Final[Mapping[int, Meaning]] = {
    301: _region,
    307: _region,
    401: _credentials,
    403: _rights,
    404: _nowhere,
    408: _unavailable,
    409: _not_done,
    412: _precondition,
    416: _precondition,
    429: _too_often,
    501: _refused,
    507: _full,
}


# boto3


def of_boto(error: Exception, key: str, settings: S3Settings) -> StoreError | UsageError:
    """The error to raise for one that boto3 raised; an unknown one is an answer that never came."""
    if isinstance(error, boto.ClientError):
        return judge(_refusal_of_boto(error, key, settings))
    if isinstance(error, boto.ParamValidationError):
        return UsageError(f"{settings.name} can't be asked for {key!r}: {error}")
    if isinstance(error, _NO_CREDENTIALS):
        return StoreRefused(
            f"no usable credentials for {settings.name}: {error}",
            remedy="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile (aws configure)",
        )
    if isinstance(error, boto.SSLError):
        return _untrusted(settings, str(error))
    reason = re.sub(r' (?:the )?endpoint URL: "[^"]*"', " it", str(error)).rstrip(".")
    return _silent(settings, reason, sent=not isinstance(error, _NEVER_SENT))


_NO_CREDENTIALS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.TokenRetrievalError,
    boto.UnauthorizedSSOTokenError,
    boto.SSOTokenLoadError,
    boto.LoginError,
)
_NEVER_SENT = (
    boto.EndpointConnectionError,
    boto.ConnectTimeoutError,
    boto.ProxyConnectionError,
    boto.InvalidProxiesConfigError,
)


def _refusal_of_boto(error: boto.ClientError, key: str, settings: S3Settings) -> Refusal:
    said = error.response.get("Error", {})
    answer = error.response.get("ResponseMetadata", {})
    code = str(said.get("Code", ""))
    return Refusal(
        status=int(answer.get("HTTPStatusCode", 500)),
        code="" if code.isdecimal() else code,  # HEAD has no body to name one
        message=str(said.get("Message", "")),
        key=key,
        settings=settings,
        headers={name.lower(): value for name, value in answer.get("HTTPHeaders", {}).items()},
        is_of_head=error.operation_name.startswith("Head"),
    )


# obstore, whose errors say everything in their text

OBSTORE_ERRORS: Final = (obstore.BaseError, FileNotFoundError)


def of_obstore(error: Exception, key: str, settings: S3Settings) -> StoreError:
    """The error to raise for one that obstore raised."""
    text = str(error)
    status = re.search(r"status code: (\d{3})", text)
    if status is None:
        distrust = re.search(r"InvalidCertificate\(([\s\w(]+)", text)
        if distrust is not None:
            return _untrusted(settings, " ".join(re.findall(r"\w+", distrust[1])))
        if "redirect" in text:
            return of_text(301, text, key, settings, {})
        return _silent(settings, _reason(text), sent="kind: Connect" not in text)
    return of_text(int(status[1]), text, key, settings, {})


def of_text(
    status: int, text: str, key: str, settings: S3Settings, headers: Mapping[str, str]
) -> StoreError:
    """The error to raise for an answer whose body `text` holds; `headers` in lower case."""
    code = re.search(r"<Code>([^<]*)</Code>", text)
    message = re.search(r"<Message>([^<]*)</Message>", text)
    return judge(
        Refusal(
            status=status,
            code=code[1] if code else "",
            message=message[1] if message else "",
            key=key,
            settings=settings,
            headers=headers,
            body=text,
        )
    )


def _reason(text: str) -> str:
    """The first line, without what is said of the request: two tries fail in the same words."""
    line = text.partition("\n")[0].removeprefix("Generic S3 error: ")
    return re.sub(r"^Error performing \w+ \S+ in \S+ - ", "", line)


def _silent(settings: S3Settings, reason: str, *, sent: bool) -> StoreError:
    what = "gave no usable answer" if sent else "can't be reached"
    remedy = "check the network" + (f"; {_LASTS}" if sent else " and the endpoint")
    return StoreUnavailable(f"{settings.name} {what}: {reason}", remedy=remedy, sent=sent)


def _untrusted(settings: S3Settings, reason: str) -> StoreError:
    return StoreRefused(
        f"{settings.name} shows a certificate that this machine does not trust: {reason}",
        remedy="name its authority's certificate in AWS_CA_BUNDLE; it can't be its own authority",
    )
