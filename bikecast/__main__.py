"""Where ``bikecast`` and ``python -m bikecast`` begin, so that Ctrl-C is heard from the start."""

import os
import signal
from types import FrameType
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line, which takes a second to import; Ctrl-C ends that as well."""
    signal.signal(signal.SIGINT, _stopped)
    from bikecast.cli import main as run

    run()


def _stopped(signum: int, frame: FrameType | None) -> NoReturn:
    """End at once: nothing has begun, and an exception would be lost in what is being imported."""
    os.write(2, b"stopped\n")
    os._exit(128 + signum)


if __name__ == "__main__":
    main()
