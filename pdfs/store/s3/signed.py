"""A DELETE whose lateness is bounded, for stores where DELETE takes no condition.

What bounds it is a presigned URL: the store itself refuses it `valid_for` seconds after the date in
it. A signature in a header would be good for a quarter of an hour, whatever we want. That date is
the store's own time when the caller asked (botocore would take this machine's), so a wrong clock
here neither shortens nor, above all, lengthens it. It is sent once.

https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
"""

import hashlib
import hmac
import time
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import BotoCoreError
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies

from pdfs.errors import ObjectNotFound, StoreRefused
from pdfs.store.s3.access import Access
from pdfs.store.s3.control import NO_CONTENT
from pdfs.store.s3.faults import of_boto, of_text

_ALGORITHM = "AWS4-HMAC-SHA256"


class DeleteSender:
    """Signs and sends, blocking; calls may run in many threads."""

    def __init__(self, access: Access) -> None:
        settings = access.settings
        self._access = access
        options: dict[str, Any] = {
            "verify": access.ca_bundle or True,
            "proxies": get_environ_proxies(access.endpoint),
            "timeout": (settings.connect_timeout, settings.read_timeout),
        }
        self._http = URLLib3Session(**options)

    def close(self) -> None:
        self._http.close()

    def send(self, key: str, date: float, valid_for: float) -> None:
        """Remove the object if this reaches the store before `date + valid_for` by its clock.

        Raises StoreRefused where it came too late.
        """
        settings = self._access.settings
        try:
            credentials = self._access.credentials.get_frozen_credentials()
            url = presign(
                "DELETE",
                self._url(key),
                credentials,
                self._access.region,
                date=date,
                valid_for=int(valid_for),
            )
            answer = self._http.send(AWSRequest(method="DELETE", url=url).prepare())
        except BotoCoreError as error:
            raise of_boto(error, key, settings) from error
        if answer.status_code != NO_CONTENT:
            headers = {name.lower(): value for name, value in answer.headers.items()}
            text = answer.content.decode(errors="replace")
            refusal = of_text(answer.status_code, text, key, settings, headers)
            if not isinstance(refusal, ObjectNotFound):
                raise refusal

    def _url(self, key: str) -> str:
        settings = self._access.settings
        path = quote(f"{settings.bucket}/{settings.prefix}{key}", safe="/-_.~")
        return f"{self._access.endpoint}/{path}"


def presign(
    method: str,
    url: str,
    credentials: ReadOnlyCredentials,
    region: str,
    *,
    date: float,
    valid_for: int,
) -> str:
    """`url`, percent-encoded and without a query, signed from `date` on for `valid_for` seconds."""
    if credentials.access_key is None or credentials.secret_key is None:
        raise StoreRefused("there are no credentials to sign with")
    parts = urlsplit(url)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(date))
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    query = {
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{credentials.access_key}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(valid_for),
        "X-Amz-SignedHeaders": "host",
    }
    if credentials.token:
        query["X-Amz-Security-Token"] = credentials.token
    encoded = urlencode(sorted(query.items()), quote_via=quote, safe="-_.~")
    canonical = "\n".join(
        [method, parts.path, encoded, f"host:{parts.netloc}", "", "host", "UNSIGNED-PAYLOAD"]
    )
    to_sign = "\n".join([_ALGORITHM, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    secret = _signing_key(credentials.secret_key, scope)
    signature = hmac.digest(secret, to_sign.encode(), "sha256").hex()
    return f"{url}?{encoded}&X-Amz-Signature={signature}"


def _signing_key(secret_key: str, scope: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for component in scope.split("/"):
        key = hmac.digest(key, component.encode(), "sha256")
    return key
