"""``python -m bikecast`` is ``bikecast``."""

from bikecast.cli import main

main()
