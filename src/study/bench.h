// SPDX-License-Identifier: Apache-2.0
// How fast this library is on this machine. Four suites over two model shapes (both tied, without biases and q/k norm):
//   C  6 layers, width 384, 6 heads, ffn 1024, vocabulary 256
//   D  4 layers, width 128, 4 heads, ffn 352, vocabulary 64
//
//   ops      single kernels, forward and backward, at 4096 rows; products also at 1, 16, 64 and 256 rows with weights
//            packed as in decoding; attention over 1024 tokens, full and with a window of 128
//   train    whole optimizer steps: forward, backward, clipping, AdamW; 16 sequences of 256 and 4 of 1024 tokens, full
//            attention and a window of 64
//   decode   1, 16 and 64 sequences at a time, 128 new tokens each after a prompt of 32 that is not timed; full
//            attention and a window of 64
//   scaling  D over one sequence of 1k to 256k tokens with a window of 128: a forward pass with the LM head, and
//            training steps with gradient checkpointing, at all lengths; beside it full attention where a run takes
//            less than about 20 seconds, judged by the work that it has more than the window
// Weights are random and small, and no sequence ends early. What is left out: other programs (measure them beside this
// one, on the same machine), loading, data, several processes.
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
//   peak_share             of that in what this machine can do, measured in the same run (tensor/peak.h), whose rows
//   come
//                          first: f32 multiply-adds whatever the dtype, so that products of bf16 can exceed 1; copying
//                          between buffers larger than a cache, so that an op on data in a cache can
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

// The processor's name as the system gives it; "unknown processor" where it gives none.
std::string ProcessorName();

}  // namespace swarr
