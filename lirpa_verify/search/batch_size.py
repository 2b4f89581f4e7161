"""How many boxes a round takes: of sizes up to what takes too long, the one that bounds most in a second.

Seconds are of processor time, which does not depend on what else the machine does.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lirpa_verify.graph.graph import Graph

FIRST_BATCH = 64
BATCH_BYTES = 2**26
LONGEST_ROUND = 2.0  # seconds of all processors: news, attacks and the deadline wait for the end of a round
SLOWER = 0.75  # of the best rate: where two sizes in a row bring less, larger ones are not tried
NEWEST = 0.5  # weight of the newest measurement of a size


@dataclass
class BatchSize:
    """The present size, and what sizes have been measured to bring."""

    now: int
    limit: int
    rates: dict[int, float] = field(default_factory=dict)  # boxes per second of processor time, by size

    @staticmethod
    def of(graph: Graph, varying: int) -> BatchSize:
        """At most what has linear forms of the `varying` inputs at the widest node that fit in `BATCH_BYTES`."""
        widest = max(node.size for node in graph.nodes)
        limit = max(1, BATCH_BYTES // (16 * widest * (varying + 1)))
        return BatchSize(min(FIRST_BATCH, limit), limit)

    def learn(self, boxes: int, seconds: float) -> None:
        """Takes in how many seconds of processor time the last round took; one that was not full says little."""
        if boxes < self.now:
            return
        rate = boxes / max(seconds, 1e-9)
        known = self.rates.get(self.now, rate)
        self.rates[self.now] = rate = NEWEST * rate + (1 - NEWEST) * known
        double = min(self.limit, 2 * self.now)
        best = max(self.rates.values())
        slower = all(self.rates.get(size, best) < SLOWER * best for size in (self.now, self.now // 2))
        if seconds > LONGEST_ROUND:
            self.rates[self.now] = 0.0
            self.now = max(1, self.now // 2)
        elif 2 * seconds < LONGEST_ROUND and double not in self.rates and not slower:
            self.now = double  # one that is slower may stand before a faster one
        else:
            self.now = max(self.rates, key=self.rates.__getitem__)
