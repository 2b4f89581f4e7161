"""What a user of `lirpa-bench` can get wrong; each becomes one line and exit status 2."""

from __future__ import annotations


class BenchError(Exception):
    """Base of all errors with a message meant for the user."""


class SuiteError(BenchError):
    """A list of instances cannot be read; the message names the file and the line."""


class DatabaseError(BenchError):
    """A file that is no database of ours, or holds no run of that name."""


class RunMismatch(BenchError):
    """A run is continued with other options than it was started with."""


class MissingExtra(BenchError):
    """A part that is optional at installation is not there."""


class CrewLost(BenchError):
    """Those who do the work are gone, a cluster for example; what is done is safe, and the run can be continued."""
