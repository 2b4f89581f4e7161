"""The list of what can be bounded."""

from lirpa_verify.graph.supported import operator_classes, supported_calls


def test_lists_calls_and_operators() -> None:
    calls, operators = supported_calls(), operator_classes()
    assert {"relu", "convolution", "bmm", "_softmax", "max_pool2d_with_indices", "where"} <= set(calls)
    assert {"ReLU", "Convolution", "MatMul", "Softmax", "Maximum", "Where"} <= set(operators)
    assert all(operators.values())
