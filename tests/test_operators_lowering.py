"""From torch functions to graphs: the same values, and bounds of every method that enclose them."""

from __future__ import annotations

import pytest
import torch.nn.functional as F
from function_checks import Function, check_function, constant
from torch_functions import ELEMENTWISE, IMAGE, MODULES, SPATIAL, VECTOR

from lirpa_verify.errors import UnsupportedOperator
from lirpa_verify.graph.aten_nonlinear import RULES
from lirpa_verify.graph.lower import lower
from lirpa_verify.load.record import record

CASES: list[tuple[str, Function, tuple[int, ...]]] = [
    *((f"elementwise {k}", f, (3, 4)) for k, f in ELEMENTWISE.items()),
    *((f"vector {k}", f, (3, 4)) for k, f in VECTOR.items()),
    *((f"spatial {k}", f, IMAGE) for k, f in SPATIAL.items()),
    *((f"module {k}", m, shape) for k, (m, shape) in MODULES.items()),
]


@pytest.mark.parametrize("name, function, shape", CASES, ids=[c[0] for c in CASES])
def test_values_and_bounds(name: str, function: Function, shape: tuple[int, ...]) -> None:
    check_function(name, function, shape)


def test_a_result_that_no_rule_makes_is_reported() -> None:
    """The places that max pooling returns are not bounded: whoever uses them is told which node that is."""
    with pytest.raises(UnsupportedOperator, match=r"max_pool2d_with_indices.*result number 2"):
        lower(record(lambda x: F.max_pool2d(x, 2, return_indices=True)[1].float(), [constant(1, 4, 4)]), RULES)
