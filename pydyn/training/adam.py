"""Adam for networks that are small for a GPU."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pydyn.ops.streams import run_beside

# Numbers that a block of torch's kernel takes, one after the other in each of its threads: up to 65,536 if there are that many.
# On an H100 cnn_a's 1.1 million numbers took 67 us so, of 1,800 that a step took then.
SLICE = 8192
# Slices that the kernel takes at once: more are launches one after the other, unless they are ours.
PER_LAUNCH = 32


class SlicedAdam(torch.optim.Adam):
    """Adam (Kingma and Ba 2015, algorithm 1) by torch's fused kernel over slices of the parameters: more of the GPU works.

    What a step does to a number does not depend on others: it is torch's own step, to the last bit. State and its names are
    those of `torch.optim.Adam`.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], learning_rate: float, eps: float) -> None:
        """Take parameters that lie in memory without gaps, on CUDA; steps can be captured for a graph."""
        super().__init__(parameters, learning_rate, eps=eps, fused=True, capturable=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Step all parameters that have a gradient. A closure is not called."""
        for group in self.param_groups:
            parameters: list[Tensor] = []
            gradients: list[Tensor] = []
            means: list[Tensor] = []
            squares: list[Tensor] = []
            steps: list[Tensor] = []
            self._init_group(group, parameters, gradients, means, squares, [], steps)  # type: ignore[no-untyped-call]
            if not parameters:
                continue
            for moments in (means, squares):
                if any(one.stride() != other.stride() for one, other in zip(moments, parameters, strict=True)):
                    raise ValueError("SlicedAdam: moments lie in memory in another order than their parameters")
            torch._foreach_add_(steps, 1)
            alike = [
                gradient if gradient.stride() == parameter.stride() else torch.empty_like(parameter).copy_(gradient)
                for gradient, parameter in zip(gradients, parameters, strict=True)
            ]
            slices = [_slices(tensors) for tensors in (parameters, alike, means, squares)]
            steps = [
                step
                for step, parameter in zip(steps, parameters, strict=True)
                for _ in range(0, parameter.numel(), SLICE)
            ]
            device = parameters[0].device
            run_beside(
                device,
                [
                    partial(self._step_some, group, *(some[start : start + PER_LAUNCH] for some in (*slices, steps)))
                    for start in range(0, len(steps), PER_LAUNCH)
                ],
            )

    @staticmethod
    @torch.no_grad()
    def _step_some(
        group: dict[str, Any],
        parameters: list[Tensor],
        gradients: list[Tensor],
        means: list[Tensor],
        squares: list[Tensor],
        steps: list[Tensor],
    ) -> None:
        torch._fused_adam_(
            parameters,
            gradients,
            means,
            squares,
            [],
            steps,
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=0.0,
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )


def _slices(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Parts of tensors, in the order of memory."""
    return [part for tensor in tensors for part in tensor.as_strided((tensor.numel(),), (1,)).split(SLICE)]
