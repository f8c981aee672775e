"""Caffe's files: every form reads to the bit, nothing damaged escapes as anything but UserError."""

import itertools
import json
import os
import random
import subprocess
import sys
import tracemalloc
import weakref
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from weights.caffe_files import CLASSES, write_caffemodel

from fcn_plugin.errors import UserError
from fcn_plugin.weights import caffemodel
from fcn_plugin.weights.caffemodel import looks_like_caffemodel, read_caffemodel

REPOSITORY = Path(__file__).parents[2]
FORMS = list(itertools.product(["V1", "V2"], [True, False], [True, False]))
forms = pytest.mark.parametrize(("version", "packed", "legacy"), FORMS)
needs_linux = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="memory is measured and limited as on Linux"
)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, np.float32)


def small_net() -> dict[str, list[np.ndarray]]:
    return {
        "conv1_1": [normal(4, 3, 3, 3), normal(4)],
        "fc6": [normal(6, 36), normal(6)],
        "upscore": [normal(2, 1, 4, 4)],
    }


def tiny_net() -> dict[str, list[np.ndarray]]:
    return {"a": [normal(2, 1, 1, 2), normal(2)], "b": [normal(2, 3)]}


# The wire format by hand, for what no encoder writes.


def varint(value: int) -> bytes:
    """As it is written, or longer than allowed if ``value`` is beyond 64 bits."""
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def field(number: int, content: bytes | int, wire_type: int | None = None) -> bytes:
    if isinstance(content, int):
        return varint(number << 3 | (wire_type or 0)) + varint(content)
    if wire_type is None:
        return varint(number << 3 | 2) + varint(len(content)) + content
    return varint(number << 3 | wire_type) + content


