"""VNN-LIB 1.0 queries: text to a disjunction of input boxes with linear constraints.

The package knows nothing of networks: it needs numpy only.
"""

from vnnlib.errors import UnsupportedVnnlib, VnnlibError
from vnnlib.property import Property
from vnnlib.reader import parse, read

__all__ = ["Property", "UnsupportedVnnlib", "VnnlibError", "parse", "read"]
