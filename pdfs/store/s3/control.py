"""Single requests by boto3: blocking calls, to be made in threads. Keys are without the prefix."""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import botocore.exceptions
from botocore.parsers import ResponseParserError

from pdfs.core.content import ETag
from pdfs.errors import ObjectNotFound, PreconditionFailed, StoreUnavailable, StoreUnsuitable
from pdfs.store.objects import (
    Condition,
    Fetched,
    IfAbsent,
    IfMatch,
    Listed,
    ListedUpload,
    ObjectInfo,
    Stored,
    UploadId,
)
from pdfs.store.request import decode_metadata_value, encode_metadata_value
from pdfs.store.s3.access import Access
from pdfs.store.s3.bulk import quoted, unquoted
from pdfs.store.s3.clock import StoreClock, parse_date
from pdfs.store.s3.faults import of_boto

if TYPE_CHECKING:
    from types_boto3_s3.type_defs import (
        CompleteMultipartUploadRequestTypeDef,
        DeleteObjectRequestTypeDef,
        GetObjectRequestTypeDef,
        ListMultipartUploadsRequestTypeDef,
        ListObjectsV2RequestTypeDef,
        PutObjectRequestTypeDef,
        UploadPartCopyRequestTypeDef,
    )

Answer = Mapping[str, Any]

NO_CONTENT: Final = 204
"""What S3 says when it removed something. A 200 is somebody else's."""


