"""Recording a torch module or function: one run on example inputs, every call that depends on them kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from lirpa_verify.errors import UnsupportedOperator
from lirpa_verify.load.recorder import Recorder, tensors_in
from lirpa_verify.load.recording import Recording


def record(
    function: Callable[..., Any], example_inputs: Sequence[torch.Tensor], names: Sequence[str] | None = None
) -> Recording:
    """Run `function` (any callable, usually a module) once and return the ATen calls that depend on its inputs.

    Modules run in evaluation mode. The result is correct for every input of the same shapes, or
    `UnsupportedOperator` is raised: random results, and shapes, control flow or Python numbers that depend on the
    values of an input cannot be recorded.
    """
    names = tuple(names) if names is not None else tuple(f"input_{i}" for i in range(len(example_inputs)))
    inputs = [value.detach().clone() for value in example_inputs]
    recorder = Recorder(inputs, names)
    with recording_context(), ExitStack() as stack:
        if isinstance(function, torch.nn.Module):
            stack.enter_context(evaluation_mode(function))
            stack.enter_context(module_labels(function, recorder))
        with NoEscape(recorder), recorder:
            result = function(*inputs)
        return recorder.finish(list(output_tensors(result)))


@contextmanager
def recording_context() -> Iterator[None]:
    """No gradients, and none of the fused kernels that hide primitive operations (LSTM, attention, encoder)."""
    fastpath = torch.backends.mha.get_fastpath_enabled()
    flash, efficient = torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.mem_efficient_sdp_enabled()
    mkldnn, cudnn = bool(torch.backends.mkldnn.enabled), bool(torch.backends.cudnn.enabled)
    with torch.no_grad():
        _switch(mkldnn=False, cudnn=False)
        torch.backends.mha.set_fastpath_enabled(False)
        torch.backends.cuda.enable_flash_sdp(False)
        torch.backends.cuda.enable_mem_efficient_sdp(False)
        try:
            yield
        finally:
            _switch(mkldnn=mkldnn, cudnn=cudnn)
            torch.backends.mha.set_fastpath_enabled(fastpath)
            torch.backends.cuda.enable_flash_sdp(flash)
            torch.backends.cuda.enable_mem_efficient_sdp(efficient)


def _switch(mkldnn: bool, cudnn: bool) -> None:
    # Not `torch.backends.mkldnn.flags`: that also sets the precision of matrix products, and warns about it.
    setattr(torch.backends.mkldnn, "enabled", mkldnn)  # noqa: B010 - the module's type does not have the property
    setattr(torch.backends.cudnn, "enabled", cudnn)  # noqa: B010


@contextmanager
def evaluation_mode(module: torch.nn.Module) -> Iterator[None]:
    """`module.eval()` for a while; every submodule gets its own mode back."""
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for child, training in modes:
            child.training = training


class NoEscape(TorchFunctionMode):
    """Refuses the ways of reading a tensor that the dispatcher does not see, or does without them."""

    _ESCAPES = frozenset({"tolist", "numpy", "__array__", "__dlpack__", "data_ptr", "storage", "untyped_storage"})

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name == "one_hot" and len(args) == 2 and args[1] > 0 and self._recorder.depends(args[0]):
            return (args[0].unsqueeze(-1) == torch.arange(args[1])).long()  # torch looks at the values to check them
        if name in self._ESCAPES and any(self._recorder.depends(value) for value in tensors_in(args)):
            raise UnsupportedOperator(f"Tensor.{name}", self._recorder.label, "reads values that depend on the input")
        return func(*args, **(kwargs or {}))


@contextmanager
def module_labels(root: torch.nn.Module, recorder: Recorder) -> Iterator[None]:
    """Keep `recorder.label` at the qualified name of the module that runs (for fx graphs: the name of the node)."""
    stack: list[str] = []
    handles = []

    def enter(name: str) -> Callable[..., None]:
        def hook(module: torch.nn.Module, args: Any) -> None:
            stack.append(recorder.label)
            recorder.label = name

        return hook

    def leave(module: torch.nn.Module, args: Any, output: Any) -> None:
        recorder.label = stack.pop()

    for name, module in root.named_modules():
        handles.append(module.register_forward_pre_hook(enter(name)))
        handles.append(module.register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def output_tensors(result: Any) -> Iterator[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        yield result
    elif isinstance(result, Mapping):
        for value in result.values():
            yield from output_tensors(value)
    elif isinstance(result, (tuple, list)):
        for value in result:
            yield from output_tensors(value)
    elif result is not None:
        raise UnsupportedOperator("output", "", f"the function returns a {type(result).__name__}, not a tensor")
