"""Tensors laid out in memory as a safetensors file: a snapshot is one copy, and the buffer is the file.

The format (github.com/huggingface/safetensors#format): 8 bytes with the little-endian length of the
header, the header as JSON padded with spaces, then each tensor's bytes where the header says.
"""

import json
import struct
from collections.abc import Mapping

import torch

from fairlead.training.updates.shards import whole

Tensors = Mapping[str, torch.Tensor]
Spec = tuple[torch.dtype, torch.Size]

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
# Data begins at a multiple of the largest element's size, as other writers of the format have it.
ALIGNMENT = 8


class TensorFile:
    """A buffer in host memory for tensors of given names, types and shapes, filled again for every snapshot."""

    def __init__(self, tensors: Tensors, pinned: bool = False) -> None:
        """The buffer is written once here, so that the first snapshot does not pay for fresh memory.

        `pinned` memory is copied to from a GPU at the bus's full speed.
        """
        self._specs = _specs(tensors)
        ranges, end = _ranges(self._specs)
        header = _header(self._specs, ranges)
        self._bytes = torch.empty(len(header) + end, dtype=torch.uint8, pin_memory=pinned)
        self._bytes.fill_(0)
        self._bytes[: len(header)] = torch.frombuffer(bytearray(header), dtype=torch.uint8)
        data = self._bytes[len(header) :]
        self._views = {
            name: data[begin:end].view(self._specs[name][0]).view(self._specs[name][1])
            for name, (begin, end) in ranges.items()
        }

    def fits(self, tensors: Tensors) -> bool:
        """Whether `tensors` have the names, types and shapes of this file."""
        return _specs(tensors) == self._specs

    def fill(self, tensors: Tensors) -> None:
        """Copy all or some tensors in; from a GPU the copies have only begun (see torch.cuda.synchronize).

        Of those that are sharded every process has to take part (see `take_part`).
        """
        for name, view in self._views.items():
            if name in tensors:
                view.copy_(whole(tensors[name]), non_blocking=tensors[name].is_cuda)

    @property
    def content(self) -> memoryview:
        """The whole file, without a copy; it changes with the next `fill`."""
        return self._bytes.numpy().data


def take_part(tensors: Tensors) -> None:
    """Do this process's share while another one fills a file with tensors that are sharded: in the order of `fill`."""
    for name in _ranges(_specs(tensors))[0]:
        whole(tensors[name])


def _specs(tensors: Tensors) -> dict[str, Spec]:
    return {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}


def _ranges(specs: Mapping[str, Spec]) -> tuple[dict[str, tuple[int, int]], int]:
    """Where each tensor's bytes lie behind the header, the widest elements first so that all are aligned."""
    ranges, end = {}, 0
    for name in sorted(specs, key=lambda name: (-specs[name][0].itemsize, name)):
        dtype, shape = specs[name]
        begin, end = end, end + shape.numel() * dtype.itemsize
        ranges[name] = (begin, end)
    return ranges, end


def _header(specs: Mapping[str, Spec], ranges: Mapping[str, tuple[int, int]]) -> bytes:
    fields = {
        name: {"dtype": DTYPES[specs[name][0]], "shape": list(specs[name][1]), "data_offsets": list(where)}
        for name, where in ranges.items()
    }
    text = json.dumps({"__metadata__": {"format": "pt"}, **fields}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return struct.pack("<Q", len(text)) + text
