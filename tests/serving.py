"""A service of the made-up city in processes of its own, as `bikecast serve` runs it."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from fakes import FakeSource, published
from bikecast.config import Settings
from bikecast.serve.server import serve

{before}
where = {{"bind": sys.argv[3], "data_dir": Path(sys.argv[2])}}
settings = Settings(**where, log_format=sys.argv[4], admin_token="an-admin-token-of-tests")
serve(settings, lambda: FakeSource(published()), on_ready=lambda url: print(url, flush=True))
"""


@contextmanager
def service(
    stderr: int | None = None, bind: str = "127.0.0.1:0", form: str = "json", before: str = ""
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Its URL, and its first process; it is stopped where the test has not done so.

    :param stderr: where it logs; by default nowhere.
    :param before: lines of Python that its first process runs before it serves.
    """
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                PROGRAM.format(before=before),
                str(Path(__file__).parent),
                folder,
                bind,
                form,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if stderr is None else stderr,
            text=True,
        )
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.terminate()
            process.wait(60)
            process.stdout.close()