class Control:
    """One method per request."""

    def __init__(self, access: Access, clock: StoreClock) -> None:
        self._settings = access.settings
        self._bucket = access.settings.bucket
        self._client = access.control
        self._clock = clock
        self._client.meta.events.register("after-call.s3", self._observe)

    def close(self) -> None:
        self._client.meta.events.unregister("after-call.s3", self._observe)
        self._client.close()

    def touch(self) -> None:
        """Ask anything, to learn the store's time from the answer, whatever it is."""
        with contextlib.suppress(ObjectNotFound), self._in_words(""):
            self._client.head_bucket(Bucket=self._bucket)

    # Objects

    def get(self, key: str, span: tuple[int, int] | None, if_match: ETag | None) -> Fetched:
        request: GetObjectRequestTypeDef = {"Bucket": self._bucket, "Key": self._full(key)}
        if span is not None:
            request["Range"] = _range(span)
        if if_match is not None:
            request["IfMatch"] = quoted(if_match)
        with self._in_words(key):
            answer = self._client.get_object(**request)
            with contextlib.closing(answer["Body"]) as body:
                received = body.read()
            info = self._info(key, answer, _size_of_whole(answer, len(received)))
        if span is not None and not answer.get("ContentRange"):  # the store sent the whole
            received = received[span[0] : span[1]]
        if span is not None and len(received) != span[1] - span[0]:
            raise PreconditionFailed(key)
        return Fetched(info=info, body=received)

    def head(self, key: str) -> ObjectInfo:
        with self._in_words(key):
            answer = self._client.head_object(Bucket=self._bucket, Key=self._full(key))
            return self._info(key, answer, answer["ContentLength"])

    def put(
        self,
        key: str,
        body: bytes,
        condition: Condition | None,
        content_type: str,
        metadata: Mapping[str, str],
    ) -> Stored:
        request: PutObjectRequestTypeDef = {
            "Bucket": self._bucket,
            "Key": self._full(key),
            "Body": body,
            "ContentType": content_type,
            "Metadata": _encoded(metadata),
        }
        match condition:
            case None:
                pass
            case IfAbsent():
                request["IfNoneMatch"] = "*"
            case IfMatch(etag):
                request["IfMatch"] = quoted(etag)
        with self._in_words(key):
            answer = self._client.put_object(**request)
            return Stored(etag=unquoted(answer["ETag"]), date=self._date(answer))

    def delete(self, key: str, condition: IfMatch | None) -> None:
        request: DeleteObjectRequestTypeDef = {"Bucket": self._bucket, "Key": self._full(key)}
        if condition is not None:
            request["IfMatch"] = quoted(condition.etag)
        with self._in_words(key):
            _expect_204(self._client.delete_object(**request))

    # Listings

    def list_page(self, prefix: str, after: str | None) -> tuple[list[Listed], str | None]:
        """Rows, and what to go on with; None at the end."""
        with self._in_words(prefix):
            answer = self._list(prefix, after, delimiter=None)
            rows = [self._listed(row) for row in answer.get("Contents", [])]
            return rows, _next(answer)

    def directories_page(self, prefix: str, after: str | None) -> tuple[list[str], str | None]:
        with self._in_words(prefix):
            answer = self._list(prefix, after, delimiter="/")
            names = [self._short(row["Prefix"]) for row in answer.get("CommonPrefixes", [])]
            return names, _next(answer)

    def _list(self, prefix: str, after: str | None, delimiter: str | None) -> Answer:
        request: ListObjectsV2RequestTypeDef = {
            "Bucket": self._bucket,
            "Prefix": self._full(prefix),
        }
        if after is not None:
            request["ContinuationToken"] = after
        if delimiter is not None:
            request["Delimiter"] = delimiter
        return self._client.list_objects_v2(**request)

    def _listed(self, row: Answer) -> Listed:
        return Listed(
            key=self._short(row["Key"]),
            size=row["Size"],
            etag=unquoted(row["ETag"]),
            last_modified=row["LastModified"].timestamp(),
        )

    # Uploads in parts

    def create_upload(self, key: str, content_type: str, metadata: Mapping[str, str]) -> UploadId:
        with self._in_words(key):
            answer = self._client.create_multipart_upload(
                Bucket=self._bucket,
                Key=self._full(key),
                ContentType=content_type,
                Metadata=_encoded(metadata),
            )
            return UploadId(answer["UploadId"])

    def upload_part(self, key: str, upload: UploadId, number: int, body: bytes) -> ETag:
        with self._in_words(key):
            answer = self._client.upload_part(
                Bucket=self._bucket,
                Key=self._full(key),
                UploadId=upload,
                PartNumber=number,
                Body=body,
            )
            return unquoted(answer["ETag"])

    def copy_part(
        self,
        key: str,
        upload: UploadId,
        number: int,
        source: str,
        span: tuple[int, int],
        if_match: ETag | None,
    ) -> ETag:
        request: UploadPartCopyRequestTypeDef = {
            "Bucket": self._bucket,
            "Key": self._full(key),
            "UploadId": upload,
            "PartNumber": number,
            "CopySource": {"Bucket": self._bucket, "Key": self._full(source)},
            "CopySourceRange": _range(span),
        }
        if if_match is not None:
            request["CopySourceIfMatch"] = quoted(if_match)
        with self._in_words(source):
            answer = self._client.upload_part_copy(**request)
            return unquoted(answer["CopyPartResult"]["ETag"])

    def complete_upload(
        self, key: str, upload: UploadId, parts: Sequence[ETag], condition: Condition | None
    ) -> Stored:
        request: CompleteMultipartUploadRequestTypeDef = {
            "Bucket": self._bucket,
            "Key": self._full(key),
            "UploadId": upload,
            "MultipartUpload": {
                "Parts": [
                    {"ETag": quoted(etag), "PartNumber": number}
                    for number, etag in enumerate(parts, start=1)
                ]
            },
        }
        match condition:
            case None:
                pass
            case IfAbsent():
                request["IfNoneMatch"] = "*"
            case IfMatch(etag):
                request["IfMatch"] = quoted(etag)
        with self._in_words(key):
            answer = self._client.complete_multipart_upload(**request)
            return Stored(etag=unquoted(answer["ETag"]), date=self._date(answer))

    def abort_upload(self, key: str, upload: UploadId) -> None:
        with contextlib.suppress(ObjectNotFound), self._in_words(key):
            _expect_204(
                self._client.abort_multipart_upload(
                    Bucket=self._bucket, Key=self._full(key), UploadId=upload
                )
            )

    def uploads_page(
        self, prefix: str, after: tuple[str, str] | None
    ) -> tuple[list[ListedUpload], tuple[str, str] | None]:
        # Without EncodingType: SeaweedFS says that it encodes the keys, and does not.
        request: ListMultipartUploadsRequestTypeDef = {
            "Bucket": self._bucket,
            "Prefix": self._full(prefix),
        }
        if after is not None:
            request["KeyMarker"], request["UploadIdMarker"] = after
        with self._in_words(prefix):
            answer = self._client.list_multipart_uploads(**request)
            rows = [self._listed_upload(row) for row in answer.get("Uploads", [])]
            if not answer["IsTruncated"]:
                return rows, None
            return rows, (answer["NextKeyMarker"], answer["NextUploadIdMarker"])

    def _listed_upload(self, row: Answer) -> ListedUpload:
        return ListedUpload(
            key=self._short(row["Key"]),
            upload=UploadId(row["UploadId"]),
            initiated=row["Initiated"].timestamp(),
        )

    # Answers

    def _full(self, key: str) -> str:
        return self._settings.prefix + key

    def _short(self, full: str) -> str:
        return full.removeprefix(self._settings.prefix)

    def _info(self, key: str, answer: Answer, size: int) -> ObjectInfo:
        return ObjectInfo(
            key=key,
            size=size,
            etag=unquoted(answer["ETag"]),
            last_modified=answer["LastModified"].timestamp(),
            date=self._date(answer),
            content_type=answer.get("ContentType", ""),
            metadata={
                name.lower(): decode_metadata_value(value)
                for name, value in answer.get("Metadata", {}).items()
            },
        )

    def _date(self, answer: Answer) -> float:
        date = parse_date(answer["ResponseMetadata"]["HTTPHeaders"].get("date", ""))
        if date is None:
            raise StoreUnsuitable(
                f"{self._settings.name} does not date its answers, so no lock's age can be told",
                remedy="let the server, or the proxy before it, send the header Date",
            )
        return date

    def _observe(self, parsed: Answer, **_: object) -> None:
        headers = parsed.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        date = parse_date(headers.get("date", ""))
        if date is not None:
            self._clock.observe(date)

    # An answer that lacks what S3 always says is none. A KeyError here is a page of the hotel's
    # network or a head that was cut: taken for a listing, it would say that all was removed.

    @contextlib.contextmanager
    def _in_words(self, key: str) -> Iterator[None]:
        try:
            yield
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
            raise of_boto(error, key, self._settings) from error
        except (ResponseParserError, KeyError) as error:
            raise StoreUnavailable(
                f"{self._settings.name} gave an answer that is not S3's (no {error})",
                remedy="check the endpoint, and whether a proxy answers in its place",
            ) from error


def _next(answer: Answer) -> str | None:
    """What the next page is asked for with."""
    return answer["NextContinuationToken"] if answer["IsTruncated"] else None


def _expect_204(answer: Answer) -> None:
    status = answer["ResponseMetadata"]["HTTPStatusCode"]
    if status != NO_CONTENT:
        raise KeyError(f"status {NO_CONTENT}, but {status}")


def _range(span: tuple[int, int]) -> str:
    return f"bytes={span[0]}-{span[1] - 1}"


def _size_of_whole(answer: Answer, received: int) -> int:
    whole = re.fullmatch(r"bytes .*/(\d+)", answer.get("ContentRange", ""))
    return int(whole[1]) if whole else received


def _encoded(metadata: Mapping[str, str]) -> dict[str, str]:
    return {name: encode_metadata_value(value) for name, value in metadata.items()}
