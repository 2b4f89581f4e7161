"""The cache of recordings: a help that never fails, never lies and never runs what it reads."""

from __future__ import annotations

import json
import math
import os
import pickle
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from lirpa_verify.load import cache, load_recording
from lirpa_verify.load.recording import Call, Const, Recording, Ref, TensorSpec
from lirpa_verify.load.serial import NotSerial, from_bytes, to_bytes

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIRPA_VERIFY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    weight = torch.linspace(-1, 1, 12).reshape(3, 4).numpy()
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"], "product"), helper.make_node("Relu", ["h"], ["y"], "relu")],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(weight, "w")],
    )
    path = tmp_path / "model.onnx"
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()
    )
    return path


def same(a: Recording, b: Recording) -> bool:
    tensors = len(a.constants) == len(b.constants) and all(
        x.dtype == y.dtype and x.shape == y.shape and torch.equal(x, y)
        for x, y in zip(a.constants, b.constants, strict=True)
    )
    return tensors and replace(a, constants=()) == replace(b, constants=())


def everything() -> Recording:
    """A recording with every kind of argument and constant."""
    spec = TensorSpec("x", (2, 3), torch.float32)
    types = (torch.float32, torch.float64, torch.bool, torch.uint8, torch.int8, torch.int32, torch.int64)
    call = Call(
        "aten.made_up.default",
        (Ref(-1), Const(0), (1, -2, (True, None)), 0.1, -math.inf, "text", torch.float64, (), 2**60),
        {"dtype": torch.int64, "alpha": (Ref(0, 1), 1e-300)},
        (spec, None),
        "a label",
    )
    return Recording(
        inputs=(spec,),
        outputs=(Ref(0, 1), Const(3)),
        calls=(call,),
        constants=(
            *(torch.arange(6).reshape(2, 3).to(dtype) for dtype in types),
            torch.rand(3, 4).t(),
            torch.zeros(0, 2),
            torch.tensor(math.pi),
        ),
        output_specs=(spec, TensorSpec("", (), torch.bool)),
        meta={"opset": "13"},
    )


def test_serial_form_and_back() -> None:
    recording = everything()
    assert same(from_bytes(bytearray(to_bytes(recording))), recording)


@pytest.mark.parametrize("seed", range(20))
def test_damage_is_noticed(seed: int) -> None:
    data = bytearray(to_bytes(everything()))
    generator = torch.Generator().manual_seed(seed)
    place = int(torch.randint(len(data), (1,), generator=generator))
    for broken in (data[:place], data + b"x", data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :], b""):
        with pytest.raises(NotSerial):
            from_bytes(bytearray(broken))


def test_a_header_that_lies_about_sizes_is_refused() -> None:
    import struct
    import zlib

    data = to_bytes(everything())
    length = struct.unpack_from("<Q", data, 12)[0]
    header = json.loads(data[20 : 20 + length])
    for place in ([2**40], [10], ["float32"], None):
        header["constants"][0] = ["float32", place, 0, 24] if place else place
        text = json.dumps(header).encode()
        body = struct.pack("<Q", len(text)) + text + data[20 + length :]
        with pytest.raises(NotSerial):
            from_bytes(bytearray(data[:8] + struct.pack("<I", zlib.crc32(body)) + body))


def test_what_has_no_serial_form_is_not_stored(directory: Path) -> None:
    recording = replace(everything(), calls=(replace(everything().calls[0], args=(1j,)),))
    cache.store_recording(recording, "0" * 64)
    assert not directory.exists()


