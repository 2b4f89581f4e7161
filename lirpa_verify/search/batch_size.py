"""How many boxes a round takes: doubled while that bounds more of them in a second of processor time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from lirpa_verify.graph.graph import Graph

FIRST_BATCH = 64
BATCH_BYTES = 2**26
LONGEST_ROUND = 2.0  # seconds of all processors: news, attacks and the deadline wait for the end of a round
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
        half, double = max(1, self.now // 2), min(self.limit, 2 * self.now)
        if seconds > LONGEST_ROUND or self.rates.get(half, 0.0) > rate:
            self.now = half
        elif 2 * seconds < LONGEST_ROUND and self.rates.get(double, math.inf) > rate:
            self.now = double
