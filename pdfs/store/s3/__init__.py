"""A bucket behind the S3 protocol.

Two clients share one set of credentials. boto3 does whatever needs an answer's headers or XML:
HEAD, GET of whole objects (lock, root, manifests: their `Date` counts), listings, uploads in
parts. obstore does what comes in thousands: PUT and GET of spans, at a fifth of boto3's CPU. It
shows no `Date`; there `date` is what the last answer to boto3 said, moved on by this machine's
clock.

Nothing is ever sent twice: both clients have their retries off, for reads too. Every request has
a bound on connecting and on each wait for bytes; who waits for it may give up earlier and leaves
the thread to its bound.
"""

from pdfs.store.s3.access import Access, open_access
from pdfs.store.s3.settings import S3Settings
from pdfs.store.s3.store import S3Store

__all__ = ["Access", "S3Settings", "S3Store", "open_access"]