def floats(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


def dims(*values: int) -> bytes:
    return field(7, field(1, b"".join(varint(value % 2**64) for value in values)))


def blob(shape: bytes | None = None, data: bytes | None = None) -> bytes:
    shape = dims(2) if shape is None else shape
    return shape + (field(5, floats(1, 2)) if data is None else data)


def layer(*blobs: bytes, name: bytes = b"fc6", rest: bytes = b"") -> bytes:
    content = field(1, name) + field(2, b"InnerProduct") + rest
    return field(100, content + b"".join(field(7, blob) for blob in blobs))


def put(path: Path, content: bytes) -> None:
    """As a new file: some file systems wait for the disk when an old one is written over."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def read_bytes(content: bytes, folder: Path) -> list:
    path = folder / "made.caffemodel"
    put(path, content)
    return list(read_caffemodel(path))


@forms
def test_round_trip(tmp_path, version, packed, legacy):
    path, net = tmp_path / "net.caffemodel", small_net()
    write_caffemodel(path, net, version, packed, legacy)
    read = list(read_caffemodel(path))
    assert [layer.name for layer in read] == list(net)
    kinds = ["4", "14", "4"] if version == "V1" else ["Convolution", "InnerProduct", "Convolution"]
    assert [layer.type for layer in read] == kinds
    for layer in read:
        assert len(layer.blobs) == len(net[layer.name])
        for found, written in zip(layer.blobs, net[layer.name], strict=True):
            padded = (1,) * (4 - written.ndim) if legacy else ()
            assert found.dtype == torch.float32
            assert found.shape == padded + written.shape
            assert found.numpy().tobytes() == written.tobytes()
            found += 1  # one's own memory, which may be written


@pytest.mark.parametrize("packed", [True, False])
def test_doubles_become_float32(tmp_path, packed):
    path = tmp_path / "net.caffemodel"
    net = {"fc": [np.array([[1 / 3, 1e300, -2]])], "long": [np.arange(100) / 7]}
    write_caffemodel(path, net, packed=packed, double=True)
    (fc, long) = read_caffemodel(path)
    assert torch.equal(fc.blobs[0], torch.tensor([[1 / 3, torch.inf, -2]]))
    assert torch.equal(long.blobs[0], torch.from_numpy((np.arange(100) / 7).astype("f4")))


def test_special_floats_and_a_blob_without_dimensions(tmp_path):
    path = tmp_path / "net.caffemodel"
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45], np.float32)
    write_caffemodel(path, {"norm": [special, np.array(3.5)]})
    (read,) = read_caffemodel(path)
    assert read.blobs[0].numpy().tobytes() == special.tobytes()
    assert read.blobs[1].shape == () and read.blobs[1].item() == 3.5


@pytest.mark.parametrize("version", ["V1", "V2"])
def test_many_layers(tmp_path, version):
    path = tmp_path / "net.caffemodel"
    write_caffemodel(path, {f"conv{i}": [normal(i + 1), normal(2, 3)] for i in range(600)}, version)
    read = list(read_caffemodel(path))
    assert [layer.name for layer in read] == [f"conv{i}" for i in range(600)]
    assert all(len(layer.blobs[0]) == i + 1 for i, layer in enumerate(read))


def test_layers_come_one_at_a_time(tmp_path):
    """The first one is read although the file ends within the second."""
    path = tmp_path / "net.caffemodel"
    write_caffemodel(path, tiny_net())
    os.truncate(path, path.stat().st_size - 1)
    layers = read_caffemodel(path)
    assert next(layers).name == "a"
    with pytest.raises(UserError):
        next(layers)


def test_a_layer_is_let_go_before_the_next(tmp_path, monkeypatch):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(layer(blob()) * 5)
    held, seen, read_layer = [], [], caffemodel._layer

    def watched(*arguments):
        seen.append([tensor() for tensor in held])
        return read_layer(*arguments)

    monkeypatch.setattr(caffemodel, "_layer", watched)
    for read in read_caffemodel(path):
        held.append(weakref.ref(read.blobs[0]))
        del read
    assert seen == [[None] * count for count in range(5)]


def test_fields_that_are_not_ours_are_skipped(tmp_path):
    unknown = [field(900, b"text"), field(901, 7), field(902, b"8" * 8, 1), field(903, b"four", 5)]
    for before, after in itertools.permutations(unknown, 2):
        content = before + layer(before + blob() + after, rest=before + after) + after
        (read,) = read_bytes(content, tmp_path)
        assert (read.name, read.type) == ("fc6", "InnerProduct")
        assert read.blobs[0].tolist() == [1, 2]


def test_the_library_reads_what_this_file_writes_by_hand(tmp_path):
    """So the hostile files below are hostile only where they mean to be."""
    net = CLASSES["NetPackedBlob"].FromString(layer(blob(dims(1, 2))))
    assert list(net.layer[0].blobs[0].shape.dim) == [1, 2]
    assert list(net.layer[0].blobs[0].data) == [1, 2]
    assert read_bytes(layer(blob(dims(1, 2))), tmp_path)[0].blobs[0].tolist() == [[1, 2]]


@pytest.mark.parametrize(
    "data",
    [
        field(5, floats(1)) + field(5, floats(2)),
        field(5, floats(1)) + field(5, floats(2), 5),
        field(5, floats(1), 5) + field(5, floats(2), 5),
        field(5, b"") + field(5, floats(1, 2)),
    ],
)
def test_floats_in_several_pieces(tmp_path, data):
    assert read_bytes(layer(blob(data=data)), tmp_path)[0].blobs[0].tolist() == [1, 2]


@pytest.mark.parametrize("version", ["V1", "V2"])
def test_progress(tmp_path, version):
    path = tmp_path / "net.caffemodel"
    write_caffemodel(path, small_net(), version)
    with path.open("ab") as file:
        file.write(field(3, b"an input behind the layers"))
    calls = []
    list(read_caffemodel(path, lambda *call: calls.append(call)))
    done = [call[0] for call in calls]
    assert len(done) > 3 and done == sorted(done) and done[0] > 0
    assert {call[1] for call in calls} == {path.stat().st_size} == {done[-1]}


def shape_of(*values):
    return layer(blob(dims(*values)))


HOSTILE = {
    "nothing": (b"", "expected layers with weights, found none"),
    "no weights": (layer(), "expected layers with weights, found none"),
    "a page": (b"<!DOCTYPE html><html>404</html>", "wire type 4"),
    "zeros": (bytes(100), "number 0"),
    "a layer of 2^31": (b"\xa2\x06" + varint(2**31), "expected 2147483648 bytes in field 100"),
    "a layer of 2^40": (b"\xa2\x06" + varint(2**40) + b"rest", "found 4 before the end"),
    "a V1 layer of 2^63": (b"\x12" + varint(2**63) + bytes(9), "in field 2 at byte 0, found 9"),
    "a length beyond 64 bits": (b"\xa2\x06" + varint(2**64), "64 bits"),
    "a length without end": (b"\xa2\x06" + b"\xff" * 50, "64 bits"),
    "half a length": (b"\xa2\x06\x80", "found 0 before the end"),
    "half a tag": (layer(blob()) + b"\xa2", "found 0 before the end"),
    "half a fixed number": (layer(blob()) + field(9, b"12", 5), "expected 4 bytes in field 9"),
    "a layer that is a number": (field(100, 3), "expected a layer at byte 3, found wire type 0"),
    "a layer that is a float": (field(2, b"1234", 5), "expected a layer at byte 1"),
    "a group": (field(8, field(1, 2), 3) + field(8, b"", 4), "wire type 3"),
    "the end of no group": (field(8, b"", 4), "wire type 4"),
    "wire type 6": (field(8, b"", 6), "wire type 6"),
    "a field number of 30 bits": (field(2**29, 1), "number 536870912"),
    "blobs of 2^40": (layer(rest=b"\x3a" + varint(2**40)), "expected 1099511627776 bytes"),
    "blobs that are numbers": (layer(rest=field(7, 3)), "type 2 for blobs, found 0"),
    "a V1 type that is text": (field(2, field(5, b"x")), "type 0 for type, found 2"),
    "a group in a layer": (layer(blob(), rest=b"\x53" * 9), "layer at byte 3.*wire type 3"),
    "33 blobs": (layer(*[blob()] * 33), "at most 32 blobs, found 33"),
    "fields in a layer": (layer(rest=field(50, 1) * 1001), "at most 1000 fields"),
    "fields in the net": (field(3, 1) * 10_001, "at most 10000 fields"),
    "name not text": (layer(blob(), name=b"fc\xff6"), "in UTF-8"),
    "type not text": (layer(blob(), rest=field(2, b"\xc3")), "in UTF-8"),
    "a long name": (layer(blob(), name=b"x" * 9999), "at most 256 bytes, found 9999"),
    "a name of lines": (layer(b"", name=b"a\nb"), "blob 0 of 'a.nb'"),
    "an empty blob": (layer(b""), "blob 0 of 'fc6': expected a shape, found none"),
    "no floats": (layer(blob(data=b"")), "expected 2 numbers for .2,., found 0"),
    "too few floats": (shape_of(3), "expected 3 numbers for .3,., found 2"),
    "too many floats": (shape_of(1), "expected 1 numbers for .1,., found 2"),
    "half a float": (layer(blob(data=field(5, b"12345"))), "of 4 bytes, found 5 bytes"),
    "half a double": (layer(blob(data=field(8, bytes(12)))), "of 8 bytes, found 12 bytes"),
    "half a float among others": (
        layer(blob(data=field(5, bytes(5)) * 2)),
        "the fields of UnpackedBlob",
    ),
    "floats of 2^40 bytes": (layer(blob(data=b"\x2a" + varint(2**40))), "blob 0 .* 1099511627776"),
    "floats that are numbers": (layer(blob(data=field(5, 1))), "expected 2 numbers"),
    "a negative dimension": (shape_of(-1, -2), r"positive dimensions, found \(-1, -2\)"),
    "a huge dimension": (shape_of(2**63 - 1), "expected 9223372036854775807 numbers"),
    "dimensions that overflow to 2": (shape_of(2**33, 2**31, 2), "expected 368934881474191032"),
    "a dimension of zero": (shape_of(2, 0), "positive dimensions"),
    "zero floats for zero": (layer(blob(dims(0), b"")), "positive dimensions"),
    "9 dimensions": (shape_of(2, *[1] * 8), "at most 8 dimensions, found 9"),
    "a million dimensions": (shape_of(*[1] * 1_000_000), "a shape of a few bytes, found 1000004"),
    "half a dimension": (layer(blob(field(7, field(1, b"\x80")))), "the fields of BlobShape"),
    "a shape that is a number": (layer(blob(field(7, 2))), "expected a shape, found none"),
    "a negative legacy dimension": (
        layer(blob(b"".join(field(i, 2**64 - 1) for i in (1, 2, 3, 4)))),
        "positive dimensions",
    ),
    "half a legacy shape": (layer(blob(field(1, 1) + field(2, 2))), r"found \(1, 2, 0, 0\)"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile(tmp_path, case):
    content, message = HOSTILE[case]
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=message) as raised:
            read_bytes(content, tmp_path)
        # A traceback of a few frames is all that a small file may cost.
        assert tracemalloc.get_traced_memory()[1] < 1e6 + 8 * len(content)
    finally:
        tracemalloc.stop()
    text = str(raised.value)
    assert text.startswith(f"{tmp_path / 'made.caffemodel'}: ") and "\n" not in text
    assert text.endswith("; download it again")


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    for path in (tmp_path / "none.caffemodel", tmp_path):
        with pytest.raises(UserError, match=r"no such file; check the path"):
            next(read_caffemodel(path))
        assert not looks_like_caffemodel(path)
    locked = tmp_path / "locked.caffemodel"
    locked.write_bytes(layer(blob()))

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=r"locked.caffemodel: cannot be opened \(Permission"):
        next(read_caffemodel(locked))
    assert not looks_like_caffemodel(locked)


def test_a_layer_that_no_library_parses(tmp_path):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(b"\xa2\x06" + varint(2**31) + b"\x0a")
    os.truncate(path, 2**31 + 99)  # takes no room on the disk
    with pytest.raises(UserError, match="at most 2147483647 bytes, found 2147483648"):
        list(read_caffemodel(path))
    assert looks_like_caffemodel(path)


def test_a_file_that_shrinks_while_it_is_read(tmp_path):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(layer(blob(dims(50_000), field(5, bytes(200_000)))) * 2)
    layers = read_caffemodel(path)
    next(layers)
    os.truncate(path, 250_000)
    with pytest.raises(UserError, match="before the end"):
        next(layers)


@forms
def test_truncated_at_every_byte(tmp_path, version, packed, legacy):
    path = tmp_path / "net.caffemodel"
    write_caffemodel(path, tiny_net(), version, packed, legacy)
    content, ends = path.read_bytes(), []
    list(read_caffemodel(path, lambda done, _: ends.append(done)))
    whole = {}
    for length in range(len(content)):
        try:
            whole[length] = [layer.name for layer in read_bytes(content[:length], tmp_path)]
        except UserError as error:
            assert str(error).startswith(f"{tmp_path / 'made.caffemodel'}: ")
    # Only a cut between two fields of the net goes unseen: the format does not say how many follow.
    assert set(whole) < set(ends) and len(whole) >= 3
    assert all(names == ["a"] for names in whole.values())


@forms
def test_looks_like_caffemodel(tmp_path, version, packed, legacy):
    path = tmp_path / "weights.of.any.name"
    write_caffemodel(path, small_net(), version, packed, legacy)
    assert looks_like_caffemodel(path)
    os.truncate(path, path.stat().st_size // 2)
    assert looks_like_caffemodel(path)


def test_other_files_do_not_look_like_one(tmp_path):
    path = tmp_path / "vgg16.caffemodel"
    state = dict(weight=torch.zeros(3))
    others = {
        "zip": lambda: torch.save(state, path),
        "pickle": lambda: torch.save(state, path, _use_new_zipfile_serialization=False),
        "numpy": lambda: np.save(path.open("wb"), normal(3)),
        "page": lambda: path.write_text("<html>404</html>"),
        "lines": lambda: path.write_text('\n\n"' * 200),
        "prototxt": lambda: path.write_text('name: "VGG"\nlayer {\n  name: "conv1_1"\n}\n'),
        "hdf5": lambda: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64)),
        "safetensors": lambda: path.write_bytes(b"\x12\x40" + bytes(6) + b'{"a": {}}' * 40),
        "mean": lambda: path.write_bytes(field(1, 1) + field(2, 3) + field(5, bytes(12))),
        "solver state": lambda: path.write_bytes(field(1, 9) + field(2, b"a.caffemodel")),
        "nothing": lambda: path.write_bytes(b""),
        "zeros": lambda: path.write_bytes(bytes(99)),
        "no layers": lambda: path.write_bytes(field(1, b"net") + field(4, 3) * 20_000),
    }
    for name, write in others.items():
        write()
        assert not looks_like_caffemodel(path), name
        with pytest.raises(UserError):
            list(read_caffemodel(path))


# Random damage.

HUGE = [varint(2**power - less) for power in (7, 14, 31, 32, 40, 63, 64) for less in (0, 1)]


def damaged(content: bytes, chance: random.Random) -> bytes:
    """``content`` after one to four accidents."""
    made = bytearray(content)
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        at = chance.randrange(len(made) or 1)
        until = min(len(made), at + chance.choice([1, 2, 5, 30]))
        match chance.choice([0, 0, 0, 1, 1, 2, 3, 4, 5, 6]):
            case 0:
                made[at:until] = [byte ^ 1 << chance.randrange(8) for byte in made[at : at + 1]]
            case 1:
                made[at:until] = chance.randbytes(until - at)
            case 2:
                del made[at:]
            case 3:
                made[at:at] = chance.randbytes(chance.choice([1, 2, 5, 30]))
            case 4:
                del made[at:until]
            case 5:
                made[at:at] = made[at:until]
            case 6:
                made[at : at + 1] = chance.choice(HUGE)
    return bytes(made)


def fuzz(count: int, folder: Path, seed: int = 0) -> Counter:
    """How many damaged files were read and refused; anything else than these two raises."""
    chance, results, originals = random.Random(seed), Counter(), []
    path = folder / "fuzzed.caffemodel"
    net = {"a": [normal(4, 2, 3, 3), normal(4)], "b": [normal(8, 4)]}
    for version, packed, legacy in FORMS:
        write_caffemodel(path, net, version, packed, legacy, ["relu"])
        originals.append(path.read_bytes())
    for number in range(count):
        content = damaged(originals[number % len(originals)], chance)
        put(path, content)
        try:
            looks_like_caffemodel(path)
            for layer in read_caffemodel(path):
                assert all(4 * blob.numel() <= len(content) for blob in layer.blobs)
                assert all(blob.dtype == torch.float32 for blob in layer.blobs)
        except UserError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
            results["refused"] += 1
        except Exception as error:
            raise AssertionError(f"input {number} of seed {seed}: {content!r}") from error
        else:
            results["read"] += 1
    return results


def check_fuzz(results: Counter, count: int) -> None:
    assert results.total() == count
    assert results["refused"] > count / 3 and results["read"] > count / 20


def test_fuzz(tmp_path):
    check_fuzz(fuzz(2000, tmp_path), 2000)


def limited(code: str, *arguments: object, timeout: float, megabytes: int = 0) -> str:
    """What ``code`` prints in a process that may take ``megabytes`` more than its imports did."""
    head = f"""
import resource, sys
sys.path[:0] = [{str(REPOSITORY)!r}, {str(REPOSITORY / "tests")!r}]
from pathlib import Path
from weights.test_caffemodel import *
def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(key)).split()[1])
list(read_caffemodel(Path(sys.argv[1])))  # what the first use allocates for good
if {megabytes}:
    limit = status("VmSize") + {megabytes} * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
