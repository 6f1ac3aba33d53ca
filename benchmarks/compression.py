"""Bytes and seconds of --compress, beside general and image compressors, for one model and one dataset.

    python benchmarks/compression.py CHECKPOINT DATA [--data_dir DIR] [--max_examples N] [--lossy --to PICTURE]

Every file is counted as a whole, with its header; the model is not, and its size is printed. Images are the ones that
the model codes: binarized as in its training, if they were. The other programs get them as bytes, and binary ones also
packed, 8 pixels a byte; the smaller result counts. "each" is a file for every image, "sheet" one for all images side
by side. JPEG-XL needs `pip install pillow-jxl-plugin`.

--lossy is for MNIST. It prints bytes an image, the squared error, and how many a classifier reads as their class
(benchmarks/judge.py), for several --levels and for JPEG, WebP and JPEG-XL; --to draws this.
"""

import argparse
import bz2
import dataclasses
import functools
import gzip
import io
import lzma
import math
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import numpy as np
import tensorflow as tf
from judge import build, classes_of
from matplotlib.figure import Figure
from PIL import Image

import visualize
from app.compress import as_pixels
from coding import bits_back, lossy
from coding.model import LosslessModel, LossyModel
from data import open_stream
from storage.checkpoints import read_header, save_slim
from trained.conditions import Conditioner
from vae import load

try:
    import pillow_jxl  # noqa: F401
except ImportError:
    print("JPEG-XL left out: pip install pillow-jxl-plugin")
HAS_JXL = "pillow_jxl" in sys.modules
FORMATS = {
    "PNG": {"format": "PNG", "optimize": True},
    "WebP": {"format": "WebP", "lossless": True, "quality": 100, "method": 6},
} | ({"JPEG-XL": {"format": "JXL", "lossless": True, "effort": 7}} if HAS_JXL else {})
NUM_EACH = 500  # images of which the mean of "each" is taken
LEVELS = (0.25, 0.5, 1, 2, 4, 8)
QUALITIES = (1, 10, 30, 60)
NUM_BOUND = 4  # posterior samples of the bound


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("data")
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--split")
    parser.add_argument("--max_examples", type=int)
    parser.add_argument("--lossy", action="store_true")
    parser.add_argument("--judge", type=pathlib.Path, default="judge.weights.h5", help="of benchmarks/judge.py")
    parser.add_argument("--to", help="picture of --lossy")
    options = parser.parse_args()
    trained = load(options.checkpoint)
    x, classes = images_of(trained, options)
    (compare_lossy if options.lossy else compare_lossless)(trained, x, classes, options)


def images_of(trained, options) -> tuple[np.ndarray, np.ndarray | None]:
    """The images that the model codes, as levels (binary ones 0 and 255), and their class numbers."""
    stream = open_stream(options.data, options.data_dir, trained.data_shape, split=options.split, offline=True)
    if options.max_examples:
        stream = stream.choose(options.max_examples, seed=0)
    print(stream.describe())
    conditioner, parts, labels, first = Conditioner(trained, stream.class_names, seed=0), [], [], 0
    for block in stream.blocks(500):
        given = conditioner.condition(block.x, block.labels, first)
        parts += [images for images, _, _ in given.batches]
        labels += [np.argmax(rows, axis=1) for _, rows, _ in given.batches if trained.is_conditional]
        first += len(block.x)
    x = np.round(255.0 * np.concatenate(parts)).astype(np.uint8)
    return x, np.concatenate(labels) if labels else None


