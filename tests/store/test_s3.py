"""The S3 store before servers that fail, refuse or lie: one request, and a true error."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import trio
from botocore.credentials import ReadOnlyCredentials

from pdfs.core.content import ETag
from pdfs.errors import (
    ClockSkewed,
    KeyClash,
    ObjectNotFound,
    PreconditionFailed,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    StoreUnsuitable,
    UsageError,
)
from pdfs.store.objects import IfAbsent, IfMatch, Traits, UploadId
from pdfs.store.s3 import Access, S3Settings, S3Store, open_access
from pdfs.store.s3.signed import presign
from tests.store.scripted_server import DATE, Request, Script, answer, refusal, scripted_server
from tests.store.servers import ACCESS_KEY, SECRET_KEY, Server, admin_client

pytestmark = pytest.mark.real_clock

ETAG = ETag("9dd4e461268c8034f5c8564e155c67a6")
QUOTED = f'"{ETAG}"'
UPLOAD = UploadId("upload")
MODIFIED = formatdate(DATE, usegmt=True)


def settings(endpoint: str, **changes: Any) -> S3Settings:
    return S3Settings(
        bucket="bucket",
        prefix="prefix/",
        endpoint=endpoint,
        region="eu-test-1",
        **{"connect_timeout": 1.0, "read_timeout": 0.5, "bulk_timeout": 1.0} | changes,
    )


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Script, Access]]:
    """One server for all tests, as it takes a while to read the models of S3."""
    with pytest.MonkeyPatch.context() as patch, scripted_server() as (endpoint, script):
        patch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        yield script, open_access(settings(endpoint))


@pytest.fixture
def script(server: tuple[Script, Access]) -> Script:
    server[0].requests.clear()
    return server[0]


@pytest.fixture
def store(script: Script, server: tuple[Script, Access]) -> Iterator[S3Store]:
    made = S3Store(server[1])
    yield made
    trio.run(made.aclose)


@pytest.fixture
def real(s3_store: Callable[[Server], S3Store], seaweed: Server) -> Iterator[S3Store]:
    made = s3_store(seaweed)
    yield made
    trio.run(made.aclose)


@pytest.fixture
def neighbour(s3_store: Callable[[Server], S3Store], seaweed: Server) -> Iterator[S3Store]:
    """Another prefix of the same bucket."""
    made = s3_store(seaweed)
    yield made
    trio.run(made.aclose)


async def list_all(pages: Any) -> list[Any]:
    return [row async for page in pages for row in page]


Call = Callable[[S3Store], Awaitable[object]]
CALLS: Mapping[str, Call] = {
    "get": lambda s: s.get("a b"),
    "get span": lambda s: s.get("a b", span=(0, 1)),
    "head": lambda s: s.head("a b"),
    "put": lambda s: s.put("a b", b"x", condition=None),
    "put if absent": lambda s: s.put("a b", b"x", condition=IfAbsent()),
    "put if match": lambda s: s.put("a b", b"x", condition=IfMatch(ETAG)),
    "delete": lambda s: s.delete("a b", condition=None),
    "delete if match": lambda s: s.delete("a b", condition=IfMatch(ETAG)),
    "signed delete": lambda s: s.sign_delete("a b", valid_for=30).send(),
    "list": lambda s: list_all(s.list("a b")),
    "list directories": lambda s: list_all(s.list_directories("a b")),
    "create upload": lambda s: s.create_upload("a b"),
    "upload part": lambda s: s.upload_part("a b", UPLOAD, 1, b"x"),
    "copy part": lambda s: s.copy_part("a b", UPLOAD, 1, source="c d", span=(0, 1), if_match=None),
    "complete": lambda s: s.complete_upload("a b", UPLOAD, [ETAG], condition=IfMatch(ETAG)),
    "abort": lambda s: s.abort_upload("a b", UPLOAD),
    "list uploads": lambda s: list_all(s.list_uploads("a b")),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
through_both_clients = pytest.mark.parametrize("is_known", [False, True], ids=["first", "later"])
"""The first request always goes by boto3; later PUTs and GETs of spans by obstore."""


def both_ways(*without: str) -> pytest.MarkDecorator:
    """Every call as the first and as a later one; a signed delete first asks for the time."""
    pairs = {
        f"{name} {'later' if is_known else 'first'}": (call, is_known)
        for name, call in CALLS.items()
        for is_known in (False, True)
        if name not in without and (is_known or name != "signed delete")
    }
    return pytest.mark.parametrize(("call", "is_known"), pairs.values(), ids=pairs)


async def meet(store: S3Store, script: Script) -> None:
    """Let the store learn the server's time; from then on obstore carries what is bulk."""
    script.answer = lambda _: answer(200, ETag=QUOTED, Last_Modified=MODIFIED)
    await store.head("any")
    script.requests.clear()


