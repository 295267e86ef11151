"""Where a bucket is, and how long one request to it may take."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """Whatever is empty or None comes from the environment and files that all S3 tools read."""

    bucket: str
    prefix: str = ""
    """Empty, or ends in one `/`."""
    endpoint: str | None = None
    """None = AWS."""
    region: str | None = None
    profile: str | None = None
    """A section of ~/.aws/config and ~/.aws/credentials."""
    connect_timeout: float = 5.0
    read_timeout: float = 20.0
    """Longest wait for the next bytes of an answer."""
    bulk_timeout: float = 600.0
    """Longest time for one whole PUT or GET of a span; the protocols give up earlier, by size."""
    control_threads: int = 16
    bulk_threads: int = 32

    @property
    def name(self) -> str:
        place = f"s3://{self.bucket}/{self.prefix}".rstrip("/")
        return f"{place} at {self.endpoint}" if self.endpoint else place
