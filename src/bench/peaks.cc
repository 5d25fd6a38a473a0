// SPDX-License-Identifier: Apache-2.0
// What a machine can do at best: arithmetic and copying.
#include <algorithm>
#include <cstring>

#include "bench/kernels/peak_kernel.h"
#include "bench/suites.h"
#include "tensor/ops.h"
#include "tensor/threads.h"
#include "tensor/transfer.h"
#include "train/step_timer.h"

namespace swarr {
namespace {

// Runs that measure a peak, and the calls of one run on a device between two waits. With so many, neither launching nor
// waiting counts.
constexpr int kPeakRuns = 5, kPeakCalls = 10;
// Of multiply-adds, 1 to 2 ms each: shorter than the slices that a system gives to others on the same processors, so
// that some runs have them alone.
constexpr int kShortRuns = 50;
constexpr std::int64_t kStepsOfShortRun = 1'000'000;

// The shortest time of a call in several runs, in seconds.
template <class F>
double Fastest(const Context& ctx, const F& call, int runs = kPeakRuns) {
  const int calls = ctx.device() == Device::kCpu ? 1 : kPeakCalls;
  double fastest = 1e300;
  for (int i = 0; i < runs; ++i) fastest = std::min(fastest, MeanSeconds(ctx, calls, call));
  return fastest;
}

void CopyByThreads(int thread_count, const Buffer& to, const Buffer& from) {
  const auto threads = static_cast<std::size_t>(thread_count);
  ForParts(thread_count, [&](int part) {
    const auto t = static_cast<std::size_t>(part);
    const std::size_t begin = t * to.bytes() / threads, end = (t + 1) * to.bytes() / threads;
    std::memcpy(to.data() + begin, from.data() + begin, end - begin);
  });
}

// cuBLAS's y[M, N] = x[M, K] w[N, K]^T on a CUDA device, in GFLOP/s. For the peak give it some thousands of rows,
// columns and k, and random operands: zeros take less power, so a device computes more of them.
double ProductPeak(const Context& ctx, const Tensor& y, const Tensor& x, const Tensor& w) {
  Context library = ctx;
  library.gemm = GemmKind::kCublas;
  const double flops = 2.0 * static_cast<double>(y.size()) * static_cast<double>(x.dim(1));
  return 1e-9 * flops / Fastest(ctx, [&] { LinearForward(library, y, x, w); });
}

// Copying from one buffer of the device's memory to another, both far larger than a cache: bytes read plus written, in
// GB/s (10^9 bytes).
double CopyBandwidth(const Context& ctx) {
  const std::size_t bytes = std::size_t{ctx.stream ? 1024u : 256u} << 20;
  const Buffer from(bytes, MemoryOf(ctx.device())), to(bytes, MemoryOf(ctx.device()));
  const double seconds = Fastest(ctx, [&] {
    if (ctx.stream) {
      EnqueueCopy(*ctx.stream, to.data(), from.data(), bytes);
    } else {
      CopyByThreads(ctx.threads, to, from);
    }
  });
  return 2e-9 * static_cast<double>(bytes) / seconds;
}

}  // namespace

double MultiplyAddPeak(const Context& ctx) {
  return OnCpu(ctx.cpu, [&]<class Set>() {
    std::vector<float> results(static_cast<std::size_t>(ctx.threads));
    const auto run = [&] {
      ForParts(ctx.threads, [&](int thread) {
        results[static_cast<std::size_t>(thread)] = PeakKernel<Set>::MultiplyAdd(kStepsOfShortRun, 0.5f, 1.0f);
      });
    };
    const std::int64_t flops = PeakKernel<Set>::FlopsPerStep() * kStepsOfShortRun * ctx.threads;
    return 1e-9 * static_cast<double>(flops) / Fastest(ctx, run, kShortRuns);
  });
}

double BenchRows::MeasurePeak(const std::string& name, const char* unit, const std::function<double()>& peak) {
  double rate = 0;
  const auto measure = [&] {
    const StepTimer timer;
    rate = peak();
    Add({{"name", name}, {"ms", 1e3 * timer.Seconds()}, {"repetitions", 1}, {unit, rate}});
  };
  if (options_.await_request && name == options_.rows) {
    rate = peak();  // starts the threads, so that who asks may bind them to processors
    while (options_.await_request()) measure();
  } else {
    measure();
  }
  return rate;
}

double BenchRows::ArithmeticPeak() {
  const auto product = [&] {
    constexpr std::int64_t kSide = 8192;
    StepScope scope(ctx_);
    const auto random = [&] { return Random(dtype(), {kSide, kSide}); };
    return ProductPeak(ctx_, random(), random(), random());
  };
  if (!arithmetic_peak_) {
    arithmetic_peak_ =
        MeasurePeak(ArithmeticPeakName(), "gflops", [&] { return on_device() ? product() : MultiplyAddPeak(ctx_); });
  }
  return *arithmetic_peak_;
}

std::string BenchRows::ArithmeticPeakName() const {
  return on_device() ? Concat("peak of ", Name(dtype()), " products") : "peak of f32 multiply-add";
}

double BenchRows::CopyPeak() {
  if (!copy_peak_) copy_peak_ = MeasurePeak(kCopyPeakName, "gb_per_second", [&] { return CopyBandwidth(ctx_); });
  return *copy_peak_;
}

}  // namespace swarr
