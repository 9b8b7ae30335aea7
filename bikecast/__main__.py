"""Where ``bikecast`` and ``python -m bikecast`` begin, so that Ctrl-C is heard from the start."""

import os
import signal
from types import FrameType
from typing import Final, NoReturn

# Threads that wait in a loop cost another busy program, and then themselves: beside two of them
# XGBoost's made a training of 18 s one of more than 60 (32 s this way), and those of OpenBLAS four
# networks of 12 s ones of 40; they had little to gain from them.
CALM: Final = {"OMP_WAIT_POLICY": "passive", "OPENBLAS_NUM_THREADS": "1"}
"""What is set in the environment where the user has not set it."""


def main() -> NoReturn:
    """Run the command line, which takes a second to import; Ctrl-C ends that as well."""
    signal.signal(signal.SIGINT, _stopped)
    # Read when libraries are loaded, so before anything is imported.
    for name, value in CALM.items():
        os.environ.setdefault(name, value)
    from bikecast.cli import main as run

    run()


def _stopped(signum: int, frame: FrameType | None) -> NoReturn:
    """End at once: nothing has begun, and an exception would be lost in what is being imported."""
    os.write(2, b"stopped\n")
    os._exit(128 + signum)


if __name__ == "__main__":
    main()