def compare_lossless(trained, x: np.ndarray, classes: np.ndarray | None, options) -> None:
    started = time.perf_counter()
    model = LosslessModel(trained.model, trained.class_probs)
    print(f"conversion to exact arithmetic: {time.perf_counter() - started:.1f} s")
    pixels = as_pixels(np.float32(x) / 255, model.pixels.num_levels, "data")
    coded, to_seconds = timed(lambda: bits_back.compress(model, pixels, classes, model_name=trained.model.name))
    sizes = {"ours": len(coded.to_bytes())}
    decoded, from_seconds = timed(lambda: bits_back.decompress(model, coded))
    assert np.array_equal(decoded[0], pixels)
    print_row("this program", sizes["ours"], x, to_seconds, from_seconds)
    bound = bound_bytes(trained, pixels / (model.pixels.num_levels - 1), classes)
    print_row(f"its bound ({NUM_BOUND} posterior samples)", bound, x)
    for name, compress, decompress in (
        ("gzip -9", functools.partial(gzip.compress, compresslevel=9), gzip.decompress),
        ("bz2 -9", bz2.compress, bz2.decompress),
        ("xz -9e", functools.partial(lzma.compress, preset=9 | lzma.PRESET_EXTREME), lzma.decompress),
    ):
        results = [timed(functools.partial(compress, form)) for form in raw_forms(x)]
        content, seconds = min(results, key=lambda result: len(result[0]))
        sizes[name] = len(content)
        print_row(name, len(content), x, seconds, timed(functools.partial(decompress, content))[1])
    for name, settings in FORMATS.items():
        each = [len(encoded(as_image(image), settings)) for image in x[:NUM_EACH]]
        print_row(f"{name}, each", np.mean(each) * len(x), x)
        content, seconds = timed(functools.partial(encoded, as_image(sheet(x)), settings))
        print_row(f"{name}, sheet", len(content), x, seconds, timed(functools.partial(opened, content))[1])
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "slim.weights.h5")
        save_slim(trained.model, path, read_header(options.checkpoint))
        weight = path.stat().st_size
    saved = (sizes["xz -9e"] - sizes["ours"]) / len(x)
    pays = f"from {weight / saved:,.0f} images on" if saved > 0 else "never"
    print(f"the model (--slim): {weight:,} bytes; beside xz it pays {pays}")


def timed(function: Callable):
    started = time.perf_counter()
    result = function()
    return result, time.perf_counter() - started


def print_row(name: str, num_bytes: float, x: np.ndarray, to_seconds=None, from_seconds=None) -> None:
    speeds = "" if to_seconds is None else f"  {len(x) / to_seconds:>9,.0f}  {len(x) / from_seconds:>9,.0f} images/s"
    print(f"{name:36s}{num_bytes:>12,.0f} bytes  {8 * num_bytes / x.size:.4f} bits/dim{speeds}")


def bound_bytes(trained, x: np.ndarray, classes: np.ndarray | None) -> float:
    """-ELBO - log p(y) of all images, in bytes."""
    nats = 0.0
    for start in range(0, len(x), 500):
        rows = slice(start, start + 500)
        labels = np.zeros((len(x[rows]), 0)) if classes is None else np.eye(len(trained.class_names))[classes[rows]]
        for seed in range(NUM_BOUND):
            terms = trained.model.terms(
                tf.constant(x[rows], tf.float32), tf.constant(labels, tf.float32), [seed, start]
            )
            nats += sum(float(np.sum(part, dtype=np.float64)) for part in terms) / NUM_BOUND
    if classes is not None:
        nats -= np.log(trained.class_probs)[classes].sum()
    return nats / math.log(2) / 8


def raw_forms(x: np.ndarray) -> list[bytes]:
    """The images as bytes; binary ones also packed."""
    is_binary = set(np.unique(x)) <= {0, 255}
    return [x.tobytes(), *([np.packbits(x > 0).tobytes()] if is_binary else [])]


