"""HiGHS without its banner, which it would print to standard output before it can be told not to."""

from __future__ import annotations

import highspy


class QuietHighs(highspy.Highs):
    """A solver that prints nothing: constructors that enable callbacks print the banner there."""

    def __init__(self) -> None:
        super().__init__()
        self.setOptionValue("output_flag", False)

    def enableCallbacks(self) -> None:
        self.setOptionValue("output_flag", False)
        super().enableCallbacks()
