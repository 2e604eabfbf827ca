"""A network's layers by the operations that do several of them in one pass."""

from torch import nn

from pydyn.ops import ReLUMaxPool


def fuse(network: nn.Sequential) -> None:
    """Let one operation do each ReLU and the 2x2 max-pooling after it, in place.

    The network computes the same, to the last bit, and its layers keep their numbers, so that weights have the same names.
    """
    for position in range(len(network) - 1):
        pool = network[position + 1]
        if isinstance(network[position], nn.ReLU) and isinstance(pool, nn.MaxPool2d) and _is_plain(pool):
            network[position], network[position + 1] = nn.Identity(), ReLUMaxPool()


def _is_plain(pool: nn.MaxPool2d) -> bool:
    options = (pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.return_indices, pool.ceil_mode)
    return options == (2, 2, 0, 1, False, False)
