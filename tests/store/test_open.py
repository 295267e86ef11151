"""From what a user writes to a store, or to words that say what is wrong with it."""

from pathlib import Path

import pytest
import trio

from pdfs.errors import StoreRefused, StoreUnavailable, UsageError
from pdfs.store.directory import DirectoryStore
from pdfs.store.open import StoreOptions, open_store, s3_settings
from pdfs.store.s3 import S3Store

pytestmark = pytest.mark.real_clock


async def test_a_file_url_opens_a_directory(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    for url in (f"file://{tmp_path}/a b", f"file://{tmp_path}/a%20b"):
        store = await open_store(url, StoreOptions())
        assert isinstance(store, DirectoryStore)
        assert store.name == f"file://{tmp_path}/a b (only on this machine)"
        await store.aclose()


async def test_a_directory_is_made_only_if_asked(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/share/bucket"
    with pytest.raises(StoreUnavailable):
        await open_store(url, StoreOptions())
    store = await open_store(url, StoreOptions(makes_directory=True))
    await store.aclose()
    assert (tmp_path / "share/bucket").is_dir()


async def test_an_s3_url_opens_a_bucket(credentials: None) -> None:
    options = StoreOptions(endpoint="http://127.0.0.1:9000/", region="eu-1")
    store = await open_store("s3://bucket/some/prefix", options)
    assert isinstance(store, S3Store)
    assert store.name == "s3://bucket/some/prefix at http://127.0.0.1:9000"
    assert store.traits.conditional_delete is False
    await store.aclose()


async def test_an_s3_url_without_credentials_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreRefused, match="AWS_ACCESS_KEY_ID"):
        await open_store("s3://bucket", StoreOptions())


async def test_a_named_profile_gives_its_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "credentials"
    file.write_text("[plants]\naws_access_key_id = a\naws_secret_access_key = s\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    store = await open_store("s3://bucket", StoreOptions(profile="plants"))
    await store.aclose()
    with pytest.raises(UsageError, match="others"):
        await open_store("s3://bucket", StoreOptions(profile="others"))


@pytest.mark.parametrize(
    ("url", "prefix"),
    [
        ("bucket", ""),
        ("bucket/", ""),
        ("bucket/p", "p/"),
        ("bucket/p/", "p/"),
        ("bucket/p/q r/ü", "p/q r/ü/"),
        ("bucket/100%25", "100%25/"),
    ],
)
def test_a_prefix_gets_one_slash_at_its_end(url: str, prefix: str) -> None:
    settings = s3_settings(url, StoreOptions())
    assert (settings.bucket, settings.prefix) == ("bucket", prefix)


@pytest.mark.parametrize("answer", [0.5, 30.0, 120.0])
def test_the_waits_of_one_request_add_up_to_less_than_its_bound(answer: float) -> None:
    settings = s3_settings("bucket", StoreOptions(answer=answer))
    assert settings.connect_timeout + settings.read_timeout < answer


@pytest.mark.parametrize(
    "url",
    [
        "",
        "bucket",
        "/some/directory",
        "http://bucket",
        "file:/one/slash",
        "file://relative/directory",
        "file://",
        "file:///a/../b",
        "file:///a?b",
        "file:///a#b",
        "file:///a%00b",
        "s3:bucket",
        "s3://",
        "s3:///prefix",
        "s3://b",
        "s3://bucket:9000/prefix",
        "s3://user@bucket",
        "s3://bucket//",
        "s3://bucket//prefix",
        "s3://bucket/a//b",
        "s3://bucket/a/../b",
        "s3://bucket/.",
        "s3://bucket/a\nb",
        "s3://bucket/" + "p" * 600,
        "s3://bucket/\udc80",
    ],
)
async def test_what_names_no_bucket_is_refused_in_words(credentials: None, url: str) -> None:
    with pytest.raises(UsageError):
        await open_store(url, StoreOptions())


@pytest.mark.parametrize(
    "endpoint",
    [
        "localhost:9000",
        "ftp://host",
        "https://",
        "http://host:port",
        "http://host:99999",
        "https://user:secret@host",
        "https://host/?a=b",
        "https://[::1",
    ],
)
def test_what_is_no_endpoint_is_refused_without_repeating_secrets(endpoint: str) -> None:
    with pytest.raises(UsageError, match="endpoint") as caught:
        s3_settings("bucket", StoreOptions(endpoint=endpoint))
    assert "secret" not in str(caught.value)


def test_opening_does_not_need_a_running_event_loop(tmp_path: Path) -> None:
    store = trio.run(open_store, f"file://{tmp_path}", StoreOptions())
    trio.run(store.aclose)


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIA123:secret@bucket/prefix",
        "s3://AKIA123:secret/more@bucket",
        "s3://AKIA123:sla/sh/secret@bucket",
        "https://AKIA123:secret@s3.example.com/bucket",
        "file://anna:secret@server/bucket",
        "//AKIA123:secret@s3.example.com/bucket",
    ],
)
async def test_credentials_in_a_url_are_not_repeated(url: str) -> None:
    with pytest.raises(UsageError, match="hold no credentials") as refused:
        await open_store(url, StoreOptions())
    assert "secret" not in str(refused.value)