async def fault(store: S3Store, call: Call) -> StoreError:
    with pytest.raises(StoreError) as caught:
        await call(store)
    return caught.value


# Silence and failure: never sent twice


@both_ways()
@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        refusal(500, "InternalError"),
        refusal(503, "ServiceUnavailable"),
        answer(502, b"<html>Bad Gateway</html>"),
        b"complete nonsense\r\n\r\n",
    ],
    ids=["nothing", "cut head", "500", "503", "proxy", "nonsense"],
)
async def test_a_request_without_an_answer_is_sent_once_and_in_doubt(
    store: S3Store, script: Script, call: Call, is_known: bool, said: bytes
) -> None:
    if is_known:
        await meet(store, script)
    script.answer = lambda _: said
    error = await fault(store, call)
    assert isinstance(error, StoreUnavailable)
    assert error.sent
    assert len(script.requests) == 1


@both_ways()
async def test_a_store_that_stays_silent_is_given_up(
    store: S3Store, script: Script, call: Call, is_known: bool
) -> None:
    if is_known:
        await meet(store, script)
    script.answer = lambda _: None
    with trio.fail_after(45):  # the usual limits are above it
        error = await fault(store, call)
    assert isinstance(error, StoreUnavailable)
    assert error.sent
    assert len(script.requests) == 1


@every_call
async def test_a_store_that_is_not_there_was_sent_nothing(credentials: None, call: Call) -> None:
    store = S3Store(open_access(settings("http://127.0.0.1:1")))
    error = await fault(store, call)
    assert isinstance(error, StoreUnavailable)
    assert not error.sent
    assert "network" in error.remedy
    await store.aclose()


@pytest.mark.parametrize("call", [CALLS["put"], CALLS["get span"]], ids=["put", "get span"])
async def test_obstore_too_knows_when_nothing_was_sent(credentials: None, call: Call) -> None:
    with scripted_server() as (endpoint, script):
        store = S3Store(open_access(settings(endpoint)))
        await meet(store, script)
    error = await fault(store, call)
    assert isinstance(error, StoreUnavailable)
    assert not error.sent
    await store.aclose()


async def test_who_gives_up_does_not_wait_for_the_thread(store: S3Store, script: Script) -> None:
    await meet(store, script)
    script.answer = lambda _: None
    started = trio.current_time()
    with trio.move_on_after(0.05):
        await store.put("a", b"", condition=None)
    assert trio.current_time() - started < 0.4


@pytest.mark.parametrize("name", ["get", "get span"])
async def test_a_body_that_ends_early_is_no_answer(
    store: S3Store, script: Script, name: str
) -> None:
    await meet(store, script)
    whole = answer(
        206 if name == "get span" else 200,
        b"x" * 1000,
        ETag=QUOTED,
        Last_Modified=MODIFIED,
        Content_Range="bytes 0-999/1000",
    )
    script.answer = lambda _: whole[:-10]
    call = CALLS["get"] if name == "get" else lambda s: s.get("a", span=(0, 1000))
    assert isinstance(await fault(store, call), StoreUnavailable)


async def test_a_complete_that_fails_after_200_is_no_success(
    store: S3Store, script: Script
) -> None:
    """S3 may send the 200 first and the error in the body."""
    body = b"<Error><Code>InternalError</Code><Message>late</Message></Error>"
    script.answer = lambda _: answer(200, body)
    for name in ("complete", "copy part"):
        assert isinstance(await fault(store, CALLS[name]), StoreUnavailable)


@both_ways()
async def test_a_page_that_is_not_s3s_is_no_answer(
    store: S3Store, script: Script, call: Call, is_known: bool
) -> None:
    """Least of all an empty listing, from which would follow that everything was removed."""
    if is_known:
        await meet(store, script)
    script.answer = lambda _: answer(200, b"<html>Please log in to the hotel's network</html>")
    error = await fault(store, call)
    assert isinstance(error, StoreUnavailable)
    assert error.sent


