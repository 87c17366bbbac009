"""The networks, built so that every step of a forward pass is a named leaf module that can be timed."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from lib.errors import unknown

IMAGE_SHAPE = (3, 32, 32)


class Add(nn.Module):
    """Element-wise sum, as a module so that the residual addition appears in the layer table."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return left + right


def _conv_bn(in_channels: int, out_channels: int, stride: int = 1) -> OrderedDict[str, nn.Module]:
    return OrderedDict(
        conv=nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
        bn=nn.BatchNorm2d(out_channels),
        relu=nn.ReLU(inplace=True),
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm around an identity shortcut (He et al. 2015, arXiv 1512.03385)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.add = Add()
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.relu1(self.bn1(self.conv1(images)))
        output: Tensor = self.relu2(self.add(images, self.bn2(self.conv2(hidden))))
        return output


def _signnet(num_classes: int, stem: int, stages: tuple[int, int, int], num_blocks: tuple[int, int, int]) -> nn.Module:
    """Residual net for signs: a stem at full resolution, then three stages, each at half the resolution before it.

    It has no blocks at full resolution: with few channels they compute little and move much, and batch norm there takes
    longer than the convolution.

    Args:
        stem: channels of the stem.
        stages: channels of each stage.
        num_blocks: residual blocks of each stage.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["stem"] = nn.Sequential(_conv_bn(3, stem))
    for number, (before, channels, count) in enumerate(zip((stem, *stages), stages, num_blocks, strict=False), 1):
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        blocks["down"] = nn.Sequential(_conv_bn(before, channels, stride=2))
        for block in range(1, count + 1):
            blocks[f"block{block}"] = ResidualBlock(channels)
        layers[f"stage{number}"] = nn.Sequential(blocks)
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["head"] = nn.Linear(stages[-1], num_classes)
    return nn.Sequential(layers)


def _learning_path(num_classes: int) -> nn.Module:
    """The 319,979-weight net of Arm's learning path *MLOps with Arm-hosted GitHub Runners*, layer for layer."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 32, 3),
            relu1=nn.ReLU(inplace=True),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(32, 64, 3),
            relu2=nn.ReLU(inplace=True),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(2304, 128),
            relu3=nn.ReLU(inplace=True),
            fc2=nn.Linear(128, num_classes),
        )
    )


_BUILDERS: dict[str, Callable[[int], nn.Module]] = {
    "signnet": partial(_signnet, stem=32, stages=(64, 128, 256), num_blocks=(2, 2, 1)),
    "signnet_medium": partial(_signnet, stem=20, stages=(40, 80, 160), num_blocks=(2, 2, 1)),
    "signnet_small": partial(_signnet, stem=16, stages=(32, 64, 128), num_blocks=(2, 2, 1)),
    "signnet_light": partial(_signnet, stem=16, stages=(32, 64, 128), num_blocks=(1, 1, 1)),
    "signnet_tiny": partial(_signnet, stem=8, stages=(16, 28, 44), num_blocks=(2, 1, 1)),
    "learning_path": _learning_path,
}
ARCHITECTURES = tuple(_BUILDERS)
TORCHVISION = "torchvision/"  # prefix of architectures that are classifiers of torchvision


def torchvision_names() -> list[str]:
    """Classifiers that torchvision builds by name."""
    from torchvision import models  # takes a second to import, and most runs need none of it

    return [str(name) for name in models.list_models(module=models)]


def check_architecture(architecture: str) -> None:
    """Refuse what `build_network` cannot build.

    Raises:
        UserError: unknown architecture.
    """
    if architecture.startswith(TORCHVISION):
        name = architecture.removeprefix(TORCHVISION)
        if name not in torchvision_names():
            raise unknown("torchvision classifier", name, torchvision_names())
    elif architecture not in _BUILDERS:
        raise unknown("architecture", architecture, ARCHITECTURES)


def build_network(architecture: str, num_classes: int) -> nn.Module:
    """A network with fresh random weights, normalized RGB images in, one logit per class out.

    Args:
        architecture: one of ours, which read 32x32 pixels, or `torchvision/NAME`.

    Raises:
        UserError: unknown architecture.
    """
    check_architecture(architecture)
    if architecture.startswith(TORCHVISION):
        from torchvision import models

        network: nn.Module = models.get_model(
            architecture.removeprefix(TORCHVISION), weights=None, num_classes=num_classes
        )
        return network
    return _BUILDERS[architecture](num_classes)


@dataclass(frozen=True)
class LayerInfo:
    """One call of one leaf module of a network, for one image."""

    name: str  # of the module; its later calls in one pass are named `relu#2`, `relu#3`
    kind: str
    num_macs: int  # multiply-accumulates; 0 for layers that only move or compare
    num_inputs: int  # elements of all inputs
    num_weights: int
    output_shape: tuple[int, ...]  # without the batch dimension


def _num_macs(module: nn.Module, output: Tensor) -> int:
    if isinstance(module, nn.Conv2d):
        per_output = module.in_channels // module.groups * math.prod(module.kernel_size)
        return output[0].numel() * per_output
    if isinstance(module, nn.Linear):
        return module.in_features * module.out_features
    return 0


def call_name(module: str, call: int) -> str:
    """Name of the layer that is the n-th call of a module in one forward pass: ResNets use one ReLU several times."""
    return module if call == 1 else f"{module}#{call}"


def leaf_layers(model: nn.Module, image_shape: tuple[int, int, int] = IMAGE_SHAPE) -> list[LayerInfo]:
    """The leaf modules in the order in which one forward pass runs them."""
    layers: list[LayerInfo] = []
    calls: Counter[str] = Counter()

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            calls[name] += 1
            layers.append(
                LayerInfo(
                    name=call_name(name, calls[name]),
                    kind=type(module).__name__,
                    num_macs=_num_macs(module, output),
                    num_inputs=sum(tensor[0].numel() for tensor in inputs if isinstance(tensor, Tensor)),
                    num_weights=sum(weight.numel() for weight in module.parameters()),
                    output_shape=tuple(output.shape[1:]),
                )
            )

        return hook

    handles = [
        module.register_forward_hook(note(name))
        for name, module in model.named_modules()
        if not any(True for _ in module.children())
    ]
    was_training = model.training
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, *image_shape))
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return layers


def num_weights(model: nn.Module) -> int:
    """Number of trained weights."""
    return sum(weight.numel() for weight in model.parameters())
