"""An autoregressive p(x|z) over a small window, behind the likelihood interface (Chen et al. 2016, section 3.1)."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from parts.likelihoods import Likelihood
from parts.networks import MaskedConv2D, PixelLayers, conv_of_rows_above

SAMPLE_BATCH = 100  # images that one compiled loop fills


class Autoregressive(Likelihood):
    """p(x|z) = prod_i p(x_i | features_i(z), window_i(x)), pixel by pixel in raster order.

    The window of a pixel is `window` pixels wide: the window // 2 rows above it, and the pixels to the left in its own
    row. A masked convolution of the raw image is added to the features, (batch, height, width, features). Most layers
    after it see one pixel at a time. Each masked 3x3 convolution among them widens what a pixel sees by one on each
    side, so the first convolution is narrower by that. In all a pixel sees its window, less a few of the last columns
    in the rows just above it, and drawing it is cheap.

    Args:
        pixel: the distribution of one pixel, a likelihood with `draw`.
        data_shape: (height, width, channels).
        window: odd, at least 3.
        pixel_dims: widths of the layers after the first convolution. The feature map that the decoder makes of z has as
            many channels as the first of them.
        masked: whether every second of these layers is a masked 3x3 convolution, as far as the window allows.
    """

    has_mean = False

    def __init__(
        self,
        pixel: Likelihood,
        data_shape: Sequence[int],
        window: int,
        pixel_dims: Sequence[int],
        *,
        masked: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        height, width, channels = data_shape
        self.pixel = pixel
        self.pixels = pixel.pixels
        self.data_shape = tuple(data_shape)
        num_masked = min(len(pixel_dims) // 2, window // 2 - 1) if masked else 0
        self.reach = window // 2 - num_masked  # of the first convolution
        self.mask = causal_mask(2 * self.reach + 1)[:, :, None, None]
        self.kernel = self.add_weight(shape=(*self.mask.shape[:2], channels, pixel_dims[0]), name="window_kernel")
        self.pixel_layers = PixelLayers(pixel_dims, channels * pixel.params_per_channel, num_masked)
        self.offset = self.add_weight(
            shape=(height, width, channels * pixel.params_per_channel), initializer="zeros", name="offset"
        )
        self.fill = tf.function(self.fill_in_order, jit_compile=True)

    def params(self, x: tf.Tensor, features: tf.Tensor) -> tf.Tensor:
        """The parameters of every p(x_i | ...), (batch, height, width, channels * params_per_channel), in one pass."""
        seen = conv_of_rows_above(x - 0.5, self.kernel * self.mask)
        return self.pixel_layers(seen + features) + self.offset

    def log_prob(self, x, params):
        return self.pixel.log_prob(x, self.params(x, params))

    def params_of_mean(self, mean):
        return self.pixel.params_of_mean(mean)

    def sample(self, params, seed):
        num = params.shape[0]
        uniform = tf.random.stateless_uniform((num, *self.data_shape), seed, minval=1e-7)
        blocks = []
        for start in range(0, num, SAMPLE_BATCH):
            block = [tensor[start : start + SAMPLE_BATCH] for tensor in (params, uniform)]
            missing = SAMPLE_BATCH - block[0].shape[0]  # one shape, one compilation
            blocks.append(self.fill(*(tf.pad(tensor, [[0, missing], [0, 0], [0, 0], [0, 0]]) for tensor in block)))
        return tf.concat(blocks, axis=0)[:num]

    def fill_in_order(self, features: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
        """Draw images pixel by pixel; each step computes one pixel only."""
        num = features.shape[0]
        height, width, _ = self.data_shape
        kernel = self.kernel * self.mask
        # Positions first, so that a step reads and writes at one place.
        features, uniform = (
            tf.reshape(tf.transpose(tensor, (1, 2, 0, 3)), (height * width, num, -1)) for tensor in (features, uniform)
        )
        offset = tf.reshape(self.offset, (height * width, -1))
        image = Canvas(self.data_shape, num, self.reach, fill=0.5)  # like the padding
        # What each masked convolution reads of the map before it.
        maps = {
            layer: Canvas((height, width, layer.kernel.shape[2]), num, 1)
            for layer in self.pixel_layers.hidden
            if isinstance(layer, MaskedConv2D)
        }
        canvases = [image, *maps.values()]

        def draw(i, *contents):
            row, column = i // width, i % width
            for canvas, content in zip(canvases, contents, strict=True):
                canvas.content = content

            def apply(layer, h):
                if layer not in maps:
                    return layer(h)
                maps[layer].write(row, column, h)
                return layer.of_pixel(maps[layer].around(row, column))

            h = tf.tensordot(image.around(row, column) - 0.5, kernel, 3) + features[i]
            x = self.pixel.draw(self.pixel_layers(h, apply=apply) + offset[i], uniform[i])
            image.write(row, column, x)
            return i + 1, *(canvas.content for canvas in canvases)

        start = 0, *(canvas.content for canvas in canvases)
        _, drawn, *_ = tf.while_loop(lambda i, *_: i < height * width, draw, start)
        return tf.transpose(drawn[self.reach :, self.reach : self.reach + width], (2, 0, 1, 3))


class Canvas:
    """Maps that are filled pixel by pixel, with `reach` padded pixels above, left and right.

    Args:
        shape: (height, width, channels) of a map.
        num: number of maps.
    """

    def __init__(self, shape: Sequence[int], num: int, reach: int, fill: float = 0.0):
        height, width, channels = shape
        self.reach = reach
        self.size = reach + 1, 2 * reach + 1, num, channels
        self.content = tf.fill((height + reach, width + 2 * reach, num, channels), fill)

    def around(self, row: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
        """The rows above a pixel and its own, `reach` pixels to both sides: (num, rows, columns, channels)."""
        return tf.transpose(tf.slice(self.content, (row, column, 0, 0), self.size), (2, 0, 1, 3))

    def write(self, row: tf.Tensor, column: tf.Tensor, values: tf.Tensor) -> None:
        """Fill in one pixel of each map: (num, channels)."""
        place = [[row + self.reach, column + self.reach]]
        self.content = tf.tensor_scatter_nd_update(self.content, place, values[None])


def causal_mask(window: int) -> np.ndarray:
    """(window // 2 + 1, window): 1 for the rows above, and in the last row for the places left of the middle."""
    mask = np.ones((window // 2 + 1, window), np.float32)
    mask[-1, window // 2 :] = 0.0
    return mask
