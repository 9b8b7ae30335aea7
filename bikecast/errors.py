"""Everything that bikecast raises on purpose.

::

    BikecastError                  3  could not run
    ├── InputError                 2  what was given cannot be used
    │   ├── FileRefused            2  a file is not what it was given as
    │   ├── UnknownName            2  no station, system, model or version of that name
    │   ├── OtherRelease           2  a model of another release, which this one cannot ask
    │   ├── NotLearned             2  a model was asked for what it has not learned
    │   ├── SchemaTooNew           2  the database belongs to a newer release
    │   ├── InUse                  2  a port or a data folder is taken
    │   └── DiskFull               2  no room left where it must write
    ├── Refused                    1  the answer is no: a gate failed
    ├── Unavailable                3  something bikecast depends on does not answer
    │   ├── DownloadFailed         3  a file could not be fetched whole
    │   └── HostGone               3  a host does not answer, or not in time
    ├── CommandFailed              3  a command on a host ended with an error
    └── Locked                     3  somebody else is at work on the hosts
        └── LockLost               3  somebody else took the lock over

The number is the exit code of the command line. Each message is one line that says what is
wrong, where, and the next step.
"""


class BikecastError(Exception):
    """The root of the tree.

    :param what: what is wrong, and where (name the file, the row, the station).
    :param hint: the next step, as an imperative; shown behind the message.
    """

    exit_code = 3

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what, hint)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        """One line: what and where, then the next step."""
        text = f"{self.what}; {self.hint}" if self.hint else self.what
        return " ".join(text.split())


class InputError(BikecastError):
    """What was given cannot be used as it is."""

    exit_code = 2


class FileRefused(InputError):
    """A file is not what it was given as; nothing of it was kept."""


class UnknownName(InputError):
    """There is no station, system, model or version of that name."""


class OtherRelease(InputError):
    """A model was made by another release, and this one cannot ask it."""


class NotLearned(InputError):
    """A model was asked for what it has not learned."""


class SchemaTooNew(InputError):
    """The database was migrated by a newer release than this one can work with."""


class InUse(InputError):
    """A port or a data folder is taken by another process."""


class DiskFull(InputError):
    """There is no room left on the device that has to be written to."""


class Refused(BikecastError):
    """The answer is no: a gate failed or a release went back."""

    exit_code = 1


class Unavailable(BikecastError):
    """Something that bikecast depends on does not answer."""


class DownloadFailed(Unavailable):
    """A file could not be fetched whole."""


class HostGone(Unavailable):
    """A host does not answer, or not in time."""


class CommandFailed(BikecastError):
    """A command on a host ended with an error.

    :param host: name of the host.
    :param command: what it did, in a few words.
    :param said: what it printed on stderr; the last line of all that it printed is shown.
    :param out: what it printed on stdout.
    """

    def __init__(self, host: str, command: str, code: int, said: str, out: str = "") -> None:
        lines = [line for line in (said.strip() or out).splitlines() if line.strip()]
        super().__init__(
            f"{host}: {lines[-1] if lines else f'exit code {code}'} ({command})",
            hint="see to that on the host, then try again",
        )
        self.host = host
        self.code = code
        self.said = said
        self.out = out


class Locked(BikecastError):
    """Somebody else is at work on the hosts."""


class LockLost(Locked):
    """Somebody else took the lock over; whoever gets this changes nothing any more."""
