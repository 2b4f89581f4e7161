"""VNN-LIB queries, versions 1.0 and 2.0: text to a disjunction of input boxes with linear constraints.

The package knows nothing of networks: it needs numpy only.
"""

from vnnlib.errors import UnsupportedVnnlib, VnnlibError
from vnnlib.interface import Interface
from vnnlib.property import Property
from vnnlib.reader import parse, parse_query, read, read_query

__all__ = ["Interface", "Property", "UnsupportedVnnlib", "VnnlibError", "parse", "parse_query", "read", "read_query"]
