"""The roots of an activation split in turn, the nearest to a proof first.

Roots have little to do with each other: most are closed by a few splits, some by no search. Together they are cheapest
as long as all are open. Then each goes on alone for as long as it promises to end soon, before anything dearer is done
for those that are left.
"""

from __future__ import annotations

from dataclasses import dataclass

from lirpa_verify.deadline import Deadline
from lirpa_verify.search.activation_split import ActivationSplit, Outlook
from lirpa_verify.verdict import Result

CHECKS = 4  # of whether a root still is near a proof, while it takes as long as it may


@dataclass
class InTurn:
    """A search that goes on for as long as it is told to."""

    searches: list[ActivationSplit]  # one for all roots at first, then one each

    @property
    def roots(self) -> list[int]:
        """Those that are open."""
        return sorted(k for search in self.searches for k in search.open_roots().tolist())

    def run(self, budget: float, soon: float, deadline: Deadline) -> Result:
        """Closes all roots, finds a violation, or stops with `timeout` and can be run again.

        Args:
            budget: seconds for each search.
            soon: seconds that a root may take beyond that as long as it promises to need no more.
            deadline: when to stop anyway.
        """
        left: list[ActivationSplit] = []
        for search in self.searches:
            result = search.run(deadline.within(budget))
            if result.verdict == "timeout" and not deadline.passed():
                left += search.apart()
            elif result.verdict != "unsat":
                return result
        self.searches = []
        for search in left:
            result = Result("timeout")
            while result.verdict == "timeout" and not deadline.passed() and search.outlook().seconds < soon:
                result = search.run(deadline.within(soon / CHECKS))
            if result.verdict == "timeout":
                self.searches.append(search)
            elif result.verdict != "unsat":
                return result
        return Result("timeout", reason="time is up") if self.searches else Result("unsat", reason="activation split")

    def outlook(self) -> Outlook:
        """Of all searches together, with the gain per level of the one that takes longest."""
        each = [search.outlook() for search in self.searches]
        longest = max(each, key=lambda outlook: outlook.seconds)
        return Outlook(sum(outlook.seconds for outlook in each), longest.rate, longest.log_step)
