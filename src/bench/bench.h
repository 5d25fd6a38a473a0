// SPDX-License-Identifier: Apache-2.0
// How fast this library is on this machine. Four suites over three model shapes (all tied, without biases and q/k
// norm):
//   A  30 layers, width 576, 9 heads of 64 with 3 key heads, ffn 1536, vocabulary 49152: 135M parameters
//   C  6 layers, width 384, 6 heads of 64, ffn 1024, vocabulary 256
//   D  4 layers, width 128, 4 heads of 32, ffn 352, vocabulary 64
//
// What a suite measures                                          on the processor        on a CUDA device
//   ops      single kernels, forward and backward:               C and D, 4096 rows      A, 16384 rows
//            products also at 1, 16, 64 and 256 rows, on the
//            processor with weights packed as in decoding;
//            attention, full and windowed, over                  1 x 1024 tokens, W=128  8 x 2048 tokens, W=512
//   train    whole optimizer steps: forward, backward,           C and D, 16 x 256 and   A, C and D, 8 x 2048
//            clipping, AdamW; full and windowed attention        4 x 1024 tokens, W=64   tokens, W=512
//   decode   greedy and sampled, of so many sequences            C and D, 1, 16, 64,     A, C and D, 1, 16, 64, 256,
//            at a time, after a prompt that is not timed;        32 + 128 tokens, W=64   128 + 256 tokens, W=128
//            full and windowed attention
//   scaling  D over one sequence of 1k tokens to so many,        256k tokens             1M tokens
//            with a window of 128: a forward pass with the LM
//            head, and training steps with gradient
//            checkpointing, at all lengths; beside it full
//            attention where a run takes less than about 20
//            seconds, judged by the work that it has more
//            than the window
// Weights are random and small, and no sequence ends early. What is left out: other programs (measure them beside this
// one, on the same machine), loading, data, several processes.
//
// Time is the processor's, and on a device it begins and ends when that has nothing to do. A training step and the
// steps of decoding are timed as they are, launches and waits included. An op on a device is called again and again
// between two waits, for about 10 ms, and the mean counts: so launching is left out as far as the op takes longer than
// its launches, and what fits into a cache is found there. Only the norm of gradients waits in each call, as its result
// is the processor's.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "tensor/context.h"

namespace swarr {

struct BenchOptions {
  std::string suite;   // ops, train, decode or scaling
  std::string rows{};  // measure the rows whose name contains this; empty: all
  DType dtype = DType::kF32;
  // A row is repeated for about so long, at least 3 times unless one run takes 10 times as long.
  double seconds_per_row = 1.0;
  std::function<void(const nlohmann::ordered_json& row)> on_row;  // sees each row as it is measured
};

// {"suite", "device", "processor", "threads", "dtype", "gemm", "cpu" (the set of kernels), "version", "revision",
// "rows": [...]}. A row has its name, its sizes, `ms` (the median over `repetitions`, after one run that is thrown
// away), and where these make sense
//   tokens_per_second
//   model_gflops           arithmetic of products and attention, three forwards for a training step
//   gflops, gb_per_second  of an op: arithmetic where that bounds it, else bytes of its operands (10^9 a second)
//   peak_share             of an op's rate, and on a device of a training step's model_gflops, in what this machine can
//                          do, measured in the same run (bench/peak.h), whose rows come first. Of arithmetic: on the
//                          processor f32 multiply-adds whatever the dtype, so that products of bf16 can exceed 1; on a
//                          device cuBLAS's product of 8192^3 in the dtype. Of bytes: copying between buffers larger
//                          than a cache, so that an op on data in a cache can exceed 1
//   calls                  of an op on a device: between two waits
//   arena_bytes_per_token  step memory at its high-water mark
//   kv_bytes               the cache that a sequence of this length needs in decoding
// If the context asks for a memory report, models, optimizers and decoders are noted there: of all rows the largest.
// The arena's high-water mark is that of all rows, in the suite scaling of the last. Throws UsageError for an unknown
// suite and where no row's name fits.
nlohmann::ordered_json RunBench(Context& ctx, const BenchOptions& options);

// The results of the suite scaling as a figure: tokens per second against length, SVG.
std::string ScalingFigure(const nlohmann::ordered_json& results);

// A row as a line of a table.
std::string BenchLine(const nlohmann::ordered_json& row);

// The name of what computes, as the system gives it; "unknown processor" where it gives none.
std::string ProcessorName(Device device = Device::kCpu);

}  // namespace swarr
