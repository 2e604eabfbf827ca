"""Hot paths: tensor operations with C++ and CUDA kernels, and the plain torch reference they must equal."""

from pydyn.ops.gather import gather_rows

__all__ = ["gather_rows"]
