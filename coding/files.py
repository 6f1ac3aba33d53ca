"""Files of coded images, *.vz. docs/compression.md describes them byte by byte."""

import dataclasses
import pathlib
import struct
import zlib

import numpy as np

from coding.exact import CodingError
from storage.files import replacing

MAGIC = b"\x89VZ\n"
VERSION = 1  # of the format and of the arithmetic
LOSSLESS, LOSSY = 0, 1
LARGEST_STEP = 2**20  # of the codes of a lossy file
HEAD = struct.Struct("<4sBB16s3HHHB")


@dataclasses.dataclass(frozen=True)
class Coded:
    """Coded images.

    Args:
        kind: LOSSLESS or LOSSY.
        digest: 16 bytes that stand for the model.
        model_name: what the model is called in messages.
        shape: (height, width, channels)
        counts: the numbers of images of the parts, in the order in which they were appended.
        words: uint32, the stack, above `num_untouched` words that are known.
        steps: of the codes of a lossy file, in multiples of 2^-16: (latent,) int64. Empty in a lossless one.
    """

    kind: int
    digest: bytes
    model_name: str
    shape: tuple[int, int, int]
    counts: tuple[int, ...]
    words: np.ndarray
    num_untouched: int
    steps: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def num_images(self) -> int:
        return sum(self.counts)

    def to_bytes(self) -> bytes:
        name = self.model_name.encode()[:255].decode(errors="ignore").encode()
        fields = self.kind, self.digest, *self.shape, len(self.counts), self.num_untouched, len(name)
        parts = [
            HEAD.pack(MAGIC, VERSION, *fields),
            name,
            np.array(self.counts, "<u4").tobytes(),
            struct.pack("<H", len(self.steps)),
            self.steps.astype("<u4").tobytes(),
            self.words.astype("<u4").tobytes(),
        ]
        content = b"".join(parts)
        return content + struct.pack("<I", zlib.crc32(content))


def write(path: pathlib.Path, coded: Coded) -> int:
    """Write a file, completely or not at all; gives the number of its bytes. Raises a WriteError."""
    content = coded.to_bytes()
    with replacing(path, len(content)) as partial:
        partial.write_bytes(content)
    return len(content)


def read(path: pathlib.Path) -> Coded:
    """The content of a file.

    Raises:
        CodingError: if it is not there, is of another kind, newer, cut short or damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CodingError(f"cannot read {path}: {error.strerror}") from None
    if content[:4] != MAGIC[: len(content)] or not content:
        raise CodingError(f"{path} is not a file of --compress")
    damaged = CodingError(f"{path} is damaged or cut short, so it is not decoded")
    if len(content) < HEAD.size + 6 or zlib.crc32(content[:-4]) != int.from_bytes(content[-4:], "little"):
        raise damaged
    if content[4] != VERSION:
        raise CodingError(f"{path} was written by another version of this program")
    _, _, kind, digest, height, width, channels, num_parts, num_untouched, name_length = HEAD.unpack_from(content)
    try:
        rest = memoryview(content)[HEAD.size : -4]
        name, rest = bytes(rest[:name_length]).decode(), rest[name_length:]
        counts, rest = np.frombuffer(rest[: 4 * num_parts], "<u4"), rest[4 * num_parts :]
        num_steps, rest = int.from_bytes(rest[:2], "little"), rest[2:]
        steps, rest = np.frombuffer(rest[: 4 * num_steps], "<u4"), rest[4 * num_steps :]
        words = np.frombuffer(rest, "<u4").astype(np.uint32)
    except ValueError:
        raise damaged from None
    is_whole = len(counts) == num_parts and len(steps) == num_steps and len(words) and words[-1]
    is_lossy = kind == LOSSY and num_parts == 1 and num_steps and steps.min() > 0 and steps.max() <= LARGEST_STEP
    if not is_whole or not (is_lossy or (kind == LOSSLESS and num_parts and not num_steps)):
        raise damaged
    name = "".join(letter if letter.isprintable() else "?" for letter in name)
    shape = height, width, channels
    return Coded(kind, digest, name, shape, tuple(counts.tolist()), words, num_untouched, steps.astype(np.int64))
