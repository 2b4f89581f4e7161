"""The dispatch mode behind `record`: watches every ATen call and keeps those that depend on an input.

Values are tracked by the identity of their tensors. Every dependent tensor is kept alive while recording, so that
an identity (and a storage address) never comes back for another value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lirpa_verify.errors import UnsupportedOperator
from lirpa_verify.load.decompose import decomposition
from lirpa_verify.load.mutation import (
    element_marks,
    functional_variant,
    marked,
    overlap,
    scatter_back,
    written_arguments,
)
from lirpa_verify.load.offsets import constant_difference
from lirpa_verify.load.recording import Call, Const, Recording, Ref, TensorSpec
from lirpa_verify.load.trim import trim

# Calls that return their first argument's values unchanged: the result is the same value, no call is needed.
_SAME_VALUE = frozenset({"aten::alias", "aten::detach", "aten::clone", "aten::lift_fresh", "aten::lift_fresh_copy"})
# These do too where the shape stays as it was.
_RESHAPES = frozenset(f"aten::{name}" for name in ("view", "_unsafe_view", "reshape", "expand", "slice", "squeeze"))
_WITH_SHAPE = frozenset({"aten.view.default", "aten.expand.default"})
# Keyword arguments that say where and how a result is stored, not what it is.
_STORAGE_KEYWORDS = frozenset({"device", "layout", "memory_format", "pin_memory", "non_blocking"})
# Results that have only the shape and type of their argument: constants.
_SHAPE_ONLY = frozenset(
    f"aten::{name}"
    for name in ("zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty")
)
# Results whose entries are whatever lay in memory, NaN perhaps; in a recording they are zeros.
_UNINITIALISED = frozenset(f"aten::{name}" for name in ("empty", "empty_like", "new_empty", "empty_strided"))
# What these return depends on the memory layout, which a replay need not share.
_LAYOUT_DEPENDENT = frozenset({"aten::as_strided", "aten::set_", "aten::resize_", "aten::as_strided_"})
# Recorded under one name; a recorded view means a reshape of the logical values, whatever the memory layout.
_RENAMED = {
    "aten._unsafe_view.default": "aten.view.default",
    "aten._reshape_alias.default": "aten.view.default",
    "aten.reshape.default": "aten.view.default",
    "aten.unsafe_split.Tensor": "aten.split.Tensor",
    "aten.unsafe_split_with_sizes.default": "aten.split_with_sizes.default",
}


class Recorder(TorchDispatchMode):
    """Records one run. `label` names the ONNX node or module that is running at the moment."""

    def __init__(self, inputs: Sequence[torch.Tensor], names: Sequence[str]) -> None:
        super().__init__()
        self.label = ""
        self._inputs = tuple(spec(value, name) for value, name in zip(inputs, names, strict=True))
        self._calls: list[Call] = []
        self._constants: list[torch.Tensor] = []
        self._constant_index: dict[tuple[Any, ...], int] = {}
        self._values: dict[int, tuple[torch.Tensor, Ref | Const]] = {}
        # Memory that holds values which depend on an input: its address, and which of its elements (None: all).
        self._storages: dict[int, torch.Tensor | None] = {}
        self._views: dict[int, tuple[torch.Tensor, torch.Tensor, Any, tuple[Any, ...]]] = {}
        self._taking_apart = 0  # how many decompositions are under way, one within the other
        for position, value in enumerate(inputs):
            self._bind(value, Ref(-1 - position))

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True (the default) would import all of torch._dynamo, more than a second, at the first call

    # -- questions ---------------------------------------------------------------------------------------------

    def depends(self, value: torch.Tensor) -> bool:
        """Whether `value` depends on an input; refuses a value whose memory was changed behind its back."""
        entry = self._values.get(id(value))
        if entry is not None:
            return isinstance(entry[1], Ref)
        if self._is_tainted(value):
            raise UnsupportedOperator(
                "view",
                self.label,
                "a tensor is read whose memory was written through another view, or by-passing torch",
            )
        return False

    def _is_tainted(self, value: torch.Tensor) -> bool:
        address = _address(value)
        if address not in self._storages:
            return False
        marks = self._storages[address]
        return marks is None or bool(marked(marks, value).any())

    def value_of(self, value: torch.Tensor) -> Ref | Const:
        """The recorded reference of any tensor; a tensor that depends on no input becomes a constant."""
        if self.depends(value) or id(value) in self._values:
            return self._values[id(value)][1]
        return self._constant(value)

    def difference(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor | None:
        """`first` - `second`, one-entry integer tensors, where that is the same for every input; else None."""
        return constant_difference(self.value_of(first), self.value_of(second), self._calls, self._constants)

    # -- recording ---------------------------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        dependent = [value for value in tensors_in((args, kwargs)) if self.depends(value)]
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise UnsupportedOperator(str(func), self.label, "the result is random")
        written = written_arguments(func, args, kwargs)
        if written:
            return self._write(func, args, kwargs, written, bool(dependent))
        if not dependent or func._schema.name in _SHAPE_ONLY:
            result = func(*args, **kwargs)
            if func._schema.name in _UNINITIALISED:
                result.zero_()
            self._note_view(func, args, result)
            return result
        self._refuse_data_dependence(func, args)
        if torch.is_inference_mode_enabled() or self._taking_apart:  # only then do composite operations come here whole
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        simpler = decomposition(func)
        if simpler is not None:
            self._taking_apart += 1
            with self:
                result = simpler(*args, **kwargs)
            self._taking_apart -= 1
            return result
        result = func(*args, **kwargs)
        self._note_view(func, args, result)
        self._keep(func, args, kwargs, result)
        return result

    def finish(
        self,
        outputs: Sequence[torch.Tensor],
        meta: Mapping[str, str] | None = None,
        names: Sequence[str] | None = None,
        inner: Sequence[tuple[Ref | Const, TensorSpec]] = (),
    ) -> Recording:
        """The recording that leads to `outputs`, followed by values that were met on the way (`inner`)."""
        names = names or [f"output_{i}" for i in range(len(outputs))]
        recording = Recording(
            inputs=self._inputs,
            outputs=(*(self.value_of(value) for value in outputs), *(reference for reference, _ in inner)),
            calls=tuple(self._calls),
            constants=tuple(self._constants),
            output_specs=(
                *(spec(value, name) for value, name in zip(outputs, names, strict=True)),
                *(described for _, described in inner),
            ),
            meta=dict(meta or {}),
        )
        return trim(recording)

    def _keep(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Append the call and bind its results."""
        if func._schema.name in _SAME_VALUE or _is_identity_cast(func, args, kwargs):
            self._bind(result, self.value_of(args[0]))
            return
        if func._schema.name in _RESHAPES and (result.shape, result.dtype) == (args[0].shape, args[0].dtype):
            self._bind(result, self.value_of(args[0]))
            return
        results = result if isinstance(result, (tuple, list)) else (result,)
        if not all(isinstance(value, torch.Tensor) or value is None for value in results):
            raise UnsupportedOperator(str(func), self.label, "turns a value into a Python number")
        kept = {key: self._argument(func, value) for key, value in kwargs.items() if key not in _STORAGE_KEYWORDS}
        name = _RENAMED.get(str(func), str(func))
        if (
            name == "aten._safe_softmax.default"
            and len(args) == 2
            and not kept
            and not _has_masked_row(args[0], args[1])
        ):
            name, args = "aten._softmax.default", (*args, False)
        if name in _WITH_SHAPE:  # as it is, not with a -1 in it
            args = (args[0], tuple(result.shape))
        call = Call(
            op=name,
            args=tuple(self._argument(func, value) for value in args),
            kwargs=kept,
            outputs=tuple(None if value is None else spec(value, "") for value in results),
            label=self.label,
        )
        self._calls.append(call)
        for item, value in enumerate(results):
            if value is not None:
                self._bind(value, Ref(len(self._calls) - 1, item))

    def _argument(self, func: Any, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self.value_of(value)
        if isinstance(value, (tuple, list)):
            return tuple(self._argument(func, entry) for entry in value)
        if value is None or isinstance(value, (bool, int, float, complex, str, torch.dtype)):
            return value
        raise UnsupportedOperator(str(func), self.label, f"an argument of type {type(value).__name__} cannot be kept")

    def _bind(self, value: torch.Tensor, reference: Ref | Const) -> None:
        self._values[id(value)] = (value, reference)
        if isinstance(reference, Ref):
            if value.layout is not torch.strided:
                raise UnsupportedOperator("sparse tensor", self.label, "only dense tensors are supported")
            if _address(value):
                self._storages.setdefault(_address(value), None)

    def _constant(self, value: torch.Tensor) -> Const:
        # Empty tensors have no address of their own.
        number = 0 if value.numel() else len(self._constants)
        key = (_address(value), value.storage_offset(), tuple(value.shape), value.stride(), value.dtype, number)
        if key not in self._constant_index:
            self._constants.append(value.detach())
            self._constant_index[key] = len(self._constants) - 1
        return Const(self._constant_index[key])

    def _refuse_data_dependence(self, func: Any, args: Any) -> None:
        if func._schema.name in _LAYOUT_DEPENDENT:
            raise UnsupportedOperator(str(func), self.label, "depends on the memory layout of a value")
        if torch.Tag.data_dependent_output in func.tags:
            raise UnsupportedOperator(str(func), self.label, "control flow or a shape depends on the network's input")
        if torch.Tag.dynamic_output_shape not in func.tags:
            return
        # Indexing has a static shape unless the input decides which entries of a mask are set.
        masks = [t for t in tensors_in(args[1:]) if t.dtype in (torch.bool, torch.uint8)]
        if not func._schema.name.startswith("aten::index") or any(self.depends(mask) for mask in masks):
            raise UnsupportedOperator(str(func), self.label, "the shape of the result depends on the network's input")

    # -- in-place operations -------------------------------------------------------------------------------------

    def _write(self, func: Any, args: Any, kwargs: Any, written: list[torch.Tensor], dependent: bool) -> Any:
        """Run an in-place call; when values that depend on an input take part, record its functional variant."""
        if not dependent and not any(self._is_tainted(target) for target in written):
            for target in written:
                self._copy_constants_before_write(target)
            return func(*args, **kwargs)
        if len(written) != 1 or not args or written[0] is not args[0]:
            raise UnsupportedOperator(
                str(func), self.label, "writes in place into several tensors or an `out` argument"
            )
        self._refuse_data_dependence(func, args)
        variant = functional_variant(func)
        if variant is None:
            raise UnsupportedOperator(str(func), self.label, "this in-place operation has no functional variant")
        target = written[0]
        if torch.Tag.inplace_view in func.tags:  # changes the shape of the tensor object, not its memory
            with self:
                reference = self.value_of(variant(*args, **kwargs))
            self._views.pop(id(target), None)
            func(*args, **kwargs)
            self._bind(target, reference)
            return target
        with self:
            updated = variant(*args, **kwargs)
            if updated.dtype != target.dtype:
                updated = torch.ops.aten._to_copy.default(updated, dtype=target.dtype)
            if updated.shape != target.shape:
                updated = updated.expand(target.shape)
            reference = self.value_of(updated)
        self._assign(target, reference, updated)
        return target

    def _assign(self, target: torch.Tensor, reference: Ref | Const, updated: torch.Tensor) -> None:
        """Give `target` its new value, and the tensors that it is a view of theirs; all other views become stale."""
        chain: list[tuple[torch.Tensor, Ref | Const]] = [(target, reference)]
        view, value = target, updated
        while id(view) in self._views:
            _, base, func, args = self._views[id(view)]
            scatter = scatter_back(func)
            if scatter is None:
                break  # the base becomes stale: refused only if it is read again
            with self:
                value = scatter(base, value, args)
                chain.append((base, self.value_of(value)))
            view = base
        self._copy_constants_before_write(target)
        target.copy_(updated)
        address = _address(target)
        same_memory = [(key, kept) for key, (kept, _) in self._values.items() if _address(kept) == address]
        for key, kept in same_memory:
            if overlap(kept, target):
                del self._values[key]
        marks = self._storages.setdefault(address, element_marks(target))
        if marks is not None:
            marked(marks, target).fill_(True)
        for changed, new in chain:
            self._bind(changed, new)

    def _copy_constants_before_write(self, target: torch.Tensor) -> None:
        """Constants were stored without a copy; take one before their memory changes."""
        address = _address(target)
        for key, index in list(self._constant_index.items()):
            if key[0] == address:
                self._constants[index] = self._constants[index].clone()
                del self._constant_index[key]

    def _note_view(self, func: Any, args: Any, result: Any) -> None:
        if scatter_back(func) is not None and isinstance(result, torch.Tensor) and result is not args[0]:
            self._views[id(result)] = (result, args[0], func, tuple(args[1:]))


def spec(value: torch.Tensor, name: str) -> TensorSpec:
    """Name, shape and type of a tensor."""
    return TensorSpec(name, tuple(value.shape), value.dtype)


def tensors_in(tree: Any) -> Iterator[torch.Tensor]:
    """Every tensor in nested tuples, lists and mappings, in order."""
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from tensors_in(value)
    elif isinstance(tree, (tuple, list)):
        for value in tree:
            yield from tensors_in(value)


def _address(value: torch.Tensor) -> int:
    return value.untyped_storage().data_ptr() if value.layout is torch.strided else 0


def _is_identity_cast(func: Any, args: Any, kwargs: Any) -> bool:
    return func._schema.name == "aten::_to_copy" and kwargs.get("dtype", args[0].dtype) == args[0].dtype


def _has_masked_row(x: torch.Tensor, dim: int) -> bool:
    """Whether all of some row is minus infinity: only then does the safe softmax differ (it gives zeros, not NaN).

    Only a constant mask can bring that about, so it is the same for every input.
    """
    return bool(torch.isneginf(x).all(dim).any())
