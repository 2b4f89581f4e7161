"""Models that keep weights in a file beside them, as recent exporters of torch write them."""

from __future__ import annotations

import os
from pathlib import Path

from lirpa_verify.errors import ModelError

_SIGN = b"location"  # the key that such a tensor has; models without it need not be parsed for the question


def embedded(data: bytes, path: str | os.PathLike[str]) -> bytes:
    """The same model with all weights in it; `path` is where it lies.

    Raises:
        ModelError: the file beside it is missing, too short, or outside the model's folder.
    """
    if _SIGN not in data:
        return data
    import onnx
    from google.protobuf.message import DecodeError, EncodeError
    from onnx.external_data_helper import load_external_data_for_model

    try:
        proto = onnx.load_model_from_string(data)
        load_external_data_for_model(proto, str(Path(path).resolve().parent))
        whole: bytes = proto.SerializeToString()
    except DecodeError:
        return data  # damaged: whoever reads it says so
    except EncodeError as error:
        raise ModelError(
            f"model '{os.fspath(path)}' and the weights beside it are larger than 2 GiB together"
        ) from error
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(f"model '{os.fspath(path)}': the weights beside it cannot be read: {error}") from error
    return whole
