"""Fetch a file whole into a cache, or not at all."""

import errno
import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from bikecast.errors import DiskFull, DownloadFailed

TIMEOUT = httpx.Timeout(30.0, connect=10.0)
TRIES = 3
Progress = Callable[[float, float | None, str], None]


def download(
    http: httpx.Client,
    url: str,
    cache: Path,
    progress: Progress = lambda done, total, detail: None,
    *,
    timeout: httpx.Timeout = TIMEOUT,
    pause: float = 1.0,
) -> Path:
    """The file behind ``url`` in ``cache``; fetched only where its checksum is not there yet.

    A connection that fails, stalls, is cut off or answers 5xx is tried three times.

    :param pause: seconds before the second try; doubled before the third.
    :raises DownloadFailed: naming the URL; nothing is left but complete files.
    """
    path = cache / url.rsplit("/", 1)[-1]
    if is_whole(path):
        return path
    for attempt in range(TRIES):
        if attempt:
            time.sleep(pause * 2 ** (attempt - 1))
        try:
            _fetch(http, url, path, progress, timeout)
            return path
        except httpx.HTTPStatusError as error:
            failure = f"answers {error.response.status_code}"
            if error.response.status_code < 500:
                break
        except httpx.HTTPError as error:
            failure = f"{type(error).__name__}: {error}"
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise DiskFull(f"no room left in {cache}", hint="make room, then try again") from error
    raise DownloadFailed(f"{url} {failure}", hint="try again later, or give local files")


def _fetch(
    http: httpx.Client, url: str, path: Path, progress: Progress, timeout: httpx.Timeout
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    digest = hashlib.sha256()
    try:
        with http.stream("GET", url, timeout=timeout) as answer, part.open("wb") as out:
            answer.raise_for_status()
            total = answer.headers.get("content-length")
            done = 0
            for block in answer.iter_bytes():
                out.write(block)
                digest.update(block)
                done += len(block)
                progress(done, float(total) if total else None, "")
        checksum_of(path).write_text(digest.hexdigest())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def checksum_of(path: Path) -> Path:
    """Where a file's checksum is kept."""
    return path.with_name(path.name + ".sha256")


def is_whole(path: Path) -> bool:
    """Whether a file is there, with the checksum it was downloaded with."""
    if not path.exists() or not checksum_of(path).exists():
        return False
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == checksum_of(path).read_text()
