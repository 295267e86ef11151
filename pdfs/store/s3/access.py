"""One set of credentials, two clients: how boto3 and obstore are told where the bucket is."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import boto3
import botocore.exceptions
from botocore.config import Config
from botocore.credentials import Credentials
from obstore.store import S3Store as Obstore

from pdfs.errors import StoreRefused, UsageError
from pdfs.store.s3.settings import S3Settings

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Credential
    from types_boto3_s3 import S3Client

_CREDENTIALS_LIVE: Final = timedelta(minutes=1)
"""So long obstore keeps what it was given before it asks boto3 again, which renews in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What it takes to send requests to the bucket."""

    settings: S3Settings
    region: str
    endpoint: str
    credentials: Credentials
    ca_bundle: str | None
    """A file of certificates to trust, where the configuration names one."""
    control: "S3Client"
    bulk: Obstore


def open_access(settings: S3Settings) -> Access:
    """Read configuration and credentials; nothing is sent to the bucket.

    Raises UsageError for settings that can't be right, StoreRefused without credentials. May take
    a while: some credentials come from the network.
    """
    try:
        session = boto3.Session(profile_name=settings.profile, region_name=settings.region)
        credentials = session.get_credentials()
    except botocore.exceptions.ProfileNotFound as error:
        raise UsageError(f"{error}", remedy="aws configure --profile … makes one") from None
    if credentials is None:
        raise StoreRefused(
            f"no credentials for {settings.name}",
            remedy="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile (aws configure)",
        )
    region = session.region_name or "us-east-1"
    control = _control_client(session, settings, region)
    endpoint = control.meta.endpoint_url
    ca_bundle = session._session.get_config_variable("ca_bundle")
    return Access(
        settings=settings,
        region=region,
        endpoint=endpoint,
        credentials=credentials,
        ca_bundle=ca_bundle,
        control=control,
        bulk=_bulk_client(settings, region, endpoint, credentials, ca_bundle),
    )


def _control_client(session: boto3.Session, settings: S3Settings, region: str) -> "S3Client":
    config = Config(
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.read_timeout,
        retries={"total_max_attempts": 1},
        max_pool_connections=settings.control_threads,
        # The defaults add checksums that Cloudflare R2 and others refuse.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if settings.endpoint else "auto"},
    )
    try:
        client = session.client(
            "s3", region_name=region, endpoint_url=settings.endpoint, config=config
        )
    except ValueError as error:
        raise UsageError(f"the endpoint {settings.endpoint!r} can't be right: {error}") from None
    client.meta.events.register_last("before-parameter-build.s3", _stay_in_region)
    return client


def _stay_in_region(context: dict[str, Any], **_: object) -> None:
    """Say that the request was redirected already, so that it is not sent to another region.

    Else botocore asks for the bucket's region after each 301 (and 400 to HEAD), without end where
    that is answered by 301 too, and sends again.
    """
    context.setdefault("s3_redirect", {})["redirected"] = True


def _bulk_client(
    settings: S3Settings,
    region: str,
    endpoint: str,
    credentials: Credentials,
    ca_bundle: str | None,
) -> Obstore:
    def provide() -> "S3Credential":
        frozen = credentials.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key or "",
            "secret_access_key": frozen.secret_key or "",
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + _CREDENTIALS_LIVE,
        }

    client: ClientConfig = {
        "allow_http": endpoint.startswith("http:"),
        "connect_timeout": timedelta(seconds=settings.connect_timeout),
        "read_timeout": timedelta(seconds=settings.read_timeout),
        "timeout": timedelta(seconds=settings.bulk_timeout),
    }
    if ca_bundle is not None:
        client["root_certificate"] = _certificates(ca_bundle)
    return Obstore(
        settings.bucket,
        endpoint=endpoint,
        region=region,
        virtual_hosted_style_request=False,
        credential_provider=provide,
        client_options=client,
        retry_config={"max_retries": 0},
    )


def _certificates(ca_bundle: str) -> str:
    try:
        context = ssl.create_default_context(cafile=ca_bundle)
    except OSError as error:
        raise UsageError(f"the certificates in {ca_bundle} can't be read: {error}") from None
    found: list[Any] = context.get_ca_certs(binary_form=True)
    return "".join(ssl.DER_cert_to_PEM_cert(each) for each in found)
