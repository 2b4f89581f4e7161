"""Says at once what a worker would find out only after its imports: which files are meant, that one is not there."""

from __future__ import annotations

import os

from lirpa_verify.messages import BadInput


def named_models(argument: str) -> dict[str, str]:
    """The models that an argument names: a path, or "[('f', 'a.onnx'), ('g', 'b.onnx')]" for several networks.

    Raises:
        ValueError: it is a list, but not such a one.
    """
    if not argument.startswith("[") or os.path.exists(argument):
        return {"": argument}
    import ast  # few runs need it

    try:
        pairs = ast.literal_eval(argument)
        models = {str(name): str(path) for name, path in pairs}
    except (SyntaxError, TypeError, ValueError) as error:
        raise ValueError(f"{argument} is no list of pairs of a network's name and a file") from error
    if len(models) < len(pairs):
        raise ValueError(f"{argument} names a network twice")
    return models


def missing_file(*names: str) -> BadInput | None:
    """What is wrong with the first unusable name; a file may also be there compressed, as `NAME.gz`."""
    for name in names:
        if not os.path.exists(name) and not os.path.exists(name + ".gz"):
            return BadInput(f"{name}: no such file")
        if os.path.isdir(name):
            return BadInput(f"{name}: is a folder")
    return None
