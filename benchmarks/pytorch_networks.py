"""Our networks in PyTorch, for compare_training.py: trains on MNIST for one round whenever a line comes in.

python benchmarks/pytorch_networks.py DATA_DIR NETWORK VARIANT STEPS

stock: the loss of pytorch/examples, sigmoid and then cross-entropy, read back after every step. fair: the loss from
logits, not read back. fused: the same with PyTorch's fused Adam. compiled: that under torch.compile.
"""

import pathlib
import resource
import sys
import time

import torch
from pytorch_vae import read_images
from torch import nn
from torch.nn import functional as F

BATCH = 128


def dense(widths, last, activation):
    layers = []
    for width, following in zip(widths, [*widths[1:], last], strict=True):
        layers += [nn.Linear(width, following), activation()]
    return layers[:-1]


class VAE(nn.Module):
    def __init__(self, encoder, decoder, latent_size):
        super().__init__()
        self.encoder, self.decoder, self.latent_size = encoder, decoder, latent_size

    def forward(self, x):
        mean, logvar = self.encoder(x).split(self.latent_size, dim=1)
        z = mean + torch.exp(0.5 * logvar) * torch.randn_like(logvar)
        return self.decoder(z), mean, logvar


def build(network):
    if network == "conv":  # 32-64, as networks.py has it: strided convolutions, pixel shuffle on the way back
        encoder = [nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 32, 3, 2, 1), nn.GELU(), nn.Conv2d(32, 64, 3, 2, 1)]
        encoder += [nn.GELU(), nn.Flatten(), *dense([64 * 49, 256], 30, nn.GELU)]
        decoder = [nn.Linear(15, 64 * 49), nn.GELU(), nn.Unflatten(1, (64, 7, 7)), nn.Conv2d(64, 128, 3, padding=1)]
        decoder += [nn.GELU(), nn.PixelShuffle(2), nn.Conv2d(32, 4, 3, padding=1), nn.PixelShuffle(2), nn.Flatten()]
        return VAE(nn.Sequential(*encoder), nn.Sequential(*decoder), 15)
    widths, latent_size, activation = {"dense": ([400], 20, nn.ReLU), "default": ([400, 400], 15, nn.GELU)}[network]
    encoder = dense([784, *widths], 2 * latent_size, activation)
    decoder = dense([latent_size, *widths], 784, activation)
    return VAE(nn.Sequential(*encoder), nn.Sequential(*decoder), latent_size)


def main():
    folder, network, variant, num_steps = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    torch.set_num_threads(2)
    torch.manual_seed(1)
    images = read_images(folder / "train-images-idx3-ubyte.gz", 60_000)
    model = build(network)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=variant in ("fused", "compiled"))

    def loss_of(x):
        logits, mean, logvar = model(x)
        if variant == "stock":
            distortion = F.binary_cross_entropy(torch.sigmoid(logits), x, reduction="sum")
        else:
            distortion = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        return distortion - 0.5 * torch.sum(1 + logvar - mean.pow(2) - logvar.exp())

    compiled = torch.compile(loss_of) if variant == "compiled" else loss_of
    for _ in sys.stdin:
        started, total = time.perf_counter(), torch.zeros(())
        for rows in torch.randperm(len(images)).split(BATCH)[:num_steps]:
            optimizer.zero_grad()
            loss = compiled(images[rows])
            loss.backward()
            optimizer.step()
            total += loss.item() if variant == "stock" else loss.detach()
        rate = num_steps * BATCH / (time.perf_counter() - started)
        print(rate, float(total), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)


if __name__ == "__main__":
    main()