# Refusals


@both_ways("head")  # whose answer names no reason
@pytest.mark.parametrize(
    ("status", "code", "expected", "words"),
    [
        (403, "AccessDenied", StoreRefused, "rights"),
        (403, "InvalidAccessKeyId", StoreRefused, "access key"),
        (403, "SignatureDoesNotMatch", StoreRefused, "secret key"),
        (400, "ExpiredToken", StoreRefused, "renew"),
        (400, "InvalidArgument", StoreRefused, "InvalidArgument"),
        (403, "QuotaExceeded", StoreRefused, "quota"),
        (507, "XMinioStorageFull", StoreRefused, "room"),
        (501, "NotImplemented", StoreRefused, "NotImplemented"),
        (301, "PermanentRedirect", StoreRefused, "region"),
        (404, "NoSuchBucket", StoreRefused, "no bucket 'bucket'"),
        (409, "OperationAborted", StoreUnavailable, "OperationAborted"),
        (403, "RequestTimeTooSkewed", ClockSkewed, "clock"),
    ],
)
async def test_a_refusal_is_told_in_words(
    store: S3Store,
    script: Script,
    call: Call,
    is_known: bool,
    status: int,
    code: str,
    expected: type[StoreError],
    words: str,
) -> None:
    if is_known:
        await meet(store, script)
    script.answer = lambda _: refusal(status, code)
    error = await fault(store, call)
    assert type(error) is expected
    assert words in str(error)
    assert len(script.requests) == 1


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (403, StoreRefused),
        (404, ObjectNotFound),
        (412, PreconditionFailed),
        (503, StoreUnavailable),
    ],
)
async def test_head_is_understood_by_its_status(
    store: S3Store, script: Script, status: int, expected: type[StoreError]
) -> None:
    script.answer = lambda _: answer(status)
    assert type(await fault(store, CALLS["head"])) is expected


PAGE = b"<html>404 page not found</html>"


@through_both_clients
@pytest.mark.parametrize("name", sorted(CALLS))
async def test_a_page_that_says_404_is_not_taken_for_an_answer_of_the_store(
    store: S3Store, script: Script, is_known: bool, name: str
) -> None:
    """Ingresses say so while the store behind them is away: nothing is gone for that."""
    if is_known:
        await meet(store, script)
    kind = "text/html; charset=utf-8"

    def say(request: Request) -> bytes:
        if request.method == "HEAD":
            return answer(404, Content_Type=kind, Content_Length=str(len(PAGE)))
        return answer(404, PAGE, Content_Type=kind)

    script.answer = say
    error = await fault(store, CALLS[name])
    assert isinstance(error, StoreUnavailable)
    assert error.sent
    assert "not S3's" in str(error)


@pytest.mark.parametrize("kind", ["", "application/xml", "text/html"])
async def test_head_needs_no_code_to_say_that_there_is_nothing(
    store: S3Store, script: Script, kind: str
) -> None:
    """moto's answer to HEAD has the type of a page, and no page."""
    script.answer = lambda _: answer(404, Content_Type=kind)
    assert isinstance(await fault(store, CALLS["head"]), ObjectNotFound)


@through_both_clients
@pytest.mark.parametrize(
    ("name", "status", "code", "expected"),
    [
        ("put if absent", 412, "PreconditionFailed", PreconditionFailed),
        ("put if match", 412, "PreconditionFailed", PreconditionFailed),
        ("put if match", 404, "NoSuchKey", PreconditionFailed),
        ("delete if match", 412, "PreconditionFailed", PreconditionFailed),
        ("delete if match", 404, "NoSuchKey", ObjectNotFound),
        ("complete", 412, "PreconditionFailed", PreconditionFailed),
        ("complete", 404, "NoSuchUpload", ObjectNotFound),
        ("complete", 404, "NoSuchKey", PreconditionFailed),
        ("upload part", 404, "NoSuchUpload", ObjectNotFound),
        ("copy part", 412, "PreconditionFailed", PreconditionFailed),
        ("get", 404, "NoSuchKey", ObjectNotFound),
        ("get span", 404, "NoSuchKey", ObjectNotFound),
        ("get span", 416, "InvalidRange", PreconditionFailed),
        ("put", 409, "ExistingObjectIsDirectory", KeyClash),
    ],
)
async def test_what_a_condition_met_is_told_apart(
    store: S3Store,
    script: Script,
    is_known: bool,
    name: str,
    status: int,
    code: str,
    expected: type[StoreError],
) -> None:
    store.believe(_all_traits())
    if is_known:
        await meet(store, script)
    script.answer = lambda _: refusal(status, code)
    error = await fault(store, CALLS[name])
    assert isinstance(error, expected)
    assert "prefix/" not in str(error)
    assert len(script.requests) == 1


