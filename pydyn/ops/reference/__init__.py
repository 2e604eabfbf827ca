"""The ops in plain torch: what the extension must equal, and what runs where it offers no kernel."""

from pydyn.ops.reference.adamw import adamw_
from pydyn.ops.reference.conv_relu import (
    PATCH_CHANNELS,
    bias_relu_max_pool,
    bias_relu_max_pool_backward,
    conv_3x3,
    conv_3x3_weight_gradient,
    partial_rows,
    patches,
    relu_backward,
    sum_rows,
)
from pydyn.ops.reference.gather import gather_rows
from pydyn.ops.reference.hidden import batch_norm_relu_dropout, batch_norm_relu_dropout_backward
from pydyn.ops.reference.images import gather_images, philox
from pydyn.ops.reference.loss import ambiguity_cross_entropy
from pydyn.ops.reference.pool import NONE, relu_max_pool, relu_max_pool_backward
from pydyn.ops.reference.population import (
    OPTIMISERS,
    ablate_filters,
    normalise,
    population_epoch,
    population_evaluate,
)

__all__ = [
    "NONE",
    "OPTIMISERS",
    "PATCH_CHANNELS",
    "ablate_filters",
    "adamw_",
    "ambiguity_cross_entropy",
    "batch_norm_relu_dropout",
    "batch_norm_relu_dropout_backward",
    "bias_relu_max_pool",
    "bias_relu_max_pool_backward",
    "conv_3x3",
    "conv_3x3_weight_gradient",
    "gather_images",
    "gather_rows",
    "normalise",
    "partial_rows",
    "patches",
    "philox",
    "population_epoch",
    "population_evaluate",
    "relu_backward",
    "relu_max_pool",
    "relu_max_pool_backward",
    "sum_rows",
]
