"""Texts of the command line -> values, as argparse types: a wrong text raises ArgumentTypeError with one line."""

import argparse
import difflib
import math
import re
from collections.abc import Callable, Iterable, Sequence

WIDEST_WINDOW = 63
PARTS = ("left", "right", "top", "bottom", "centre")  # of an image that --hide can name
LARGEST = 2**31 - 1  # 32-bit integer
SMALLEST = 1e-30  # above 0; far enough above float32's limit for products


def suggestion(word: str, known: Iterable[str], cutoff: float = 0.6, prefix: str = "") -> str:
    """ ": did you mean ...?" if one of the known words is near, else nothing."""
    close = difflib.get_close_matches(word.lower(), known, n=1, cutoff=cutoff)
    return f": did you mean {prefix}{close[0]}?" if close else ""


def number(kind: type, minimum: float, *, maximum: float = LARGEST) -> Callable[[str], int | float]:
    """A parser of numbers within these bounds; one above 0 must not be 0 in float32."""
    words = f"a {'whole ' if kind is int else ''}number of at least {minimum:g}"

    def parse(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not value >= minimum:
            raise argparse.ArgumentTypeError(f"must be {words}, not '{text}'")
        if value > maximum:
            raise argparse.ArgumentTypeError(f"must be at most {maximum}, not '{text}'")
        if 0 < value < SMALLEST:
            raise argparse.ArgumentTypeError(f"must be 0 or at least {SMALLEST}, not '{text}'")
        return value

    return parse


def whole(minimum: int, maximum: int = LARGEST) -> Callable[[str], int]:
    return number(int, minimum, maximum=maximum)


def real(minimum: float, maximum: float = LARGEST) -> Callable[[str], float]:
    return number(float, minimum, maximum=maximum)


def one_of(words: Sequence[str]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise argparse.ArgumentTypeError(not_among(words, text))
        return text

    return parse


def not_among(words: Sequence[str], text: str) -> str:
    return f"must be {', '.join(words[:-1])} or {words[-1]}, not '{text}'{suggestion(text, words)}"


def boolean(text: str) -> bool:
    values = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(not_among(("true", "false"), text))
    return values[text.lower()]


def device(text: str) -> str:
    kind, _, index = text.partition(":")
    if text not in ("auto", "cpu", "gpu") and not (kind == "gpu" and index.isdecimal()):
        raise argparse.ArgumentTypeError(not_among(("auto", "cpu", "gpu", "gpu:N"), text))
    return text


def window(text: str) -> int:
    if not text.isdecimal() or (text != "0" and (int(text) % 2 == 0 or not 3 <= int(text) <= WIDEST_WINDOW)):
        raise argparse.ArgumentTypeError(f"must be odd, from 3 to {WIDEST_WINDOW}, or 0, not '{text}'")
    return int(text)


def name(text: str) -> str:
    is_odd = not text.isprintable() or text != text.strip() or any(part in text for part in ("/", "\\"))
    if is_odd or not text or text.startswith(".") or re.search(r"\.previous(-\d+)?$", text):
        raise argparse.ArgumentTypeError(f"must be a plain folder name, not '{text}'")
    return text


def path(text: str) -> str:
    if not text:  # a shell variable that was never set
        raise argparse.ArgumentTypeError("must be a path, not ''")
    return text


def class_name(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("must be the name or number of a class, not ''")
    return text


def hidden(text: str) -> str:
    """A part of an image, or the share of its pixels, strictly between 0 and 1."""
    text = "centre" if text == "center" else text
    try:
        is_right = 0 < float(text) < 1
    except ValueError:
        is_right = text in PARTS
    if not is_right:
        meant = suggestion(text, PARTS)
        raise argparse.ArgumentTypeError(f"must be {', '.join(PARTS)} or a number between 0 and 1, not '{text}'{meant}")
    return text if text in PARTS else f"{float(text):g}"


def dataset(*more: str) -> Callable[[str], str]:
    """The name or path of a dataset, or one of `more`."""

    def parse(text: str) -> str:
        from data import DataError, resolve_name  # only now: it imports NumPy

        try:
            return resolve_name(text, more)
        except (DataError, OSError) as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse
