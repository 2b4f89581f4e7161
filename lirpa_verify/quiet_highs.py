"""HiGHS with one thread and without its banner, which it would print before it can be told not to.

All solvers of a process must have equally many threads: HiGHS refuses to run one with another number than the first.
"""

from __future__ import annotations

import highspy


class QuietHighs(highspy.Highs):
    """A solver of one thread that prints nothing: constructors that enable callbacks print the banner there."""

    def __init__(self) -> None:
        super().__init__()
        self.setOptionValue("output_flag", False)
        self.setOptionValue("threads", 1)

    def enableCallbacks(self) -> None:
        self.setOptionValue("output_flag", False)
        super().enableCallbacks()
