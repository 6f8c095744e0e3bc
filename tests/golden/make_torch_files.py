"""Makes the small files in `torch_files/`: run it from this repository's root where PyTorch is installed."""

import argparse
import collections
import pathlib

import numpy as np
import torch

FOLDER = pathlib.Path(__file__).with_name("torch_files")


def main() -> None:
    numbers = torch.arange(24, dtype=torch.float32)
    tensors = collections.OrderedDict(
        plain=numbers.reshape(2, 3, 4),
        transposed=numbers.reshape(4, 6).T,
        part=numbers[5:11],
        last_channels=numbers.reshape(2, 3, 2, 2).to(memory_format=torch.channels_last),
        parameter=torch.nn.Parameter(numbers[:4] / 8),
        half=(numbers[:6] / 4).half(),
        bfloat16=(numbers[:6] / 4).bfloat16(),
        double=numbers[:3].double() / 3,
        counter=torch.tensor(7),
        bytes=numbers[:3].byte(),
        empty=torch.zeros(0, 3),
    )
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.BatchNorm2d(2))
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    module(torch.ones(1, 3, 5, 5)).sum().backward()
    optimizer.step()
    training = {
        "epoch": 3,
        "state_dict": collections.OrderedDict((f"module.{name}", value) for name, value in tensors.items()),
        "optimizer": optimizer.state_dict(),
        "best_pred": np.float64(0.5),
        "args": argparse.Namespace(lr=0.1, names=["a", "b"]),
    }
    torch.save(tensors, FOLDER / "zip.pth")
    torch.save(tensors, FOLDER / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(training, FOLDER / "training.pth")
    torch.save(training, FOLDER / "legacy_training.pth.tar", _use_new_zipfile_serialization=False)
    torch.save(module, FOLDER / "whole_model.pth")


if __name__ == "__main__":
    main()
