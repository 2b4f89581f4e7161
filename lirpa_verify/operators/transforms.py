"""What autograd and `torch.func` are doing with a tensor, which decides what may be looked at and kept.

`torch.func` offers no public question for it; those of `torch._C._functorch` have been the same since torch 2.0.
"""

from __future__ import annotations

from torch import Tensor
from torch._C import _functorch
from torch.autograd.forward_ad import unpack_dual


def differentiated(*tensors: Tensor) -> bool:
    """Whether derivatives may be wanted, backward or forward, or values differ under `torch.vmap`."""
    return any(
        t.requires_grad or _functorch.is_functorch_wrapped_tensor(t) or unpack_dual(t).tangent is not None
        for t in tensors
    )


def hidden(value: Tensor) -> bool:
    """Whether `torch.vmap` stands for many values here, so that none of them can be looked at."""
    while _functorch.is_gradtrackingtensor(value):
        value = _functorch.get_unwrapped(value)
    return _functorch.is_batchedtensor(value)


def holds(condition: Tensor, otherwise: bool = True) -> bool:
    """A condition of one entry; `otherwise` where it is hidden."""
    return otherwise if hidden(condition) else bool(condition)
