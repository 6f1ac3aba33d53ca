"""The VAE of pytorch/examples (784-400-20-400-784, ReLU, Adam 1e-3, batch 128), its data as tensors in memory.

python benchmarks/pytorch_vae.py DATA_DIR EPOCHS: reads the four gzipped IDX files of MNIST from DATA_DIR.
"""

import gzip
import pathlib
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(784, 400)
        self.fc21 = nn.Linear(400, 20)
        self.fc22 = nn.Linear(400, 20)
        self.fc3 = nn.Linear(20, 400)
        self.fc4 = nn.Linear(400, 784)

    def forward(self, x):
        h = F.relu(self.fc1(x))
        mean, logvar = self.fc21(h), self.fc22(h)
        z = mean + torch.exp(0.5 * logvar) * torch.randn_like(logvar)
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z)))), mean, logvar


def negative_elbo(reconstruction, x, mean, logvar):
    distortion = F.binary_cross_entropy(reconstruction, x, reduction="sum")
    return distortion - 0.5 * torch.sum(1 + logvar - mean.pow(2) - logvar.exp())


def read_images(path, num):
    content = gzip.decompress(path.read_bytes())
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=16).reshape(num, 784) / np.float32(255))


def main():
    folder, epochs = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    train = read_images(folder / "train-images-idx3-ubyte.gz", 60_000)
    test = read_images(folder / "t10k-images-idx3-ubyte.gz", 10_000)
    torch.manual_seed(1)
    model = VAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(1, epochs + 1):
        started, total = time.perf_counter(), 0.0
        for rows in torch.randperm(len(train)).split(128):
            x = train[rows]
            optimizer.zero_grad()
            loss = negative_elbo(*call(model, x))
            loss.backward()
            total += loss.item()
            optimizer.step()
        seconds = time.perf_counter() - started
        with torch.no_grad():
            test_loss = sum(negative_elbo(*call(model, x)).item() for x in test.split(128))
        print(f"epoch {epoch} | test elbo {-test_loss / len(test):.2f} | {seconds:.1f} s", flush=True)


def call(model, x):
    reconstruction, mean, logvar = model(x)
    return reconstruction, x, mean, logvar


if __name__ == "__main__":
    main()