def sheet(x: np.ndarray) -> np.ndarray:
    columns = math.ceil(math.sqrt(len(x)))
    rows = math.ceil(len(x) / columns)
    filled = np.concatenate([x, np.zeros((rows * columns - len(x), *x.shape[1:]), np.uint8)])
    height, width, channels = x.shape[1:]
    page = filled.reshape(rows, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    return page.reshape(rows * height, columns * width, channels)


def as_image(image: np.ndarray, *, may_be_binary: bool = True) -> Image.Image:
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    is_binary = may_be_binary and set(np.unique(image)) <= {0, 255}
    return picture.convert("1", dither=Image.Dither.NONE) if is_binary else picture


def encoded(picture: Image.Image, settings: dict) -> bytes:
    content = io.BytesIO()
    if settings["format"] != "PNG" and picture.mode == "1":
        picture = picture.convert("L")
    picture.save(content, **settings)
    return content.getvalue()


def opened(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


@dataclasses.dataclass(frozen=True)
class Returned:
    """What came back of all images: by which program, for how many bytes each, in one sheet or file and alone."""

    program: str
    setting: str
    num_bytes: float
    num_bytes_alone: float
    images: np.ndarray
    squared_error: float
    agreement: float  # per cent that a classifier reads as their class


def compare_lossy(trained, x: np.ndarray, classes: np.ndarray, options) -> None:
    network = build()
    network.load_weights(options.judge)

    def agreement(images: np.ndarray) -> float:
        return 100 * float(np.mean(classes_of(network, np.float32(images) / 255) == classes))

    def returned(program: str, setting: str, size: float, size_alone: float, images: np.ndarray) -> Returned:
        error = np.square((np.float64(images) - x) / 255).sum(axis=(1, 2, 3)).mean()
        found = Returned(program, setting, size / len(x), size_alone, images, float(error), agreement(images))
        print(
            f"{program:9s}{setting:12s}{found.num_bytes:>8.2f} bytes each in one file, {size_alone:>7.2f} alone; "
            f"squared error {error:6.2f}; {found.agreement:.2f} % read as their class"
        )
        return found

    print(f"the judge reads {agreement(x):.2f} % of the originals as their class")
    results, model = [], LossyModel(trained.model, trained.class_probs)
    for levels in LEVELS:
        coded = lossy.compress_codes(model, x, classes, levels=levels)
        one = lossy.compress_codes(model, x[:1], classes[:1], levels=levels)
        z, decoded = lossy.decompress_codes(model, coded)
        images = np.round(255 * trained.decode(z, decoded, seed=0))
        sizes = len(coded.to_bytes()), len(one.to_bytes())
        results.append(returned("--lossy", f"levels {levels:g}", *sizes, images))
    for name, kind in {"JPEG": "JPEG", "WebP": "WebP", **({"JPEG-XL": "JXL"} if HAS_JXL else {})}.items():
        for quality in QUALITIES:
            settings = {"format": kind, "quality": quality}
            page = encoded(as_image(sheet(x), may_be_binary=False), settings)
            alone = [len(encoded(as_image(image, may_be_binary=False), settings)) for image in x[:NUM_EACH]]
            images = cut(opened(page)[..., : x.shape[-1]], x.shape)
            results.append(returned(name, f"quality {quality}", len(page), float(np.mean(alone)), images))
    if options.to:
        draw(results, x, classes, options.to)


def draw(results: list[Returned], x: np.ndarray, classes: np.ndarray, path: str) -> None:
    """One image of each class and what came back of it, above; below, errors and agreement against bytes."""
    chosen = [int(np.flatnonzero(classes == number)[0]) for number in range(10)]
    smallest = [next(result for result in results if result.program == name) for name in ("JPEG", "WebP")]
    ours = [result for result in results if result.program == "--lossy"]
    shown = [ours[4], ours[2], ours[1], *smallest]
    rows = [("original", x), *((f"{row.program}, {row.num_bytes:.1f} bytes", row.images) for row in shown)]
    figure = Figure(figsize=(10, 9), dpi=100, layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[3, 2])
    axes = above.subplots(len(rows), 1)
    for panel, (name, images) in zip(axes, rows, strict=True):
        panel.imshow(np.concatenate(images[chosen, :, :, 0], axis=1), cmap="gray", vmin=0, vmax=255)
        panel.set_ylabel(name, rotation=0, ha="right", va="center")
        panel.set_xticks([])
        panel.set_yticks([])
    left, right = below.subplots(1, 2)
    for program in dict.fromkeys(result.program for result in results):
        of_program = [result for result in results if result.program == program]
        sizes = [result.num_bytes for result in of_program]
        left.plot(sizes, [result.squared_error for result in of_program], marker=".", label=program)
        right.plot(sizes, [result.agreement for result in of_program], marker=".", label=program)
    for panel, name in ((left, "squared error of an image"), (right, "read as their class, %")):
        panel.set_xscale("log")
        panel.set_xlabel("bytes an image, all in one file")
        panel.set_ylabel(name)
        panel.grid(alpha=0.3)
        panel.legend()
    visualize.save(figure, path)


def cut(page: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The images of a sheet."""
    num, height, width, channels = shape
    rows, columns = page.shape[0] // height, page.shape[1] // width
    parts = page.reshape(rows, height, columns, width, channels).transpose(0, 2, 1, 3, 4)
    return parts.reshape(-1, height, width, channels)[:num]


if __name__ == "__main__":
    main()
