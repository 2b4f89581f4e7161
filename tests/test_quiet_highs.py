"""The solver of linear programs prints nothing, and all solvers of a process have as many threads."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import torch
from random_networks import graph_of, make_property, problem_of

from lirpa_verify.bounds.intermediate import bound_nodes
from lirpa_verify.deadline import Deadline
from lirpa_verify.perturbations.polytope import LinearProgram
from lirpa_verify.search import milp
from lirpa_verify.search.roots import make_roots

CODE = """
from lirpa_verify.quiet_highs import QuietHighs
solver = QuietHighs()
solver.addVar(-1.0, 2.0)
solver.changeColCost(0, 1.0)
solver.run()
assert solver.getInfo().objective_function_value == -1.0
"""


def test_nothing_is_printed() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout == "" and done.stderr == ""


def test_solvers_of_one_process_agree_on_threads() -> None:
    """A polytope's linear program, then a search's: both have answers."""
    polytope = LinearProgram(np.array([-1.0]), np.array([2.0]), np.array([[1.0]]), np.array([0.5]))
    _, point = polytope.solve(np.array([-1.0]))
    assert abs(float(point[0]) - 0.5) < 1e-6
    graph = graph_of(lambda x: torch.relu(x + 1) - 1, (1, 2))
    problem = problem_of(make_property(2, 2, [([-0.3] * 2, [1.0] * 2)], [(0, [({2: 1.0, 3: 1.0}, -0.5)])]))
    roots = make_roots(graph, problem, 0, torch.tensor([0]))
    answer = milp.solve(graph, bound_nodes(graph, problem.box), roots.start, roots.rhs[0], Deadline.after(20))
    assert answer.verdict == "feasible"
