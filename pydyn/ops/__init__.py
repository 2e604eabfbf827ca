"""Hot paths: tensor operations with C++ and CUDA kernels, and the plain torch reference they must equal."""
