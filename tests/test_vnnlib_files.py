"""Files: compression, names, and the competition's own ones where they are at hand."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vnnlib
from vnnlib import VnnlibError

TEXT = b"(declare-const X_0 Real)\n(assert (>= X_0 0)) (assert (<= X_0 1))"
COMPETITION = Path(__file__).resolve().parents[2] / "shared" / "vnncomp"
REAL_FILES = sorted(COMPETITION.rglob("*.vnnlib*"))


@pytest.mark.parametrize("name", ["p.vnnlib", "p.vnnlib.gz", "p.txt"])
@pytest.mark.parametrize("packed", [False, True])
def test_compression_is_told_by_content(tmp_path: Path, name: str, packed: bool) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(TEXT) if packed else TEXT)
    assert vnnlib.read(path).n_inputs == vnnlib.read(str(path)).n_inputs == 1


def test_compressed_neighbour(tmp_path: Path) -> None:
    (tmp_path / "p.vnnlib.gz").write_bytes(gzip.compress(TEXT))
    assert vnnlib.read(tmp_path / "p.vnnlib").upper.tolist() == [[1.0]]
    (tmp_path / "p.vnnlib").write_bytes(TEXT.replace(b"1)", b"2)"))
    assert vnnlib.read(tmp_path / "p.vnnlib").upper.tolist() == [[2.0]]


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"p\.vnnlib\.gz"):
        vnnlib.read(tmp_path / "p.vnnlib")


@pytest.mark.parametrize("damage", [slice(0, -9), slice(0, 12), slice(0, 2)])
def test_damaged_compression(tmp_path: Path, damage: slice) -> None:
    path = tmp_path / "p.vnnlib.gz"
    path.write_bytes(gzip.compress(TEXT)[damage])
    with pytest.raises(VnnlibError, match=r"p\.vnnlib\.gz:1:1: damaged gzip data"):
        vnnlib.read(path)


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "p.vnnlib"
    path.write_bytes(TEXT + b"\n(assert (<= X_1 0))")
    with pytest.raises(VnnlibError, match=r"p\.vnnlib:3:13: X_1 is not declared"):
        vnnlib.read(path)


def test_the_package_needs_numpy_only() -> None:
    script = "import sys, vnnlib; sys.exit(any(name in sys.modules for name in ('torch', 'onnx', 'lirpa_verify')))"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).resolve().parents[1])


@pytest.mark.skipif(not REAL_FILES, reason="needs the competition's files beside the checkout")
def test_competition_files() -> None:
    for path in REAL_FILES:
        query = vnnlib.read(path)
        assert query.n_disjuncts and query.n_outputs, path
        assert np.isfinite(query.lower).all() and (query.lower <= query.upper).all(), path
        assert query.row_start[-1] == query.n_rows and query.term_start[-1] == len(query.variable), path


@pytest.mark.skipif(not REAL_FILES, reason="needs the competition's files beside the checkout")
@pytest.mark.parametrize(
    ("name", "inputs", "outputs", "disjuncts", "boxes", "rows"),
    [
        ("acasxu/vnnlib/prop_2", 5, 5, 1, 1, 4),
        ("cctsdb_yolo/vnnlib/spec_onnx_patch-1_idx_00269_0", 12296, 1, 1, 1, 1),
        ("lsnc/vnnlib/quadrotor2d_output_10", 8, 10, 17, 1, 34),
        ("nn4sys/vnnlib/cardinality_1_960_128_dual", 308, 1, 960, 960, 960),
        ("nn4sys/vnnlib/lindex_3000", 1, 1, 6000, 3000, 6000),
        ("sri_resnet_a/vnnlib/*", 3072, 10, 9, 1, 9),
        ("yolo/vnnlib/TinyYOLO_prop_000069_eps_1_255", 8112, 21125, 1, 1, 5),
    ],
)
def test_sizes(name: str, inputs: int, outputs: int, disjuncts: int, boxes: int, rows: int) -> None:
    found = sorted(COMPETITION.glob(name + ".vnnlib.gz"))
    if not found:
        pytest.skip(f"{name} is not at hand")
    query = vnnlib.read(found[0])
    sizes = (query.n_inputs, query.n_outputs, query.n_disjuncts, query.n_boxes, query.n_rows)
    assert sizes == (inputs, outputs, disjuncts, boxes, rows)
