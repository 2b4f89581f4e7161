"""Input split where a violation decides most neurons: a search by propagation, as for logic.

Where neurons encode clauses, bounds of the property stay at 0 until nearly all inputs are decided. But what a
violation implies for the neurons (`implied.py`) are rows as good as the property's own, and each confines an input
given what the others can be. Cutting boxes down to that until nothing moves is unit propagation on clauses. The input
to halve is the one whose rows have the least room, each counting as 1/2 to the power of how many such inputs it has
room for (Jeroslow and Wang, Annals of Mathematics and AI 1990), and boxes are searched depth first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lirpa_verify.bounds.alpha_crown import Splits
from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.deadline import Deadline
from lirpa_verify.graph.graph import Graph, Node
from lirpa_verify.operators.base import Interval
from lirpa_verify.operators.rearrange import Concat, Gather
from lirpa_verify.search.bound_boxes import bound_boxes
from lirpa_verify.search.boxes import Boxes
from lirpa_verify.search.implied import implied
from lirpa_verify.search.roots import Roots, make_roots
from lirpa_verify.search.shrink import shrink
from lirpa_verify.search.specification import Problem, Specification
from lirpa_verify.verdict import Result, Witness

STRONG = 0.25  # of the undecided neurons must have a constraint
BATCH, BATCH_ENTRIES = 32, 2**23  # boxes at once, and coefficients of all their rows; more for one box are too many
CUTS, SETTLED = 8, 1e-3  # rounds of cutting a box, and the share of its width less than which is not worth another
FLAT, TINY = 1e-9, 1e-300  # share of the first box's width that is none; widths are at least
FIRST_SHARE = 0.25  # of the time left, in which some of the tree must be closed
LATER_SHARE = 0.5  # of the time left that the whole tree may be expected to take


@torch.no_grad()
def decided_by_propagation(
    graph: Graph, problem: Problem, deadline: Deadline, confirm: Callable[[Tensor], Witness | None]
) -> Result | None:
    """Decides a problem of one box, or returns None where this search is not for it, or takes too long.

    Args:
        graph: the network over its varying inputs, in float64.
        problem: what is to be decided.
        deadline: when to stop.
        confirm: replays candidate points; only what it returns is a witness.
    """
    if len(problem.box.lower) > 1:
        return None
    values = bound_nodes(graph, problem.box, "ibp", until=deadline)
    disjuncts = (problem.specification.rows[0, :, 0] >= 0).nonzero().flatten()
    roots = make_roots(graph, problem, 0, disjuncts)
    found = []
    for d in range(len(disjuncts)):
        rows = {i: coefficients[d : d + 1] for i, coefficients in roots.start.items()}
        constraints = implied(graph, values, rows, roots.rhs[d])
        if not strong(graph, values, constraints) or not small(graph, constraints, len(roots.rhs[d])):
            return None
        found.append((Roots(rows, roots.rhs[d : d + 1]), constraints))
    boxes = 0
    for posed, constraints in found:  # the matrices of one at a time: they are as large as a search can handle
        tree = Tree.of(*with_constraints(graph, posed, constraints), problem.box)
        result = tree.search(deadline, confirm)
        if result is None or result.verdict != "unsat":
            return result
        boxes += tree.boxes
    return Result("unsat", reason="propagation", statistics={"boxes": boxes})


def small(graph: Graph, constraints: Splits, conjuncts: int) -> bool:
    """Whether the rows of one box, on the inputs and on the outputs that they are about, are few enough to search with.

    Images with thousands of neurons in the first layer have as many constraints. Their matrices take gigabytes.
    """
    rows = constrained(constraints) + conjuncts
    return rows * (rows + graph.n_inputs) <= BATCH_ENTRIES


def constrained(constraints: Splits) -> int:
    return sum(int((sign != 0).sum()) for sign in constraints.sign.values())


def strong(graph: Graph, values: Sequence[Interval], constraints: Splits) -> bool:
    """Whether enough undecided neurons are constrained."""
    undecided = 0
    for z in {a for node in graph.nodes if node.operator.bounded for a in node.arguments}:
        undecided += int(((values[z].lower < 0) & (values[z].upper > 0)).sum())
    return constrained(constraints) > STRONG * undecided


def with_constraints(graph: Graph, roots: Roots, constraints: Splits) -> tuple[Graph, Specification]:
    """The network with constrained neurons as further outputs, and one disjunct with further rows about them."""
    nodes, parts, signs, points = list(graph.nodes), [graph.output], [], []
    for z, sign in constraints.sign.items():
        index = sign.flatten().nonzero().flatten()
        nodes.append(Node(Gather(index, graph.nodes[z].shape, (len(index),)), (z,), (len(index),), "constrained"))
        parts.append(len(nodes) - 1)
        signs.append(sign.flatten()[index])
        points.append(constraints.point[z].flatten()[index])
    sizes = tuple(nodes[i].size for i in parts)
    nodes.append(Node(Concat(0, sizes), tuple(parts), (sum(sizes),), "constrained outputs"))
    sign, point = torch.cat(signs), torch.cat(points)
    rhs = torch.cat([roots.rhs[0], sign * point])
    number = torch.arange(len(rhs), device=rhs.device)
    output = torch.block_diag(roots.start[graph.output][0], torch.diag(sign))
    inputs = roots.start[0][0] if 0 in roots.start else None
    if inputs is not None:
        inputs = torch.cat([inputs, inputs.new_zeros(len(sign), inputs.shape[1])])
    return Graph(tuple(nodes)), Specification(output, inputs, number, rhs, number.reshape(1, 1, -1))


@dataclass
class Tree:
    """What is left of a search: boxes ``(boxes, inputs)``, the deepest last."""

    graph: Graph
    specification: Specification
    lower: Tensor
    upper: Tensor
    share: Tensor  # (boxes,) of the tree that each is
    whole: Interval  # (1, inputs) the first box
    closed: float = 0.0  # share of the tree that is proved
    boxes: int = 0
    started: float = field(default_factory=time.monotonic)

    @staticmethod
    def of(graph: Graph, specification: Specification, box: Interval) -> Tree:
        return Tree(graph, specification, box.lower, box.upper, box.lower.new_ones(1), box)

    @torch.no_grad()
    def search(self, deadline: Deadline, confirm: Callable[[Tensor], Witness | None]) -> Result | None:
        """Until the tree is closed, or a box is left that nothing divides or the time is up: None then."""
        first, whole = FIRST_SHARE * deadline.remaining(), LATER_SHARE * deadline.remaining()
        size = max(1, min(BATCH, BATCH_ENTRIES // (self.graph.n_inputs * len(self.specification.rhs))))
        while len(self.lower):
            spent = time.monotonic() - self.started
            if deadline.passed() or (spent > first and spent > whole * self.closed):
                return None
            boxes, share = Interval(self.lower[-size:], self.upper[-size:]), self.share[-size:]
            self.lower, self.upper, self.share = self.lower[:-size], self.upper[:-size], self.share[:-size]
            self.boxes += len(share)
            boxes, share, weight, offset = self.confined(boxes, share)
            urgency = self.urgency(boxes, weight, offset)
            silent = (urgency <= 0).all(1)  # no row says anything about it
            if bool(silent.any()):
                witness = confirm(self.candidates(Interval(boxes.lower[silent], boxes.upper[silent])))
                if witness is not None:
                    return Result("sat", witness, "propagation", {"boxes": self.boxes})
            width = (boxes.upper - boxes.lower) / (self.whole.upper - self.whole.lower).clamp(min=TINY)
            if bool((width[silent] <= FLAT).all(1).any()):
                return None
            self.halve(boxes, share, torch.where(silent.unsqueeze(1), width, urgency).argmax(1))
        return Result("unsat", reason="propagation")

    def confined(self, boxes: Interval, share: Tensor) -> tuple[Interval, Tensor, Tensor, Tensor]:
        """The boxes that are not closed, cut down by their rows until nothing moves, with the rows' linear bounds."""
        count = len(share)
        zero = torch.zeros(count, dtype=torch.int64, device=share.device)
        alive = torch.ones(count, 1, dtype=torch.bool, device=share.device)
        whole = Boxes(boxes.lower, boxes.upper, zero, alive, share, torch.zeros_like(boxes.lower), zero, share)
        bounds = bound_boxes(self.graph, self.specification, whole, "crown")
        weight, offset = bounds.linear.weight.unsqueeze(1), bounds.linear.offset.unsqueeze(1)
        for _ in range(CUTS):
            before = boxes
            boxes = shrink(boxes, weight, offset, alive)
            moved = (boxes.lower - before.lower) + (before.upper - boxes.upper)
            empty = (boxes.lower > boxes.upper).any(1)
            if not bool((moved > SETTLED * (before.upper - before.lower))[~empty].any()):
                break
        open_ = ~empty & ~bounds.closed().any(1)
        self.closed += float(share[~open_].sum())
        boxes = Interval(boxes.lower[open_], boxes.upper[open_])
        return boxes, share[open_], weight[open_, 0], offset[open_, 0]

    def candidates(self, boxes: Interval) -> Tensor:
        """Middles and ends of boxes, on the first box's ends where they are as good as there."""
        lower, upper = self.whole
        reach = FLAT * (upper - lower)
        points = torch.cat([boxes.lower, boxes.upper, (boxes.lower + boxes.upper) / 2])
        points = torch.where(points <= lower + reach, lower, points)
        return torch.where(points >= upper - reach, upper, points)

    def urgency(self, boxes: Interval, weight: Tensor, offset: Tensor) -> Tensor:
        """(boxes, inputs): how much the rows would say if an input were decided; 0 where none can say anything."""
        lower, upper = boxes.lower.unsqueeze(1), boxes.upper.unsqueeze(1)
        least = torch.minimum(weight * lower, weight * upper).sum(2) + offset
        reach = weight.abs() * (upper - lower)  # (boxes, rows, inputs)
        wide = upper - lower > FLAT * (self.whole.upper - self.whole.lower)
        relevant = (least + reach.sum(2) > 0).unsqueeze(2) & wide & (reach > 0)
        room = -least.clamp(max=0).unsqueeze(2)
        return torch.where(relevant, torch.exp2(-room / reach), 0.0).sum(1)

    def halve(self, boxes: Interval, share: Tensor, choice: Tensor) -> None:
        """Both halves of every box."""
        pick = choice.unsqueeze(1)
        middle = (boxes.lower.gather(1, pick) + boxes.upper.gather(1, pick)) / 2
        self.lower = torch.cat([self.lower, boxes.lower, boxes.lower.scatter(1, pick, middle)])
        self.upper = torch.cat([self.upper, boxes.upper.scatter(1, pick, middle), boxes.upper])
        self.share = torch.cat([self.share, share / 2, share / 2])
