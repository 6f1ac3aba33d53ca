import numpy as np

import vae

SHAPE = (6, 5, 1)
# Every part that images can be coded with, small; and how labels, window and prior meet.
KINDS = {
    "vae": ("vae", {}),
    "vae levels": ("vae", {"likelihood": "logistic", "prior": "mixture", "activation": "elu"}),
    "vae colour": ("vae", {"data_shape": (6, 5, 3), "likelihood": "logistic", "network": "conv", "prior": "gaussian"}),
    "cvae": ("cvae", {"num_classes": 3, "prior": "mixture", "activation": "leaky_relu"}),
    "cvae resnet": ("cvae", {"num_classes": 3, "network": "resnet", "activation": "relu"}),
    "vlae": ("vlae", {"num_classes": 3, "prior": "mixture", "window": 7, "pixel_dims": (6, 6, 6, 5)}),
    "vlae levels": ("vlae", {"num_classes": 3, "prior": "gaussian", "window": 3, "pixel_dims": (6, 6),
                             "likelihood": "logistic", "network": "resnet"}),
    "vlae colour": ("vlae", {"data_shape": (6, 5, 3), "num_classes": 0, "prior": "mixture", "window": 5,
                             "pixel_dims": (6, 6, 6), "likelihood": "logistic", "network": "conv"}),
    "vlae without window": ("vlae", {"num_classes": 3, "prior": "gaussian", "window": 0, "pixel_dims": (6, 6)}),
}  # fmt: skip
P_Y = (0.2, 0.5, 0.3)


def build(kind: str):
    """A model with weights that leave no part out."""
    name, arguments = KINDS[kind]
    dims = (4, 6) if arguments.get("network", "mlp") != "mlp" else (12, 8)
    model = vae.build_model(name, **{"data_shape": SHAPE, "latent_size": 3, "hidden_dims": dims, **arguments})
    rng = np.random.default_rng(1)
    for variable in model.trainable_variables:
        fan_in = np.prod(variable.shape[:-1]) if len(variable.shape) > 1 else 4
        variable.assign(rng.normal(size=variable.shape) / np.sqrt(fan_in))
    return model


def class_probs(model):
    return P_Y if model.is_conditional else None


def images(model, num: int, seed: int = 0):
    """Images as levels, smooth enough not to be noise, and classes or None."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (num, *model.arguments["data_shape"]), dtype=np.uint8)
    if model.likelihood.pixels == "binary":
        x = (x > 180).astype(np.uint8)
    return x, rng.integers(0, 3, num) if model.is_conditional else None
