"""`relu_max_pool` in plain torch."""

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

NONE = 4
"""The winner of a window in which nothing is above 0."""


def relu_max_pool(images: Tensor) -> tuple[Tensor, Tensor]:
    """ReLU and 2x2 max-pooling, and which of each window's pixels won: see `csrc/pool.h`."""
    pooled, index = max_pool2d(torch.relu(images), 2, return_indices=True)
    width = images.shape[3]
    # Odd in the image's own coordinates: the lower row, the right column.
    winner = 2 * (index // width % 2) + index % width % 2
    winner = torch.where(pooled <= 0, NONE, winner).to(torch.uint8)
    layout = torch.channels_last
    return pooled.contiguous(memory_format=layout), winner.contiguous(memory_format=layout)


def relu_max_pool_backward(gradient: Tensor, winner: Tensor, height: int, width: int) -> Tensor:
    """The gradient of each window at its winner, 0 elsewhere: (N, C, H, W)."""
    n_images, n_channels, rows, columns = gradient.shape
    result = gradient.new_zeros(n_images, n_channels, height, width).contiguous(memory_format=torch.channels_last)
    for position in range(NONE):
        down, right = divmod(position, 2)
        result[:, :, down : 2 * rows : 2, right : 2 * columns : 2] = torch.where(winner == position, gradient, 0)
    return result
