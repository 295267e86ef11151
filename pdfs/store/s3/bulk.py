"""PUT, and GET of spans, by obstore: blocking calls, to be made in threads.

obstore changes or refuses keys that are no clean paths; `can_carry` says which. Those go by boto3.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import obstore

from pdfs.core.content import ETag
from pdfs.errors import PreconditionFailed, StoreUnavailable
from pdfs.store.objects import Condition, Fetched, IfAbsent, IfMatch, ObjectInfo
from pdfs.store.request import decode_metadata_value, encode_metadata_value
from pdfs.store.s3.access import Access
from pdfs.store.s3.faults import OBSTORE_ERRORS, of_obstore

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult, PutMode

_CONTENT_TYPE = "Content-Type"
_WHOLE = "non-partial response"
"""In obstore's words for the answer that `SentWhole` is about; it has no class of its own."""


class SentWhole(Exception):
    """The store answered with 200 and the whole object, as it may, where a span was asked for."""


class Bulk:
    """Keys are without the prefix."""

    def __init__(self, access: Access) -> None:
        self._settings = access.settings
        self._store = access.bulk

    def can_carry(self, key: str) -> bool:
        """Whether obstore sends this key unchanged: no control characters, no odd components."""
        full = self._settings.prefix + key
        components = full.split("/")
        return full.isprintable() and not any(each in ("", ".", "..") for each in components)

    def put(
        self,
        key: str,
        body: bytes,
        condition: Condition | None,
        content_type: str,
        metadata: Mapping[str, str],
    ) -> ETag:
        attributes = {name: encode_metadata_value(value) for name, value in metadata.items()}
        try:
            stored = obstore.put(
                self._store,
                self._settings.prefix + key,
                body,
                attributes={**attributes, _CONTENT_TYPE: content_type},
                mode=_mode(condition),
                use_multipart=False,
            )
        except OBSTORE_ERRORS as error:
            raise of_obstore(error, key, self._settings) from error
        if not stored["e_tag"]:
            raise StoreUnavailable(f"{self._settings.name} gave an answer that is not S3's")
        return unquoted(stored["e_tag"])

    def get_span(
        self, key: str, span: tuple[int, int], if_match: ETag | None, date: float
    ) -> Fetched:
        """Bytes of the object; `date` is the store's time, which obstore does not show.

        Raises SentWhole: obstore takes no such answer, boto3 does.
        """
        options: GetOptions = {"range": span}
        if if_match is not None:
            options["if_match"] = quoted(if_match)
        try:
            answer = obstore.get(self._store, self._settings.prefix + key, options=options)
            body = answer.bytes().to_bytes()
        except OBSTORE_ERRORS as error:
            if _WHOLE in str(error):
                raise SentWhole from error
            raise of_obstore(error, key, self._settings) from error
        if len(body) != span[1] - span[0]:
            raise PreconditionFailed(key)
        return Fetched(info=_info(key, answer, date), body=body)


def _mode(condition: Condition | None) -> "PutMode":
    match condition:
        case None:
            return "overwrite"
        case IfAbsent():
            return "create"
        case IfMatch(etag):
            return {"e_tag": quoted(etag)}


def _info(key: str, answer: "GetResult", date: float) -> ObjectInfo:
    meta = answer.meta
    described = {str(name).lower(): str(value) for name, value in answer.attributes.items()}
    content_type = described.pop(_CONTENT_TYPE.lower(), "")
    return ObjectInfo(
        key=key,
        size=meta["size"],
        etag=unquoted(meta["e_tag"] or ""),
        last_modified=meta["last_modified"].timestamp(),
        date=date,
        content_type=content_type,
        metadata={name: decode_metadata_value(value) for name, value in described.items()},
    )


def quoted(etag: ETag) -> str:
    """As it stands in a condition's header."""
    return f'"{etag}"'


def unquoted(header: str) -> ETag:
    return ETag(header.removeprefix("W/").strip('"'))