"""
    done = subprocess.run(
        [sys.executable, "-c", head + code, *map(str, arguments)],
        env=os.environ | dict(OMP_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture()
def good_file(tmp_path):
    path = tmp_path / "good.caffemodel"
    write_caffemodel(path, tiny_net())
    return path


@needs_linux
@pytest.mark.slow
def test_fuzz_for_long(tmp_path, good_file):
    code = "print(json.dumps(fuzz(20_000, Path(sys.argv[2]), seed=1)))"
    results = limited(code, good_file, tmp_path, timeout=300, megabytes=256)
    check_fuzz(Counter(json.loads(results)), 20_000)


BOMBS = {  # 10 MB of the smallest fields, at each level
    "net": (lambda: field(3, b"") * 5_000_000, "at most 10000 fields"),
    "layers": (lambda: field(2, b"") * 5_000_000, "at most 10000 fields"),
    "layer": (lambda: layer(rest=field(60, b"") * 5_000_000), "at most 1000 fields"),
    "blobs": (lambda: layer(rest=field(7, b"") * 5_000_000), "at most 1000 fields"),
    "blob": (lambda: layer(blob(data=field(60, b"") * 5_000_000)), "2 numbers .* found 0"),
    "data": (lambda: layer(blob(data=field(5, b"") * 5_000_000)), "2 numbers .* found 0"),
    "shapes": (
        lambda: layer(field(7, b"") * 5_000_000 + field(5, floats(1, 2))),
        r"1 numbers for \(\), found 2",
    ),
    "dimensions": (
        lambda: layer(blob(field(7, field(1, bytes([1]) * 10_000_000)))),
        "found 10000005",
    ),
    "groups": (
        lambda: layer(blob(data=field(5, floats(1), 5) * 64 + b"\x53" * 10_000_000)),
        "the fields of UnpackedBlob",
    ),
}


@needs_linux
def test_bombs_of_tiny_fields(tmp_path, good_file):
    """Each is refused within six times its size; a Python object a field would be far more.

    protobuf's compiled forms keep to that, which is what every wheel for a common machine has.
    """
    for name, (content, _) in BOMBS.items():
        (tmp_path / f"{name}.bomb").write_bytes(content())
    code = """
