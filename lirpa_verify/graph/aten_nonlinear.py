"""All lowering rules together: ATen calls by name, without their overload."""

from __future__ import annotations

from lirpa_verify.graph.aten_cumulative import CUMULATIVE_RULES
from lirpa_verify.graph.aten_discrete import DISCRETE_RULES
from lirpa_verify.graph.aten_distance import DISTANCE_RULES
from lirpa_verify.graph.aten_elementwise import ELEMENTWISE_RULES
from lirpa_verify.graph.aten_groups import GROUP_RULES
from lirpa_verify.graph.aten_linear import LINEAR_RULES
from lirpa_verify.graph.aten_pooling import POOLING_RULES
from lirpa_verify.graph.lower import Rule

RULES: dict[str, Rule] = {
    **LINEAR_RULES,
    **ELEMENTWISE_RULES,
    **GROUP_RULES,
    **CUMULATIVE_RULES,
    **DISTANCE_RULES,
    **DISCRETE_RULES,
    **POOLING_RULES,
}
