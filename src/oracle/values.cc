// SPDX-License-Identifier: Apache-2.0
#include "oracle/values.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

namespace swarr::oracle {
namespace {

// FNV-1a (Fowler, Noll, Vo): names become keys of streams.
std::uint32_t Hash(const std::string& text) {
  std::uint32_t hash = 2166136261U;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619U;
  return hash;
}

}  // namespace

std::int64_t SizeOf(const std::vector<std::int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

std::string ShapeString(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

std::string Some(const std::vector<std::string>& names, std::size_t most) {
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), most); ++i) text += (i == 0 ? "" : ", ") + names[i];
  return names.size() > most ? Concat(text, " and ", names.size() - most, " more") : text;
}

Tensor ViewOf(void* data, DType dtype, const std::vector<std::int64_t>& s) {
  switch (s.size()) {
    case 1:
      return {data, dtype, {s[0]}};
    case 2:
      return {data, dtype, {s[0], s[1]}};
    case 3:
      return {data, dtype, {s[0], s[1], s[2]}};
    default:
      SWARR_CHECK(s.size() == 4, "a tensor of the oracle has rank 1 to 4, not ", s.size());
      return {data, dtype, {s[0], s[1], s[2], s[3]}};
  }
}

Tensor InArena(const Context& ctx, const Value& value) {
  const DType dtype = value.integer ? DType::kI32 : DType::kF64;
  const Tensor t = ViewOf(ctx.arena->New(dtype, {SizeOf(value.shape)}).raw(), dtype, value.shape);
  if (value.integer) {
    std::transform(value.data.begin(), value.data.end(), t.data<std::int32_t>(),
                   [](double x) { return static_cast<std::int32_t>(x); });
  } else {
    std::copy(value.data.begin(), value.data.end(), t.data<double>());
  }
  return t;
}

Value ValueOf(const Tensor& t) {
  Value value;
  for (int i = 0; i < t.rank(); ++i) value.shape.push_back(t.dim(i));
  const auto take = [&](const auto* data) { value.data.assign(data, data + t.size()); };
  value.integer = t.dtype() == DType::kI32;
  value.integer ? take(t.data<std::int32_t>()) : take(t.data<double>());
  return value;
}

Tensor TensorsOf::operator()(const std::string& name) const {
  const auto found = values.find(name);
  return found == values.end() ? Tensor() : InArena(ctx, found->second);
}

Tensor ZerosLike(const Context& ctx, const Tensor& t) {
  const Tensor zeros = ctx.arena->NewLike(t);
  FillZero(zeros);
  return zeros;
}

Value Zeros(std::vector<std::int64_t> shape) {
  const auto size = static_cast<std::size_t>(SizeOf(shape));
  return {std::move(shape), std::vector<double>(size), false};
}

Value Integers(const std::vector<std::int32_t>& values) {
  return {{static_cast<std::int64_t>(values.size())}, {values.begin(), values.end()}, true};
}

std::vector<std::int32_t> Counting(std::int64_t size) {
  std::vector<std::int32_t> numbers(static_cast<std::size_t>(size));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

Value Scalar(double x) { return {{1}, {x}, false}; }

Value Scaled(Value value, double factor) {
  for (double& x : value.data) x *= factor;
  return value;
}

Value Transposed(const Value& w) {
  Value t = Zeros({w.dim(1), w.dim(0)});
  for (std::int64_t i = 0; i < w.dim(0); ++i) {
    for (std::int64_t j = 0; j < w.dim(1); ++j) t(j, i) = w(i, j);
  }
  return t;
}

Value Reordered(const Value& value, const Order& order) {
  Value to = value;
  for (std::int64_t i = 0; i < value.dim(0); ++i) {
    std::ranges::copy(value.Row(order[static_cast<std::size_t>(i)]), to.Row(i).begin());
  }
  return to;
}

Order Inverse(const Order& order) {
  Order inverse(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    inverse[static_cast<std::size_t>(order[i])] = static_cast<std::int64_t>(i);
  }
  return inverse;
}

Value RandomNormal(PhiloxStream& random, std::vector<std::int64_t> shape, double scale, double mean) {
  constexpr double kStep = 64, kMost = 255;
  Value value = Zeros(std::move(shape));
  for (double& x : value.data) {
    x = mean + scale * std::clamp(std::round(random.NextNormal() * kStep), -kMost, kMost) / kStep;
  }
  return value;
}

Value RandomIntegers(PhiloxStream& random, std::vector<std::int64_t> shape, std::int64_t below) {
  Value value = Zeros(std::move(shape));
  value.integer = true;
  for (double& x : value.data) x = random.NextBelow(static_cast<std::uint32_t>(below));
  return value;
}

PhiloxStream StreamOf(const std::string& suite, const std::string& name) {
  constexpr std::uint64_t kSeed = 2606'11634;
  return PhiloxStream(StreamKey(kSeed, Purpose::kData, Hash(suite), Hash(name)));
}

}  // namespace swarr::oracle
