#include "population.h"

#include <c10/util/Exception.h>

#include <cmath>

namespace pydyn {
namespace {

void check_device(const char* op, const at::Tensor& images, const char* name, const at::Tensor& other) {
  TORCH_CHECK_VALUE(images.device() == other.device(), op, ": images is on ", images.device(), " and ", name, " on ",
                    other.device(), "; put both on one device");
}

void check_numbers(const char* op, const char* name, const at::Tensor& tensor, at::ScalarType dtype,
                   at::IntArrayRef sizes) {
  TORCH_CHECK_TYPE(tensor.scalar_type() == dtype, op, ": ", name, " must be ", dtype, ", got ", tensor.scalar_type());
  TORCH_CHECK_VALUE(tensor.sizes() == sizes && tensor.is_contiguous(), op, ": ", name, " must be contiguous of shape ",
                    sizes, ", got ", tensor.sizes());
}

}  // namespace

TinyCNN prepare_tiny_cnn(const char* op, const at::Tensor& images, at::IntArrayRef filters, int64_t n_classes,
                         bool output_relu, double mean, double std) {
  TORCH_CHECK_TYPE(images.scalar_type() == at::kByte, op, ": images must be uint8, got ", images.scalar_type());
  TORCH_CHECK_VALUE(images.dim() == 3 && images.size(1) >= 4 && images.size(2) >= 4 && images.is_contiguous(), op,
                    ": images must be contiguous (N, H, W) with H and W at least 4, got shape ", images.sizes(),
                    " with strides ", images.strides());
  const auto n_layers = static_cast<int64_t>(filters.size());
  TORCH_CHECK_VALUE(1 <= n_layers && n_layers <= kMaxLayers, op, ": filters must be of 1 or 2 layers, got ", filters);
  for (const int64_t count : filters)
    TORCH_CHECK_VALUE(1 <= count && count <= kMaxFilters, op, ": filters = ", filters, " must each be in 1 to ",
                      kMaxFilters);
  TORCH_CHECK_VALUE(2 <= n_classes && n_classes <= kMaxClasses, op, ": n_classes = ", n_classes, " must be in 2 to ",
                    kMaxClasses);
  TORCH_CHECK_VALUE(std::isfinite(mean) && std::isfinite(std) && std > 0, op, ": mean = ", mean, " and std = ", std,
                    " must be finite, std above 0");
  return {images.size(1),
          images.size(2),
          n_layers,
          {filters[0], n_layers == 2 ? filters[1] : 0},
          n_classes,
          output_relu,
          static_cast<float>(255 * mean),
          static_cast<float>(1 / (255 * std))};
}

void check_labels(const char* op, const at::Tensor& images, const at::Tensor& labels) {
  check_numbers(op, "labels", labels, at::kLong, {images.size(0)});
  check_device(op, images, "labels", labels);
}

void check_parameters(const char* op, const TinyCNN& network, const at::Tensor& images, const at::Tensor& parameters) {
  TORCH_CHECK_VALUE(parameters.dim() == 2, op, ": parameters must have 2 dimensions, got shape ", parameters.sizes());
  check_numbers(op, "parameters", parameters, at::kFloat, {parameters.size(0), network.n_parameters()});
  check_device(op, images, "parameters", parameters);
}

void check_training(const char* op, const TinyCNN& network, const at::Tensor& images, const at::Tensor& parameters,
                    const at::Tensor& moments, const at::Tensor& order, const at::Tensor& learning_rates,
                    const at::Tensor& optimisers, int64_t step, int64_t batch_size) {
  check_parameters(op, network, images, parameters);
  const int64_t members = parameters.size(0);
  check_numbers(op, "moments", moments, at::kFloat, {members, kMoments, network.n_parameters()});
  TORCH_CHECK_VALUE(order.dim() == 2, op, ": order must have 2 dimensions, got shape ", order.sizes());
  check_numbers(op, "order", order, at::kLong, {members, order.size(1)});
  check_numbers(op, "learning_rates", learning_rates, at::kFloat, {members});
  check_numbers(op, "optimisers", optimisers, at::kLong, {members});
  check_device(op, images, "moments", moments);
  check_device(op, images, "order", order);
  check_device(op, images, "learning_rates", learning_rates);
  check_device(op, images, "optimisers", optimisers);
  TORCH_CHECK_VALUE(step >= 0, op, ": step = ", step, " must be at least 0");
  TORCH_CHECK_VALUE(batch_size >= 1, op, ": batch_size = ", batch_size, " must be at least 1");
}

}  // namespace pydyn
