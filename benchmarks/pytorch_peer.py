"""The PyTorch side of `train_step.py` and `accelerator.py`: the same model, one step per line of its input.

    PYTHON benchmarks/pytorch_peer.py HEAD CROP BATCH PRECISION train|forward

It needs only PyTorch (`scripts/make_peer_env.sh pytorch`), runs on the GPU if there is one, and imports nothing of
this project.
MobileNetV2 at output stride 16 with either head, channels last, fused batch norm, aligned upsampling, cross-entropy,
weight decay on the kernels and SGD with momentum over all variables at once (`foreach`), as a PyTorch user writes it.
The first line of its output is a JSON object with version, device and number of parameters, by which the
models are compared. It then prints a JSON object for each line of its input: the loss (or the mean of the logits), and
the peak memory of the device in bytes, 0 if unknown. It exits when the input ends.
"""

from __future__ import annotations

import json
import sys

import torch
from torch import nn
from torch.nn import functional

CLASSES = 21
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
LOW_LEVEL = 3  # block whose depthwise output the decoder takes: stride 4


def unit(inputs: int, filters: int, kernel: int, activation: str, *, stride=1, rate=1, groups=1) -> nn.Sequential:
    """Convolution, batch norm, activation."""
    padding = rate * (kernel - 1) // 2
    layers = [
        nn.Conv2d(inputs, filters, kernel, stride, padding, rate, groups, bias=False),
        nn.BatchNorm2d(filters, eps=1e-3),
    ]
    kinds = {"relu": nn.ReLU, "relu6": nn.ReLU6}
    return nn.Sequential(*layers, *([kinds[activation](inplace=True)] if activation else []))


def separable(inputs: int, filters: int, rate: int = 1) -> nn.Sequential:
    """Depthwise 3x3, then 1x1."""
    return nn.Sequential(unit(inputs, inputs, 3, "relu", rate=rate, groups=inputs), unit(inputs, filters, 1, "relu"))


class InvertedResidual(nn.Module):
    """A block of MobileNetV2; its first part ends with the depthwise convolution."""

    def __init__(self, inputs: int, expansion: int, filters: int, stride: int, rate: int):
        super().__init__()
        width = inputs * expansion
        expand = [unit(inputs, width, 1, "relu6")] if expansion > 1 else []
        self.first = nn.Sequential(*expand, unit(width, width, 3, "relu6", stride=stride, rate=rate, groups=width))
        self.project = unit(width, filters, 1, "")
        self.adds = stride == 1 and inputs == filters

    def forward(self, x):
        inner = self.first(x)
        outputs = self.project(inner)
        return (x + outputs if self.adds else outputs), inner


class DeepLab(nn.Module):
    """DeepLab on MobileNetV2: image pooling and a 1x1 branch, or ASPP and decoder."""

    def __init__(self, full: bool):
        super().__init__()
        self.full = full
        self.stem = unit(3, 32, 3, "relu6", stride=2)
        blocks, channels, stride, rate = [], 32, 2, 1
        for expansion, filters, count, first in STAGES:
            for number in range(count):
                wanted = first if number == 0 else 1
                used, own_rate = (1, rate) if stride == 16 else (wanted, 1)
                rate, stride = (rate * wanted, stride) if stride == 16 else (rate, stride * wanted)
                blocks.append(InvertedResidual(channels, expansion, filters, used, own_rate))
                channels = filters
        self.blocks = nn.ModuleList(blocks)
        self.pool, self.one = unit(320, 256, 1, "relu"), unit(320, 256, 1, "relu")
        self.atrous = nn.ModuleList(separable(320, 256, rate) for rate in ((6, 12, 18) if full else ()))
        self.join, self.drop = unit(256 * (5 if full else 2), 256, 1, "relu"), nn.Dropout(0.1)
        if full:
            self.low = unit(144, 48, 1, "relu")
            self.refine = nn.Sequential(separable(304, 256), separable(256, 256))
        self.classify = nn.Conv2d(256, CLASSES, 1)

    def forward(self, image):
        size = image.shape[2:]
        net, low = self.stem(image * (2.0 / 255.0) - 1.0), None
        for number, block in enumerate(self.blocks):
            net, inner = block(net)
            low = inner if number == LOW_LEVEL - 1 else low
        pooled = self.pool(net.mean((2, 3), keepdim=True))
        branches = [resize(pooled, net.shape[2:]), self.one(net), *(branch(net) for branch in self.atrous)]
        net = self.drop(self.join(torch.cat(branches, 1)))
        if self.full:
            low = self.low(low)
            net = self.refine(torch.cat([resize(net, low.shape[2:]), low], 1))
        logits = self.classify(net).float()
        return logits, resize(logits, size) if self.training else None


def resize(maps, size):
    """Aligned bilinear resize."""
    return functional.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=True)


def main() -> None:
    head, crop, batch, precision, mode = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:6]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(1)
    model = DeepLab(head == "full").to(device, memory_format=torch.channels_last).train(mode == "train")
    kernels = [weight for weight in model.parameters() if weight.ndim == 4]
    others = [weight for weight in model.parameters() if weight.ndim != 4]
    groups = [{"params": kernels, "weight_decay": 4e-5}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.001, momentum=0.9, foreach=True)
    image = (torch.rand(batch, 3, crop, crop) * 255.0).to(device, memory_format=torch.channels_last)
    label = torch.randint(0, CLASSES, (batch, crop, crop), device=device)
    count = sum(weight.numel() for weight in model.parameters())
    name = torch.cuda.get_device_name() if device == "cuda" else device
    print(json.dumps({"version": torch.__version__, "device": name, "parameters": count}), flush=True)

    def train() -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "mixed_bfloat16"):
            loss = functional.cross_entropy(model(image)[1], label)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss

    @torch.inference_mode()
    def forward() -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "mixed_bfloat16"):
            return model(image)[0].mean()

    for _ in sys.stdin:
        result = train() if mode == "train" else forward()
        memory = torch.cuda.max_memory_allocated() if device == "cuda" else 0
        print(json.dumps({"result": result.item(), "memory": memory}), flush=True)


if __name__ == "__main__":
    main()
