// SPDX-License-Identifier: Apache-2.0
// What tests do with tensors: make them, fill them, compare them bit for bit. All of it on the processor; what is on a
// device comes from there by OnHost, and tests of a device make their inputs in ctx.HostArena() and move them
// (ToDevice).
#pragma once

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <vector>

#include "autograd/tape.h"
#include "tensor/philox.h"

namespace swarr {

// Memory and a context over it.
struct TestContext {
  explicit TestContext(int threads = 1, Cpu cpu = BestCpu()) : TestContext(Device::kCpu, threads, cpu) {}
  explicit TestContext(Device device, int threads = 1, Cpu cpu = BestCpu()) : steps(device) {
    steps.GiveTo(ctx);
    ctx.threads = threads;
    ctx.cpu = cpu;
  }
  TestContext(const TestContext&) = delete;
  TestContext& operator=(const TestContext&) = delete;
  StepMemory steps;
  Arena& arena = steps.arena();
  Context ctx;
};

// The devices that this build and this machine have.
inline std::vector<Device> TestDevices() {
  std::vector<Device> devices = {Device::kCpu};
  if (!CudaDeviceName().empty()) devices.push_back(Device::kCuda);
  return devices;
}

// Value and gradient where the context's device computes with them. A gradient's flag stays what it is.
inline Var ToDevice(const Context& ctx, const Var& v) {
  return {ToDevice(ctx, v.value), ToDevice(ctx, v.grad), v.fresh};
}

// What the device has computed, to be read: waits for it.
inline Tensor OnHost(const Context& ctx, const Tensor& t) {
  const Tensor host = ToHost(ctx, t);
  Wait(ctx);
  return host;
}
inline Var OnHost(const Context& ctx, const Var& v) { return {OnHost(ctx, v.value), OnHost(ctx, v.grad), v.fresh}; }

inline bool SameBits(const Tensor& a, const Tensor& b) {
  return a.SameShape(b) && (a.bytes() == 0 || std::memcmp(a.raw(), b.raw(), a.bytes()) == 0);
}

// A zero tensor of rank 1 to 3 whose shape is known only at run time.
inline Tensor NewTensor(Arena& arena, DType dtype, const std::vector<std::int64_t>& shape) {
  switch (shape.size()) {
    case 1:
      return arena.NewZero(dtype, {shape[0]});
    case 2:
      return arena.NewZero(dtype, {shape[0], shape[1]});
    default:
      return arena.NewZero(dtype, {shape.at(0), shape.at(1), shape.at(2)});
  }
}

// Zero, of the shape of `t`.
inline Tensor ZeroLike(Arena& arena, DType dtype, const Tensor& t) {
  std::vector<std::int64_t> shape;
  for (int i = 0; i < t.rank(); ++i) shape.push_back(t.dim(i));
  return NewTensor(arena, dtype, shape);
}

// The same where the context's device computes.
inline Tensor ZeroLike(const Context& ctx, DType dtype, const Tensor& t) {
  return ToDevice(ctx, ZeroLike(ctx.HostArena(), dtype, t));
}

inline Tensor CopyOf(Arena& arena, const Tensor& t) {
  const Tensor copy = ZeroLike(arena, t.dtype(), t);
  Copy(copy, t);
  return copy;
}

inline Tensor Ints(Arena& arena, const std::vector<std::int32_t>& values) {
  const Tensor t = arena.New(DType::kI32, {static_cast<std::int64_t>(values.size())});
  std::copy(values.begin(), values.end(), t.data<std::int32_t>());
  return t;
}

inline void Fill(const Tensor& t, double x) {
  Dispatch(t.dtype(), [&]<class T>() { std::fill_n(t.data<T>(), t.size(), static_cast<T>(x)); });
}

// Numbers in (-scale, scale) that f32 holds exactly, so that a computation in f32 and one in f64 start from the same.
inline double RandomReal(PhiloxStream& random, double scale = 1) {
  return static_cast<double>(static_cast<float>((2 * random.NextUniform() - 1) * scale));
}

inline Tensor Random(Arena& arena, DType dtype, std::initializer_list<std::int64_t> shape, std::uint32_t stream,
                     double scale = 1) {
  const Tensor t = arena.New(dtype, shape);
  PhiloxStream random(StreamKey(1, Purpose::kData, stream));
  Dispatch(dtype, [&]<class T>() {
    for (std::int64_t i = 0; i < t.size(); ++i) t.data<T>()[i] = static_cast<T>(RandomReal(random, scale));
  });
  return t;
}

inline double ValueAt(const Tensor& t, std::int64_t i) {
  return Dispatch(t.dtype(), [&]<class T>() { return static_cast<double>(t.data<T>()[i]); });
}

}  // namespace swarr
