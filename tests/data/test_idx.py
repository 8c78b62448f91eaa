import gzip
import re

import pytest
import torch

from iin_lightning.data.idx import read_idx
from iin_lightning.errors import DataNotFoundError


def idx(sizes: tuple[int, ...], values: bytes) -> bytes:
    return bytes([0, 0, 8, len(sizes)]) + b"".join(size.to_bytes(4) for size in sizes) + values


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_values_come_back_plain_or_compressed(tmp_path, suffix):
    path = tmp_path / f"values{suffix}"
    content = idx((2, 3), bytes(range(250, 256)))
    path.write_bytes(gzip.compress(content) if suffix else content)
    assert torch.equal(read_idx(path), torch.arange(250, 256).byte().reshape(2, 3))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (idx((2, 3), bytes(5)), "holds 5 values, its header states 2x3 = 6"),
        (idx((2, 3), bytes(7)), "holds 7 values, its header states 2x3 = 6"),
        (idx((2, 3), b"")[:9], "ends within its header, after 9 of 12 bytes"),
        (b"<html>", "starts with 0x3c68746d, an IDX file of bytes with 0x000008"),
        (b"\0\0\x0d\1" + bytes(4), "starts with 0x00000d01"),
        (b"", "starts with 0x,"),
    ],
)
def test_a_damaged_file_says_what_is_wrong_and_what_to_do(tmp_path, content, text):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataNotFoundError, match=re.escape(text)) as error:
        read_idx(path)
    assert str(path) in str(error.value)
    assert "fetch it again" in str(error.value)


@pytest.mark.parametrize(
    "content",
    [b"no gzip at all", gzip.compress(idx((9,), bytes(9)))[:-12]],
    ids=["no gzip", "cut off"],  # gzip writes the time, and two processes must give a test the same name
)
def test_a_damaged_compressed_file_is_named(tmp_path, content):
    path = tmp_path / "values.gz"
    path.write_bytes(content)
    with pytest.raises(DataNotFoundError, match=r"values\.gz cannot be decompressed"):
        read_idx(path)
