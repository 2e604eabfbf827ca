"""A convolution and its gradients: the library's (cuDNN's), or over few channels on CUDA kernels of ours.

On an H100, us for 512 images, ours and cuDNN's (deterministic), whose tiles are presumably made for more channels:

    channels, filters, pixels       forward     images' gradient    weight's gradient
    32, 32, 32 x 32                 36, 63      37, 60              39, 110
    32, 64, 16 x 16                 22, 23      26, 33              23, 97
    64, 64, 16 x 16                 49, 34      51, 33              40, 34
"""

import torch
from torch import Tensor

from pydyn.ops import reference
from pydyn.ops.extension import EXTENSION

# Filters times channels up to which ours are taken.
_MAX_NARROW = 32 * 64
# What a block of ours takes: see csrc/cuda/conv_3x3.h and tiles.h.
SHARED_MEMORY = 160 * 1024
_TILE_PIXELS = 256


def has_kernels(images: Tensor, weight: Tensor, stride: int, padding: int) -> bool:
    """Whether a convolution of images (N, C, H, W) and its gradients are for kernels of ours: over few channels, and images that
    their tiles divide."""
    filters, channels, *window = weight.shape
    if not images.is_cuda or EXTENSION.cuda_version is None or images.dim() != 4 or images.shape[1] != channels:
        return False
    if images.dtype.itemsize != 2 or window != [3, 3] or stride != 1 or padding != 1:
        return False
    if filters % 32 or channels % 32 or filters * channels > _MAX_NARROW:
        return False
    height, width = images.shape[2:]
    if width not in (16, 32) or height * width % _TILE_PIXELS or not torch.cuda.is_available():
        return False
    room: int = torch.cuda.get_device_properties(images.device).shared_memory_per_block_optin
    return room >= SHARED_MEMORY


def convolve(images: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Convolve images (N, C, H, W) with a weight (F, C, h, w) of their dtype: (N, F, H', W')."""
    if has_kernels(images, weight, stride, padding):
        ours: Tensor = torch.ops.pydyn.conv_3x3(images, weight, None, False, False)
        return ours
    return torch.conv2d(images, weight, None, stride, padding)


def convolve_relu(images: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
    """Convolve, add a bias (F,) of the same dtype, then ReLU."""
    if has_kernels(images, weight, stride, padding):
        ours: Tensor = torch.ops.pydyn.conv_3x3(images, weight, bias, True, False)
        return ours
    if images.is_cuda and torch.backends.cudnn.enabled and images.dtype != torch.float64 and images.numel():
        # One kernel. torch does not pass on the wish for determinism here, as with other forward passes it need not: cuDNN's sum
        # in a fixed order, as far as known and as tests on an H100 found.
        return torch.cudnn_convolution_relu(images, weight, bias, [stride] * 2, [padding] * 2, [1, 1], 1)
    return torch.relu_(torch.conv2d(images, weight, bias, stride, padding))


def images_gradient(gradient: Tensor, images: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """The gradient of a convolution's images, from that of its result."""
    if has_kernels(images, weight, stride, padding):
        ours: Tensor = torch.ops.pydyn.conv_3x3(gradient, weight, None, False, True)
        return ours
    return _library_gradient(0, gradient, images, weight, stride, padding)


def weight_gradient(gradient: Tensor, images: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Likewise the gradient of its weight, of the weight's dtype or, by a kernel of ours, in float32."""
    if has_kernels(images, weight, stride, padding):
        ours: Tensor = torch.ops.pydyn.conv_3x3_weight_gradient(gradient, images)
        return ours
    return _library_gradient(1, gradient, images, weight, stride, padding)


def _library_gradient(
    which: int, gradient: Tensor, images: Tensor, weight: Tensor, stride: int, padding: int
) -> Tensor:
    wanted = [position == which for position in range(3)]
    gradients: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
        gradient, images, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, wanted
    )
    return gradients[which]


def _fake_conv(images: Tensor, weight: Tensor, bias: Tensor | None, relu: bool, transposed: bool) -> Tensor:
    out = images.new_empty((images.shape[0], weight.shape[1 if transposed else 0], *images.shape[2:]))
    return out.contiguous(memory_format=torch.channels_last)


def _fake_weight_gradient(gradient: Tensor, images: Tensor) -> Tensor:
    out = images.new_empty((gradient.shape[1], images.shape[1], 3, 3), dtype=torch.float32)
    return out.contiguous(memory_format=torch.channels_last)


if EXTENSION.loaded:
    torch.library.register_fake("pydyn::conv_3x3", _fake_conv)
    torch.library.register_fake("pydyn::conv_3x3_weight_gradient", _fake_weight_gradient)
    torch.library.impl("pydyn::conv_3x3", "default", reference.conv_3x3)
    torch.library.impl("pydyn::conv_3x3_weight_gradient", "default", reference.conv_3x3_weight_gradient)
