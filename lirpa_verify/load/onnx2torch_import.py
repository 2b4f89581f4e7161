"""Importing onnx2torch without torchvision.

onnx2torch imports torchvision at the top, for two detection operators only (NonMaxSuppression and RoiAlign, which
have no bound rules anyway). That import takes one to four seconds, since it pulls in torch._dynamo and much else, and
it fails outright where torch is a CPU build and torchvision is not ("operator torchvision::nms does not exist").

So onnx2torch is imported while empty modules stand in for torchvision; they are taken away again at once, and a later
``import torchvision`` anywhere in the process is not affected. Where torchvision is loaded already, it is used.
"""

from __future__ import annotations

import sys
from types import ModuleType


def import_onnx2torch() -> None:
    """Import the onnx2torch package, so that it can then be imported as usual."""
    if "onnx2torch" in sys.modules or "torchvision" in sys.modules:
        import onnx2torch

        return
    placeholders = {"torchvision": ModuleType("torchvision"), "torchvision.ops": ModuleType("torchvision.ops")}
    placeholders["torchvision"].ops = placeholders["torchvision.ops"]  # type: ignore[attr-defined]
    placeholders["torchvision.ops"].roi_align = _missing  # type: ignore[attr-defined]
    placeholders["torchvision.ops"].nms = _missing  # type: ignore[attr-defined]
    placeholders["torchvision.ops"].box_convert = _missing  # type: ignore[attr-defined]
    sys.modules.update(placeholders)
    try:
        import onnx2torch  # noqa: F401
    finally:
        for name, module in placeholders.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def _missing(*args: object, **kwargs: object) -> None:
    raise NotImplementedError("detection operators need torchvision, imported before the model is loaded")
