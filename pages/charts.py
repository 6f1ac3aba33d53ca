"""Curves as SVG that can be pointed at: plain numbers for the template."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

WIDTH, HEIGHT = 320, 200
LEFT, TOP, BOTTOM = 52, 20, 172
LONG_RUN = 10  # epochs; of such a run the axis shows the second half, as history.png does


@dataclasses.dataclass(frozen=True)
class Curve:
    """Values after some epochs."""

    name: str
    epochs: Sequence[int]
    values: Sequence[float]


def chart(curves: Sequence[Curve], *, caption: str) -> dict:
    """What the template draws of curves on one pair of axes."""
    epochs = sorted({epoch for curve in curves for epoch in curve.epochs})
    low, high = frame(curves)

    def x_of(epoch: int) -> float:
        share = (epoch - epochs[0]) / (epochs[-1] - epochs[0]) if len(epochs) > 1 else 0.5
        return round(LEFT + 10 + share * (WIDTH - LEFT - 20), 1)

    def y_of(value: float) -> float:
        share = (value - low) / (high - low)
        return round(BOTTOM - share * (BOTTOM - TOP), 1)

    finite = [
        [(epoch, value) for epoch, value in zip(curve.epochs, curve.values, strict=True) if math.isfinite(value)]
        for curve in curves
    ]
    step = (WIDTH - LEFT - 20) / max(len(epochs) - 1, 1)
    return {
        "width": WIDTH, "height": HEIGHT, "left": LEFT, "top": TOP, "bottom": BOTTOM,
        "caption": caption,
        "label": f"{caption}: {', '.join(curve.name for curve in curves)}, after each epoch",
        "ticks": [{"y": y_of(value), "text": f"{value:,.{decimals(high - low)}f}"} for value in ticks(low, high)],
        "epochs": [{"x": x_of(epoch), "text": epoch} for epoch in spread(epochs)],
        "curves": [
            {"name": curve.name, "points": " ".join(f"{x_of(epoch)},{y_of(value)}" for epoch, value in points)}
            for curve, points in zip(curves, finite, strict=True)
        ],
        "spots": [
            {
                "x": x_of(epoch), "left": round(x_of(epoch) - step / 2, 1), "width": round(step, 1),
                "text": f"epoch {epoch}: {values_at(epoch, curves)}",
            }
            for epoch in epochs
        ],
    }  # fmt: skip


def values_at(epoch: int, curves: Sequence[Curve]) -> str:
    there = {curve.name: dict(zip(curve.epochs, curve.values, strict=True)) for curve in curves}
    known = {name: values[epoch] for name, values in there.items() if math.isfinite(values.get(epoch, math.nan))}
    return ", ".join(f"{name} {value:.2f}" for name, value in known.items())


def frame(curves: Sequence[Curve]) -> tuple[float, float]:
    """The range of the axis; that of a long run leaves out its beginning."""
    values: list[float] = []
    for curve in curves:
        start = len(curve.values) // 2 if len(curve.values) >= LONG_RUN else 0
        values += [value for value in curve.values[start:] if math.isfinite(value)]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    margin = 0.1 * (high - low) or max(abs(high) * 0.01, 0.01)
    return low - margin, high + margin


def decimals(span: float) -> int:
    return max(0, 2 - math.floor(math.log10(span)) - 1) if span < 50 else 0


def ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers within the range."""
    size = 10.0 ** math.floor(math.log10((high - low) / 3))
    step = next(step for step in (size, 2 * size, 5 * size, 10 * size) if (high - low) / step <= 7)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def spread(epochs: Sequence[int]) -> list[int]:
    """At most six of the epochs, the first and the last among them."""
    num = min(len(epochs), 6)
    return sorted({epochs[round(i * (len(epochs) - 1) / max(num - 1, 1))] for i in range(num)})


def history_curves(history: Sequence[Mapping[str, float]], term: str, splits: Sequence[str]) -> list[Curve]:
    """The curves of a term, such as "elbo", from the rows of history.csv; the error in percent."""
    scale = 100 if term == "error" else 1
    return [
        Curve(split, [row["epoch"] for row in rows], [scale * row[f"{split}_{term}"] for row in rows])
        for split in splits
        if (rows := [row for row in history if f"{split}_{term}" in row])
    ]
