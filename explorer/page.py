"""explorer.html: one file in which a reader plays with a trained model. The model runs in the page itself."""

import base64
import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import numpy as np

HERE = pathlib.Path(__file__).parent
MOST_BYTES = 2_900_000  # of a page; kernels get 8 bits in place of 16 where it would be larger


@dataclasses.dataclass(frozen=True)
class Held:
    """Held-out examples to start from, and the codes of more.

    Args:
        x: images, uint8 (n, height, width, channels), or points, float32 (n, 2).
        labels: class numbers of the data, (n,), -1 where there are none.
        means: posterior means of more examples, (m, latent), and their class numbers.
        rates: of each latent in nats, (latent,); or None where rates do not belong to one latent each.
    """

    x: np.ndarray
    labels: np.ndarray
    means: np.ndarray
    mean_labels: np.ndarray
    rates: np.ndarray | None
    class_names: Sequence[str]


def page(
    model: Mapping[str, Any], held: Held, *, title: str, summary: str, is_binary: bool, can_draw: bool, std: float
) -> str:
    """The page as a text.

    Args:
        model: of `explorer.export.export_model`.
        is_binary: whether the model takes binary pixels.
        can_draw: whether the images are like drawings, white on black.
        std: of p(x|z) of points.
    """
    is_image = held.x.ndim == 4
    spread = held.means.std(axis=0)
    order = np.argsort(-(spread if held.rates is None else held.rates), kind="stable")
    low, high = np.percentile(held.means, [0.5, 99.5], axis=0)
    margin = 0.1 * (high - low) + 0.5
    spec = {
        **model,
        "binary": is_binary,
        "std": std,
        "order": order.tolist(),
        "ranges": np.round(np.stack([low - margin, high + margin], axis=1), 3).tolist(),
        "rates": None if held.rates is None else np.round(held.rates, 3).tolist(),
        "names": list(held.class_names),
        "examples": {
            "count": len(held.x),
            "x": text_of(held.x if is_image else held.x.astype("<f4")),
            "labels": held.labels.tolist(),
        },
        "codes": {"means": text_of(held.means.astype("<f2")), "labels": held.mean_labels.tolist()},
    }
    return template().render(
        title=title,
        summary=summary,
        is_image=is_image,
        can_draw=can_draw,
        what="an image" if is_image else "a point",
        example="image" if is_image else "point",
        spec=as_script(spec),
        style=source("style.css"),
        engine=source("engine.js"),
        page=source("page.js"),
    )


@functools.cache
def template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("page.html")


def source(name: str) -> jinja2.utils.markupsafe.Markup:
    return jinja2.utils.markupsafe.Markup((HERE / name).read_text(encoding="utf-8"))


def as_script(values: Mapping[str, Any]) -> jinja2.utils.markupsafe.Markup:
    """JSON that cannot end the script it stands in."""
    text = json.dumps(values, separators=(",", ":"))
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return jinja2.utils.markupsafe.Markup(text)


def text_of(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
