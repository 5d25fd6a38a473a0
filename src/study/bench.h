// SPDX-License-Identifier: Apache-2.0
// How fast this library is on this machine. Four suites over two model shapes (both tied, without biases and q/k norm):
//   C  6 layers, width 384, 6 heads, ffn 1024, vocabulary 256
//   D  4 layers, width 128, 4 heads, ffn 352, vocabulary 64
//
//   ops      single kernels at 4096 rows (the last product: 16, as in decoding) and attention over 1024 tokens
//   train    whole optimizer steps: forward, backward, clipping, AdamW; 16 sequences of 256 and 4 of 1024 tokens
//   decode   1, 16 and 64 sequences at a time, 128 new tokens each after a prompt of 32 that is not timed
//   scaling  forward pass with LM head over one sequence of 1k to 16k tokens (D), and the cache that it would need
// Windows are 128 tokens. Weights are random and small, and no sequence ends early. What is left out: other programs
// (measure them beside this one, on the same machine), loading, data, several processes.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "tensor/context.h"

namespace swarr {

struct BenchOptions {
  std::string suite;  // ops, train, decode or scaling
  DType dtype = DType::kF32;
  // A row is repeated for about so long, at least 3 times unless one run takes 10 times as long.
  double seconds_per_row = 1.0;
  std::function<void(const nlohmann::ordered_json& row)> on_row;  // sees each row as it is measured
};

// {"suite", "device", "processor", "threads", "dtype", "gemm", "version", "revision", "rows": [...]}. A row has its
// name, its sizes, `ms` (the median over `repetitions`, after one run that is thrown away), and where these make sense
// tokens_per_second, gflops (2 M N K a product) and model_gflops (arithmetic of products and attention, three forwards
// for a training step). Throws UsageError for an unknown suite.
nlohmann::ordered_json RunBench(Context& ctx, const BenchOptions& options);

// A row as a line of a table.
std::string BenchLine(const nlohmann::ordered_json& row);

// The processor's name as the system gives it; "unknown processor" where it gives none.
std::string ProcessorName();

}  // namespace swarr
