"""Hot paths: tensor operations with C++ and CUDA kernels, and the plain torch reference they must equal."""

from pydyn.ops.adamw import adamw_
from pydyn.ops.convolution import ConvReLU, Copies, conv_relu, copy_parameters
from pydyn.ops.gather import gather_rows
from pydyn.ops.hidden import batch_norm_relu_dropout, batch_norm_relu_dropout_backward
from pydyn.ops.images import gather_images
from pydyn.ops.loss import AmbiguityCrossEntropy, AmbiguityTerms, ambiguity_cross_entropy
from pydyn.ops.pool import ReLUMaxPool, relu_max_pool
from pydyn.ops.population import (
    OPTIMISERS,
    GreyImages,
    ablate_filters,
    population_epoch,
    population_evaluate,
)

__all__ = [
    "OPTIMISERS",
    "AmbiguityCrossEntropy",
    "AmbiguityTerms",
    "ConvReLU",
    "Copies",
    "GreyImages",
    "ReLUMaxPool",
    "ablate_filters",
    "adamw_",
    "ambiguity_cross_entropy",
    "batch_norm_relu_dropout",
    "batch_norm_relu_dropout_backward",
    "conv_relu",
    "copy_parameters",
    "gather_images",
    "gather_rows",
    "population_epoch",
    "population_evaluate",
    "relu_max_pool",
]
