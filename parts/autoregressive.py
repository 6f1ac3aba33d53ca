"""An autoregressive p(x|z) over a small window, behind the likelihood interface (Chen et al. 2016, section 3.1)."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from parts.likelihoods import Likelihood
from parts.networks import MaskedConv2D, PixelLayers, conv_of_rows_above

SAMPLE_BATCH, FEW = 100, 20  # images that one compiled loop fills, and the loop for fewer than those


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
        self.fill = tf.function(self.fill_in_order, jit_compile=True, autograph=False)

    def params(self, x: tf.Tensor, features: tf.Tensor) -> tf.Tensor:
        """The parameters of every p(x_i | ...), (batch, height, width, channels * params_per_channel), in one pass."""
        seen = conv_of_rows_above(x - 0.5, self.kernel * self.mask)
        return self.pixel_layers(seen + features) + self.offset

    def log_probs(self, x, params):
        return self.pixel.log_probs(x, self.params(x, params))

    def params_of_mean(self, mean):
        return self.pixel.params_of_mean(mean)

    def sample(self, params, seed):
        nothing = tf.zeros((params.shape[0], *self.data_shape))
        return self.fill_in(nothing, tf.zeros_like(nothing, tf.bool), params, seed)

    def fill_in(self, x, known, params, seed):
        num = x.shape[0]
        uniform = tf.random.stateless_uniform((num, *self.data_shape), seed, minval=1e-7)
        blocks, size = [], SAMPLE_BATCH if num >= SAMPLE_BATCH else FEW
        for start in range(0, num, size):
            block = [tensor[start : start + size] for tensor in (x, known, params, uniform)]
            missing = size - block[0].shape[0]  # few shapes, few compilations
            blocks.append(self.fill(*(tf.pad(tensor, [[0, missing], [0, 0], [0, 0], [0, 0]]) for tensor in block)))
        return tf.concat(blocks, axis=0)[:num]

    def fill_in_order(self, x: tf.Tensor, known: tf.Tensor, features: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
        """Draw what is not known of x pixel by pixel; each step computes one pixel of every image."""
        num = x.shape[0]
        height, width, channels = self.data_shape
        kernel = self.kernel * self.mask
        # Positions first, so that a step reads and writes at one place.
        x, known, features, uniform = (
            tf.reshape(tf.transpose(tensor, (1, 2, 0, 3)), (height * width, num, -1))
            for tensor in (x, known, features, uniform)
        )
        offset = tf.reshape(self.offset, (height * width, -1))
        masked = [layer for layer in self.pixel_layers.hidden if isinstance(layer, MaskedConv2D)]
        image = padded_map(height, width, num, channels, self.reach, fill=0.5)  # like the padding of `params`
        inputs = [padded_map(height, width, num, layer.kernel.shape[2], 1) for layer in masked]  # of these layers

        def draw(i, image, *inputs):
            row, column, inputs = i // width, i % width, list(inputs)

            def apply(layer, h):
                if layer not in masked:
                    return layer(h)
                place = masked.index(layer)
                inputs[place] = with_pixel(inputs[place], row, column, 1, h)
                return layer.of_pixel(around_pixel(inputs[place], row, column, 1))

            h = tf.tensordot(around_pixel(image, row, column, self.reach) - 0.5, kernel, 3) + features[i]
            drawn = self.pixel.draw(self.pixel_layers(h, apply=apply) + offset[i], uniform[i])
            image = with_pixel(image, row, column, self.reach, tf.where(known[i], x[i], drawn))
            return i + 1, image, *inputs

        _, image, *_ = tf.while_loop(lambda i, *_: i < height * width, draw, (0, image, *inputs))
        return tf.transpose(image[self.reach :, self.reach : self.reach + width], (2, 0, 1, 3))


def padded_map(height: int, width: int, num: int, channels: int, reach: int, fill: float = 0.0) -> tf.Tensor:
    """An empty map of `num` images, to be filled pixel by pixel, with `reach` pixels of padding above, left and right:
    (height + reach, width + 2 reach, num, channels)."""
    return tf.fill((height + reach, width + 2 * reach, num, channels), fill)


def with_pixel(content: tf.Tensor, row: tf.Tensor, column: tf.Tensor, reach: int, values: tf.Tensor) -> tf.Tensor:
    """A padded map with one pixel of each image filled in: (num, channels)."""
    return tf.tensor_scatter_nd_update(content, [[row + reach, column + reach]], values[None])


def around_pixel(content: tf.Tensor, row: tf.Tensor, column: tf.Tensor, reach: int) -> tf.Tensor:
    """The rows above a pixel and its own, `reach` pixels to both sides: (num, rows, columns, channels)."""
    size = reach + 1, 2 * reach + 1, *content.shape[2:]
    return tf.transpose(tf.slice(content, (row, column, 0, 0), size), (2, 0, 1, 3))


def causal_mask(window: int) -> np.ndarray:
    """(window // 2 + 1, window): 1 for the rows above, and in the last row for the places left of the middle."""
    mask = np.ones((window // 2 + 1, window), np.float32)
    mask[-1, window // 2 :] = 0.0
    return mask