def test_the_second_time_comes_from_the_cache(directory: Path, model: Path) -> None:
    first = load_recording(model)
    (stored,) = directory.iterdir()
    assert stored.suffix == ".recording"
    code = (
        "import sys; from lirpa_verify.load import load_recording; "
        f"recording = load_recording({str(model)!r}); "
        "slow = {'onnx', 'onnx2torch', 'onnxruntime', 'torchvision', 'torch._dynamo'} & set(sys.modules); "
        "sys.exit(f'{slow}' if slow else 0)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
    assert same(load_recording(model), first)
    assert first.meta["sha256"] and first.meta["opset"] == "13"
    assert load_recording(model).calls[0].label == "product"


def test_without_cache_nothing_is_read_or_written(directory: Path, model: Path) -> None:
    load_recording(model, use_cache=False)
    assert not directory.exists()


def test_another_file_is_another_entry(directory: Path, model: Path) -> None:
    load_recording(model)
    changed = bytearray(model.read_bytes())
    place = changed.index(torch.linspace(-1, 1, 12)[3].numpy().tobytes())
    changed[place : place + 4] = torch.tensor(0.25).numpy().tobytes()
    model.write_bytes(bytes(changed))
    assert load_recording(model).constants[0].reshape(-1)[3] == 0.25
    assert len(list(directory.iterdir())) == 2


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "foreign", "pickle", "directory"])
def test_a_damaged_entry_is_made_anew(directory: Path, model: Path, damage: str) -> None:
    first = load_recording(model)
    (stored,) = directory.iterdir()
    data = stored.read_bytes()
    flipped = data[:-40] + bytes([data[-40] ^ 1]) + data[-39:]
    contents = {
        "truncated": data[: len(data) // 2],
        "flipped": flipped,
        "empty": b"",
        "foreign": b"\x89PNG" * 100,
        "pickle": pickle.dumps(Explosive()),
    }
    stored.unlink()
    if damage == "directory":
        stored.mkdir()
    else:
        stored.write_bytes(contents[damage])
    assert same(load_recording(model), first)
    if damage != "directory":
        assert stored.read_bytes() == data


class Explosive:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.fail, ("the cache was unpickled",))


def test_an_entry_of_another_model_under_this_name_is_not_believed(directory: Path, model: Path) -> None:
    first = load_recording(model)
    (stored,) = directory.iterdir()
    stored.write_bytes(to_bytes(replace(everything(), meta={"file_sha256": "0" * 64})))
    assert same(load_recording(model), first)


def test_a_directory_that_cannot_be_made_means_no_cache(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a directory")
    monkeypatch.setenv("LIRPA_VERIFY_CACHE", str(tmp_path / "file" / "cache"))
    assert load_recording(model).calls
    monkeypatch.setenv("LIRPA_VERIFY_CACHE", "/proc/nowhere")
    assert load_recording(model).calls


def test_the_place_of_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIRPA_VERIFY_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache.cache_directory() == Path("/somewhere/lirpa-verify")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_directory() == Path.home() / ".cache" / "lirpa-verify"


def test_many_writers_and_readers_at_once(directory: Path) -> None:
    recording = replace(everything(), meta={"file_sha256": "1" * 64}, constants=(torch.rand(200, 200), torch.ones(3)))
    seen: list[bool] = []

    def work() -> None:
        for _ in range(15):
            cache.store_recording(recording, "1" * 64)
            found = cache.cached_recording("1" * 64)
            seen.append(found is not None and same(found, recording))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(seen) and len(seen) == 60
    assert [path.suffix for path in directory.iterdir()] == [".recording"]  # nothing half-written is left


def test_the_oldest_go_when_the_cache_is_too_large(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(to_bytes(everything()))
    monkeypatch.setattr(cache, "_LARGEST_TOTAL", 2 * size)
    for i in range(4):
        cache.store_recording(everything(), str(i) * 64)
        for path in directory.glob(f"{i}*"):
            os.utime(path, (i, i))
    assert sorted(path.name[0] for path in directory.iterdir()) == ["2", "3"]


def test_a_recording_that_is_too_large_is_not_stored(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_LARGEST_FILE", 100)
    cache.store_recording(everything(), "0" * 64)
    assert not directory.exists()


def test_reading_is_fast(directory: Path, model: Path) -> None:
    load_recording(model)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        load_recording(model)
        times.append(time.perf_counter() - started)
    assert min(times) < 0.03
