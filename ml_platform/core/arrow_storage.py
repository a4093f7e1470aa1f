"""Arrow's own file system of a table's folder or bucket, where Arrow has one.

Delta's is written in Python: a read that Arrow still had under way when the process ended needed the interpreter that
was gone, and the process aborted after its work was done (tried on a busy machine: 47 of 60 short reads in a folder, 1
of 30 on S3; with Arrow's own none).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pyarrow import fs

from ml_platform.core.storage import StorageSettings, is_remote, s3_endpoint, s3_region

__all__ = ["table_filesystem"]


def table_filesystem(uri: str, storage: StorageSettings) -> fs.FileSystem | None:
    """The files below a table's folder or ``s3://`` URL; None for other stores, whose files Delta reads itself."""
    if not is_remote(uri):
        return fs.SubTreeFileSystem(str(Path(uri).absolute()), fs.LocalFileSystem())
    kind, _, path = uri.partition("://")
    if kind not in {"s3", "s3a"}:
        return None
    return fs.SubTreeFileSystem(path, _s3(storage, s3_endpoint(storage), s3_region(storage)))


@lru_cache(maxsize=8)
def _s3(storage: StorageSettings, endpoint: str | None, region: str | None) -> fs.FileSystem:
    """One client for all tables of a store: each has its own connections."""
    parts = urlsplit(endpoint or "")
    scheme: Literal["http", "https"] = "http" if parts.scheme == "http" else "https"
    return fs.S3FileSystem(
        endpoint_override=parts.netloc or None,
        scheme=scheme,
        region=region,
        connect_timeout=storage.connect_timeout_seconds,
        request_timeout=storage.timeout_seconds,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=storage.retries + 1),
    )
