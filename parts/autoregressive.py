"""An autoregressive p(x|z) over a small window, behind the likelihood interface (Chen et al. 2016, section 3.1)."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from parts.likelihoods import Likelihood
from parts.networks import PixelLayers

SAMPLE_BATCH = 100  # images that one compiled loop fills


class Autoregressive(Likelihood):
    """p(x|z) = prod_i p(x_i | features_i(z), window_i(x)), pixel by pixel in raster order.

    The window of a pixel is `window` pixels wide: the window // 2 rows above it, and the pixels to the left in its own
    row. A masked convolution of the raw image is added to the features, (batch, height, width, features). The layers
    after it see one pixel at a time. So the receptive field is exactly the window, and drawing a pixel is cheap.

    Args:
        pixel: the distribution of one pixel, a likelihood with `draw`.
        data_shape: (height, width, channels).
        window: odd, at least 3.
        pixel_dims: widths of the layers that see one pixel at a time. The feature map that the decoder makes of z has
            as many channels as the first of them.
    """

    has_mean = False

    def __init__(
        self,
        pixel: Likelihood,
        data_shape: Sequence[int],
        window: int,
        pixel_dims: Sequence[int],
        **kwargs,
    ):
        super().__init__(**kwargs)
        height, width, channels = data_shape
        self.pixel = pixel
        self.pixels = pixel.pixels
        self.data_shape = tuple(data_shape)
        self.reach = window // 2
        self.mask = causal_mask(window)[:, :, None, None]
        self.kernel = self.add_weight(shape=(self.reach + 1, window, channels, pixel_dims[0]), name="window_kernel")
        self.pixel_layers = PixelLayers(pixel_dims, channels * pixel.params_per_channel)
        self.offset = self.add_weight(
            shape=(height, width, channels * pixel.params_per_channel), initializer="zeros", name="offset"
        )
        self.fill = tf.function(self.fill_in_order, jit_compile=True)

    def params(self, x: tf.Tensor, features: tf.Tensor) -> tf.Tensor:
        """The parameters of every p(x_i | ...), (batch, height, width, channels * params_per_channel), in one pass."""
        padded = tf.pad(x - 0.5, [[0, 0], [self.reach, 0], [self.reach, self.reach], [0, 0]])
        seen = tf.nn.conv2d(padded, self.kernel * self.mask, strides=1, padding="VALID")
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
        height, width, channels = self.data_shape
        size = self.reach + 1, 2 * self.reach + 1, num, channels
        kernel = tf.reshape(self.kernel * self.mask, (-1, self.kernel.shape[-1]))
        # Positions first, so that a step reads and writes at one place.
        features, uniform = (
            tf.reshape(tf.transpose(tensor, (1, 2, 0, 3)), (height * width, num, -1)) for tensor in (features, uniform)
        )
        offset = tf.reshape(self.offset, (height * width, -1))
        canvas = tf.fill((height + self.reach, width + 2 * self.reach, num, channels), 0.5)  # like the padding

        def draw(i, canvas):
            row, column = i // width, i % width
            seen = tf.transpose(tf.slice(canvas, (row, column, 0, 0), size), (2, 0, 1, 3))
            h = tf.reshape(seen - 0.5, (num, -1)) @ kernel + features[i]
            x = self.pixel.draw(self.pixel_layers(h) + offset[i], uniform[i])
            place = [[row + self.reach, column + self.reach]]
            return i + 1, tf.tensor_scatter_nd_update(canvas, place, x[None])

        _, canvas = tf.while_loop(lambda i, _: i < height * width, draw, (0, canvas))
        return tf.transpose(canvas[self.reach :, self.reach : self.reach + width], (2, 0, 1, 3))


def causal_mask(window: int) -> np.ndarray:
    """(window // 2 + 1, window): 1 for the rows above, and in the last row for the places left of the middle."""
    mask = np.ones((window // 2 + 1, window), np.float32)
    mask[-1, window // 2 :] = 0.0
    return mask