for name, (_, message) in BOMBS.items():
    with pytest.raises(UserError, match=message):
        list(read_caffemodel(Path(sys.argv[2]) / f"{name}.bomb"))
    print(name)
"""
    printed = limited(code, good_file, tmp_path, timeout=60, megabytes=60)
    assert printed.split() == list(BOMBS)


@needs_linux
def test_reading_takes_less_than_twice_the_file(tmp_path, good_file):
    """As in VGG one layer has three quarters of the 60 MB; all layers are kept."""
    sizes = dict(conv1_1=1_000_000, conv5_3=1_500_000, fc6=11_000_000, fc7=1_500_000)
    net = {name: [normal(size)] for name, size in sizes.items()}
    path = tmp_path / "net.caffemodel"
    write_caffemodel(path, net, "V1", legacy_shape=True)
    code = """
before = status("VmRSS")
layers = list(read_caffemodel(Path(sys.argv[2])))
assert len(layers) == 4
print(status("VmHWM") - before)
"""
    peak = int(limited(code, good_file, path, timeout=60))
    # The weights themselves are once the file.
    assert path.stat().st_size < peak < 1.8 * path.stat().st_size


def test_the_tables_agree():
    """The numbers under which data is looked for are those of both declarations of a blob."""
    for kind in ("Blob", "UnpackedBlob"):
        assert caffemodel.MESSAGES[kind]["data"][0] == caffemodel.DATA
        assert caffemodel.MESSAGES[kind]["double_data"][0] == caffemodel.DOUBLE_DATA
