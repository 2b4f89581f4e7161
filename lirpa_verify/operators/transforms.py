"""What autograd and `torch.func` are doing with a tensor, which decides what may be looked at and kept.

`torch.func` offers no public question for it; those of `torch._C._functorch` have been the same since torch 2.0.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor
from torch._C import _functorch
from torch.autograd.forward_ad import unpack_dual


def differentiated(*tensors: Tensor) -> bool:
    """Whether derivatives may be wanted, backward or forward, or values differ under `torch.vmap`."""
    return any(
        layer.requires_grad or unpack_dual(layer).tangent is not None or _functorch.is_batchedtensor(layer)
        for value in tensors
        for layer in layers(value)
    )


def transforming() -> bool:
    """Whether `torch.func` runs this code: then only its own functions can take derivatives."""
    return _functorch.peek_interpreter_stack() is not None


def hidden(value: Tensor) -> bool:
    """Whether `torch.vmap` stands for many values here, so that none of them can be looked at."""
    return any(map(_functorch.is_batchedtensor, layers(value)))


def layers(value: Tensor) -> Iterator[Tensor]:
    """The tensor and, while `torch.func` takes derivatives, what it wraps, one transformation after the other."""
    yield value
    while _functorch.is_gradtrackingtensor(value):
        value = _functorch.get_unwrapped(value)
        yield value


def holds(condition: Tensor, otherwise: bool = True) -> bool:
    """A condition of one entry; `otherwise` where it is hidden."""
    return otherwise if hidden(condition) else bool(condition)