@through_both_clients
@pytest.mark.parametrize("name", ["put if absent", "put if match", "complete"])
async def test_a_conflict_of_two_conditional_writes_means_that_ours_was_not_done(
    store: S3Store, script: Script, is_known: bool, name: str
) -> None:
    if is_known:
        await meet(store, script)
    script.answer = lambda _: refusal(409, "ConditionalRequestConflict")
    error = await fault(store, CALLS[name])
    assert isinstance(error, StoreUnavailable)
    assert not error.sent
    assert len(script.requests) == 1


@pytest.mark.parametrize("name", ["delete", "signed delete", "abort"])
async def test_removing_what_is_gone_is_no_error(store: S3Store, script: Script, name: str) -> None:
    await meet(store, script)
    script.answer = lambda _: refusal(404, "NoSuchKey")
    await CALLS[name](store)


async def test_a_store_that_wants_peace_says_for_how_long(store: S3Store, script: Script) -> None:
    for status, code in ((503, "SlowDown"), (429, "TooManyRequests")):
        said = refusal(status, code, Retry_After="7")
        script.answer = lambda _, said=said: said  # type: ignore[misc]  # one answer per round
        error = await fault(store, CALLS["get"])
        assert isinstance(error, StoreUnavailable)
        assert error.retry_after == 7.0
    later = formatdate(DATE + 11, usegmt=True)
    script.answer = lambda _: refusal(503, "SlowDown", Retry_After=later)
    error = await fault(store, CALLS["get"])
    assert isinstance(error, StoreUnavailable)
    assert error.retry_after == 11.0


async def test_a_store_that_wants_peace_and_does_not_say_for_how_long_gets_a_second(
    store: S3Store, script: Script
) -> None:
    for name in ("get", "put", "delete", "complete"):
        script.answer = lambda _: refusal(429, "ServiceUnavailable", "Reduce your request rate")
        error = await fault(store, CALLS[name])
        assert isinstance(error, StoreUnavailable)
        assert (error.retry_after, error.sent) == (1.0, False)


async def test_a_part_beyond_the_end_of_its_source_is_no_wrong_argument(
    store: S3Store, script: Script
) -> None:
    words = "Range specified is not valid for source object of size: 4"
    script.answer = lambda _: refusal(400, "InvalidArgument", words)
    assert isinstance(await fault(store, CALLS["copy part"]), PreconditionFailed)


