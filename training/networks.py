"""The three small networks of the zoo: two embeddings for verification, one classifier with a CAM head.

Place in the flow: built by ``loops.py``, written by ``export.py``; imports torch only. Input N×3×112×112, pixels
normalised as the card says; every network keeps a last map of at least 7×7, because class activation maps live there.

Sources of the shapes: residual blocks (He et al. 2016), depthwise bottlenecks with PReLU and a global depthwise
convolution (MobileFaceNet, Chen et al. 2018), global average pooling with a linear head (CAM, Zhou et al. 2016).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

SIZE = 112
MEAN = 0.5  # pixels become (x − MEAN) / STD, as the cards say
STD = 0.5
EMBEDDING = 128


class Unit(nn.Module):
    """Convolution, batch norm and an optional activation; :meth:`fold` merges the first two for export."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1, act: nn.Module | None = None
    ) -> None:
        super().__init__()
        # No padding where the kernel covers the whole map: that is the global depthwise convolution.
        padding = 0 if kernel >= 7 else kernel // 2
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs)
        self.act: nn.Module = act if act is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.norm(self.conv(x)))
        return out

    def fold(self) -> None:
        """Merge the batch norm into the convolution; the network must be in evaluation mode."""
        assert isinstance(self.norm, nn.BatchNorm2d)
        self.conv = fuse_conv_bn_eval(self.conv, self.norm)
        self.norm = nn.Identity()


class Residual(nn.Module):
    """Two 3×3 convolutions beside an identity, then a ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = Unit(width, width, act=nn.ReLU())
        self.second = Unit(width, width)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(x + self.second(self.first(x)))
        return out


class ChannelPReLU(nn.PReLU):
    """``nn.PReLU`` with one slope per channel; exported as an ordinary PRelu.

    In training it is written as two ReLUs, whose backward pass takes a third less time on a CPU than PReLU's own.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.training:
            return functional.relu(input) - self.weight[:, None, None] * functional.relu(-input)
        return functional.prelu(input, self.weight)


class Bottleneck(nn.Module):
    """Expand (1×1, PReLU), filter (depthwise 3×3, PReLU), project (1×1, linear); a shortcut where the shape allows it.

    With ``expansion=1`` there is no expanding convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, expansion: int = 2) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = Unit(inputs, hidden, 1, act=ChannelPReLU(hidden)) if expansion > 1 else nn.Identity()
        self.filter = Unit(hidden, hidden, 3, stride, groups=hidden, act=ChannelPReLU(hidden))
        self.project = Unit(hidden, outputs, 1)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(self.filter(self.expand(x)))
        return x + out if self.shortcut else out


class ResidualFace(nn.Module):
    """Verification, plain residual: 56 → 28 → 14 → 7, a learned weight per place, 128 numbers (not normalised)."""

    dimensions = EMBEDDING

    def __init__(self, widths: tuple[int, int, int, int] = (16, 24, 40, 56)) -> None:
        super().__init__()
        a, b, c, d = widths
        self.stem = Unit(3, a, stride=2, act=nn.ReLU())
        self.stage1 = nn.Sequential(Unit(a, b, stride=2, act=nn.ReLU()), Residual(b))
        self.stage2 = nn.Sequential(Unit(b, c, stride=2, act=nn.ReLU()), Residual(c))
        self.stage3 = nn.Sequential(Unit(c, d, stride=2, act=nn.ReLU()), Residual(d))
        # Aligned faces: where something is seen matters, so places are weighted rather than averaged.
        self.pool = Unit(d, d, 7, groups=d)
        self.head = Unit(d, EMBEDDING, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage3(self.stage2(self.stage1(self.stem(x))))
        return torch.flatten(self.head(self.pool(x)), 1)


class MobileFace(nn.Module):
    """Verification, depthwise with PReLU: bottlenecks down to 7×7, global depthwise convolution, 128 numbers."""

    dimensions = EMBEDDING

    def __init__(self, widths: tuple[int, int, int, int] = (16, 24, 40, 56)) -> None:
        super().__init__()
        a, b, c, d = widths
        self.stem = Unit(3, a, stride=2, act=ChannelPReLU(a))
        self.stage1 = Bottleneck(a, b, 2, expansion=1)
        self.stage2 = nn.Sequential(Bottleneck(b, c, 2), Bottleneck(c, c), Bottleneck(c, c))
        self.stage3 = nn.Sequential(Bottleneck(c, d, 2), Bottleneck(d, d))
        self.widen = Unit(d, 128, 1, act=ChannelPReLU(128))
        self.pool = Unit(128, 128, 7, groups=128)
        self.head = Unit(128, EMBEDDING, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.widen(self.stage3(self.stage2(self.stage1(self.stem(x)))))
        return torch.flatten(self.head(self.pool(x)), 1)


class CueNet(nn.Module):
    """Classifier: plain convolutions down to 14×14, global average, two logits.

    The head is linear on the average of the last map, so the class activation map of Zhou et al. (2016) is exact and
    can be part of a loss (``losses.cam_guidance``).
    """

    def __init__(self, widths: tuple[int, ...] = (16, 24, 32, 48, 48, 64), classes: int = 2) -> None:
        super().__init__()
        a, b, c, d, e, f = widths
        self.features = nn.Sequential(
            Unit(3, a, stride=2, act=nn.ReLU()),
            Unit(a, b, stride=2, act=nn.ReLU()),
            Unit(b, c, act=nn.ReLU()),
            Unit(c, d, stride=2, act=nn.ReLU()),
            Unit(d, e, act=nn.ReLU()),
            # 1×1: a place of the last map sees 39 pixels, so that the map says where and not only that.
            Unit(e, f, 1, act=nn.ReLU()),
        )
        self.head = nn.Linear(f, classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.features(x).mean(dim=(2, 3)))
        return out

    def with_cam(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits N×2 and the class activation map of the predicted class, N×14×14 (not normalised)."""
        maps = self.features(x)
        logits = self.head(maps.mean(dim=(2, 3)))
        weights = self.head.weight[logits.argmax(dim=1)]
        return logits, torch.einsum("nc,nchw->nhw", weights.to(maps.dtype), maps)


NETWORKS: dict[str, type[nn.Module]] = {"residual": ResidualFace, "mobile": MobileFace, "cue": CueNet}


def fold_norms(network: nn.Module) -> nn.Module:
    """Put the network in evaluation mode and merge every batch norm into its convolution, in place."""
    network.eval()
    for module in network.modules():
        if isinstance(module, Unit):
            module.fold()
    return network
