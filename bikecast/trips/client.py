"""Where Citi Bike Jersey City's trips are published, a file a month."""

from datetime import date, timedelta
from pathlib import Path

import httpx

from bikecast.download import TIMEOUT, Progress, download
from bikecast.errors import DownloadFailed

# The operator's own spellings; the second stands for some months, one of them misspelt.
NAMES = (
    "JC-{month}-citibike-tripdata.csv.zip",
    "JC-{month}-citibike-tripdata.zip",
    "JC-{month}-citbike-tripdata.csv.zip",
)
LOOKS = 12


class TripClient:
    """Finds and fetches published months.

    :param cache: folder that keeps them, with their checksums.
    """

    def __init__(self, http: httpx.Client, base_url: str, cache: Path) -> None:
        self._http = http
        self._base = base_url.rstrip("/")
        self._cache = cache

    def newest(self, today: date, months: int) -> list[str]:
        """The URLs of the newest published months, the oldest first; looks a year back at most.

        :raises DownloadFailed: where the server does not answer, or has no month of that year.
        """
        found: list[str] = []
        month = today.replace(day=1)
        for _ in range(LOOKS):
            url = self._published(month)
            if url:
                found.append(url)
            if len(found) == months:
                break
            month = (month - timedelta(days=1)).replace(day=1)
        if not found:
            raise DownloadFailed(
                f"{self._base} has no trips of the last {LOOKS} months",
                hint="give local files with --trips",
            )
        return found[::-1]

    def _published(self, month: date) -> str:
        for name in NAMES:
            url = f"{self._base}/{name.format(month=f'{month:%Y%m}')}"
            try:
                answer = self._http.head(url, timeout=TIMEOUT)
            except httpx.HTTPError as error:
                raise DownloadFailed(
                    f"{self._base} cannot be reached: {error}",
                    hint="check the network, or give local files with --trips",
                ) from error
            if answer.status_code == 200:
                return url
        return ""

    def download(self, url: str, progress: Progress) -> Path:
        """A published month, from the cache where it is there already."""
        return download(self._http, url, self._cache, progress)