async def test_a_wrong_clock_is_told_with_its_offset(
    store: S3Store, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pdfs.store.s3.faults.time.time", lambda: DATE - 3600)
    script.answer = lambda _: refusal(403, "RequestTimeTooSkewed")
    assert "1 h behind" in str(await fault(store, CALLS["get"]))
    monkeypatch.setattr("pdfs.store.s3.faults.time.time", lambda: DATE + 60)
    body = (
        b"<Error><Code>RequestTimeTooSkewed</Code><Message>m</Message>"
        b"<ServerTime>2023-11-14T22:13:20Z</ServerTime></Error>"
    )
    await meet(store, script)
    script.answer = lambda _: answer(403, body)
    assert "1 min ahead of" in str(await fault(store, CALLS["put"]))
    monkeypatch.setattr("pdfs.store.s3.faults.time.time", lambda: DATE + 86_400 * 3.5)
    script.answer = lambda _: refusal(403, "RequestTimeTooSkewed")
    for name in ("get", "put"):
        assert "3 days ahead of" in str(await fault(store, CALLS[name])), "by either client"


@both_ways()
async def test_no_answer_is_told_in_the_same_short_words_each_time(
    store: S3Store, script: Script, call: Call, is_known: bool
) -> None:
    """A log that notes what is new would else have a line for each try of a week."""
    if is_known:
        await meet(store, script)
    script.answer = lambda _: answer(503)
    unavailable = str(await fault(store, call))
    assert "; if that lasts, ask whoever runs the bucket" in unavailable
    script.answer = lambda _: b""
    first, second = [str(await fault(store, call)) for _ in range(2)]
    assert first == second
    assert "http://" not in first.replace(store.name, "")
    assert "check the network" in first
    assert ".;" not in first


async def test_an_unproven_store_that_sees_an_object_in_a_directory_reports_a_clash(
    store: S3Store, script: Script
) -> None:
    """SeaweedFS says 412 to `a` if absent beside `a/b`; then a HEAD says that there is no `a`."""
    script.answer = lambda request: (
        refusal(412, "PreconditionFailed") if request.method == "PUT" else answer(404)
    )
    assert isinstance(await fault(store, CALLS["put if absent"]), KeyClash)
    script.answer = lambda request: (
        refusal(412, "PreconditionFailed")
        if request.method == "PUT"
        else answer(200, ETag=QUOTED, Last_Modified=MODIFIED)
    )
    assert isinstance(await fault(store, CALLS["put if absent"]), PreconditionFailed)


async def test_what_one_answer_alone_says_is_no_clash(store: S3Store, script: Script) -> None:
    """It may be wrong; or an object was there until then."""

    def say(request: Request) -> bytes:
        if request.method == "HEAD":
            return answer(404)
        puts = [each for each in script.requests if each.method == "PUT"]
        return refusal(412, "PreconditionFailed") if len(puts) == 1 else answer(200, ETag=QUOTED)

    script.answer = say
    await CALLS["put if absent"](store)
    assert [request.method for request in script.requests] == ["PUT", "HEAD", "PUT"]


# Stores that lie


async def test_another_version_than_asked_for_is_refused_here_too(
    store: S3Store, script: Script
) -> None:
    await meet(store, script)
    script.answer = lambda _: answer(200, b"x", ETag=QUOTED, Last_Modified=MODIFIED)
    with pytest.raises(PreconditionFailed):
        await store.get("a", if_match=ETag("other"))
    script.answer = lambda _: answer(
        206, b"x", ETag=QUOTED, Last_Modified=MODIFIED, Content_Range="bytes 0-0/9"
    )
    with pytest.raises(PreconditionFailed):
        await store.get("a", span=(0, 1), if_match=ETag("other"))
    assert (await store.get("a", span=(0, 1), if_match=ETAG)).info.size == 9


async def test_a_store_that_does_not_date_its_answers_is_refused(
    store: S3Store, script: Script
) -> None:
    script.answer = lambda _: answer(200, Date="", ETag=QUOTED, Last_Modified=MODIFIED)
    for name in ("get", "head"):
        assert isinstance(await fault(store, CALLS[name]), StoreUnsuitable)


@pytest.mark.parametrize("by", ["boto3", "obstore, which takes no such answer"])
async def test_a_store_that_sends_the_whole_for_a_span_is_cut_here(
    store: S3Store, script: Script, by: str
) -> None:
    if by != "boto3":
        await meet(store, script)
    script.answer = lambda _: answer(200, b"0123456789", ETag=QUOTED, Last_Modified=MODIFIED)
    fetched = await store.get("a", span=(2, 4))
    assert (fetched.body, fetched.info.size) == (b"23", 10)


# Signed deletes


def test_a_presigned_url_is_signed_as_aws_says() -> None:
    """The example of the AWS manual, “Authenticating Requests: Using Query Parameters”."""
    url = presign(
        "GET",
        "https://examplebucket.s3.amazonaws.com/test.txt",
        ReadOnlyCredentials(
            "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", None
        ),
        "us-east-1",
        date=1369353600.0,
        valid_for=86400,
    )
    signature = "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    assert url.endswith(f"X-Amz-Signature={signature}")


async def test_a_signed_delete_is_dated_by_the_stores_clock_when_it_was_signed(
    store: S3Store, script: Script
) -> None:
    await meet(store, script)  # the server lives in 2023
    signed = store.sign_delete("a+b c", valid_for=30)
    await trio.sleep(1.5)
    script.answer = lambda _: answer(204)
    await signed.send()
    (request,) = script.requests
    assert (request.method, urlsplit(request.target).path) == (
        "DELETE",
        "/bucket/prefix/a%2Bb%20c",
    )
    query = parse_qs(urlsplit(request.target).query)
    assert query["X-Amz-Date"] == ["20231114T221320Z"]
    assert query["X-Amz-Expires"] == ["30"]


async def test_a_signed_delete_asks_for_the_time_if_it_does_not_know_it(
    store: S3Store, script: Script
) -> None:
    signed = store.sign_delete("a", valid_for=30)
    script.answer = lambda _: answer(204)
    await signed.send()
    assert [request.method for request in script.requests] == ["HEAD", "DELETE"]
    query = parse_qs(urlsplit(script.requests[1].target).query)
    assert query["X-Amz-Date"][0].startswith("20231114T2213")


async def test_a_signed_delete_that_comes_too_late_is_refused_by_a_real_store(
    real: S3Store,
) -> None:
    store = real
    await store.put("a", b"", condition=None)
    signed = store.sign_delete("a", valid_for=1)
    await trio.sleep(2.5)
    with pytest.raises(StoreRefused, match="expired"):
        await signed.send()
    await store.head("a")


# What other tools see


async def test_other_tools_read_our_metadata_under_our_prefix(
    real: S3Store, seaweed: Server
) -> None:
    store = real
    metadata = {"mtime": "1700000000.123456789", "pdfs-publish": "ab12"}
    first = await store.put("a/ü b", b"x", condition=None, content_type="x/y", metadata=metadata)
    await store.put("a/ü b", b"y", condition=IfMatch(first.etag), metadata=metadata)
    seen = _head_by_boto(seaweed, store, "a/ü b")
    assert seen["Metadata"] == metadata
    assert seen["ContentType"] == "application/octet-stream"


def _head_by_boto(server: Server, store: S3Store, key: str) -> Any:
    prefix = store.name.partition(" at ")[0].removeprefix(f"s3://{server.bucket}/")
    client = admin_client(server)
    try:
        return client.head_object(Bucket=server.bucket, Key=f"{prefix}/{key}")
    finally:
        client.close()


async def test_keys_of_other_prefixes_are_not_seen(real: S3Store, neighbour: S3Store) -> None:
    one, other = real, neighbour
    await one.put("a", b"", condition=None)
    assert await list_all(other.list("")) == []
    with pytest.raises(ObjectNotFound):
        await other.head("a")


@pytest.mark.parametrize("key", ["a//b", "/a", "a/", "a/../b", "a/./b", "..", "."])
async def test_a_key_that_may_not_arrive_as_it_is_is_refused(store: S3Store, key: str) -> None:
    with pytest.raises(UsageError):
        await store.put(key, b"", condition=None)
    with pytest.raises(UsageError):
        await store.copy_part("a", UPLOAD, 1, source=key, span=(0, 1), if_match=None)


async def test_requests_carry_no_checksum_that_r2_would_refuse(
    store: S3Store, script: Script
) -> None:
    await meet(store, script)
    xml = b"<R><UploadId>u</UploadId><ETag>e</ETag></R>"
    script.answer = lambda _: answer(200, xml, ETag=QUOTED, Last_Modified=MODIFIED)
    for name in ("put", "put if absent", "upload part", "create upload", "complete"):
        await CALLS[name](store)
    names = {name for request in script.requests for name in request.headers}
    assert not [name for name in names if "checksum" in name or name == "x-amz-trailer"]
    assert all("aws-chunked" not in r.headers.get("content-encoding", "") for r in script.requests)


# Configuration


def test_without_credentials_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreRefused, match="AWS_ACCESS_KEY_ID"):
        open_access(settings("http://127.0.0.1:1"))


def test_an_unknown_profile_is_a_usage_error(credentials: None) -> None:
    with pytest.raises(UsageError, match="nobody"):
        open_access(settings("http://127.0.0.1:1", profile="nobody"))


def test_a_prefix_shortens_the_longest_key(credentials: None) -> None:
    store = S3Store(open_access(settings("http://127.0.0.1:1")))
    assert store.max_key_bytes == 1024 - len("prefix/")
    trio.run(store.aclose)


def test_the_store_is_named_with_bucket_prefix_and_endpoint(credentials: None) -> None:
    assert settings("http://h:1").name == "s3://bucket/prefix at http://h:1"
    assert S3Settings(bucket="b").name == "s3://b"


def _all_traits() -> Traits:
    return Traits(
        conditional_complete=True,
        conditional_delete=True,
        conditional_part_copy=True,
        nested_keys=True,
    )
