// SPDX-License-Identifier: Apache-2.0
// How fast this library is on this machine. Four suites over four model shapes (all tied, without biases; B alone
// norms queries and keys):
//   A  30 layers, width 576, 9 heads of 64 with 3 key heads, ffn 1536, vocabulary 49152: 135M parameters
//   B  28 layers, width 1024, 16 heads of 128 with 8 key heads, ffn 3072, vocabulary 151936: 596M parameters
//   C  6 layers, width 384, 6 heads of 64, ffn 1024, vocabulary 256
//   D  4 layers, width 128, 4 heads of 32, ffn 352, vocabulary 64
//
// What a suite measures                                          on the processor        on a CUDA device
//   ops      single kernels, forward and backward:               C and D, 4096 rows      A, products of A and B,
//            products also at 1, 16, 64 and 256 rows (on the                             16384 rows
//            processor with weights packed, none short);
//            attention, full and windowed, over                  1 x 1024 tokens, W=128  8 x 2048 tokens, W=512; and
//                                                                                        at other widths, 8192 tokens
//   train    whole optimizer steps: forward, backward,           C and D, 16 x 256 and   A, B, C of 2048 and 8192
//            clipping, AdamW; full and windowed attention        4 x 1024 tokens, W=64   tokens, D; W=512
//            and a step of RL without rewards: sampling 8        D, 128 completions of    A, 384 completions of 100
//            of each prompt, one update; windows as in decode    64 after 32 tokens       after 100 tokens
//   decode   greedy and sampled decoding of several sequences    C and D, 1, 16, 64,     A, B, C and D, 1, 16, 64, 256,
//            at a time, after a prompt that is not timed;        32 + 128 tokens, W=64   128 + 256 tokens, W=128
//            full and windowed attention
//   scaling  one sequence of 1k tokens up to                     D, 256k tokens, W=128   A, 1M tokens, W=512
//            under a window: a forward pass with the LM head,
//            training steps with gradient checkpointing, and
//            decoding of its last tokens. Full attention
//            beside it, where a run should take less than     20 s                    3 s
//            this, judged by the windowed run and by how much
//            more work it is
// Weights are random and small, from lists of a million numbers that repeat, and no sequence ends early. Not measured:
// other programs (measure them beside this one, on the same machine), loading, data, several processes.
//
// Time is the processor's. On a device it begins and ends when the device has nothing to do. Training and decoding
// steps are timed as they are, launches and waits included. An op on a device is called many times between two waits,
// for about 10 ms, and the mean counts. So launches don't show if the op takes longer than its launch, and data that
// fits into a cache is found there. Only the norm of gradients waits in each call, because the processor needs its
// result.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "tensor/context.h"

namespace swarr {

struct BenchOptions {
  std::string suite;  // ops, train, decode or scaling
  // Measure the rows that have this in their name, or one of these between commas; empty: all. Texts are whole words,
  // runs of letters and digits: of "C decode B16 greedy full" "B16" and "C decode", not "B1".
  std::string rows{};
  DType dtype = DType::kF32;
  // A row is repeated for about this long, at least 3 times unless one run takes 10 times as long.
  double seconds_per_row = 1.0;
  std::function<void(const nlohmann::ordered_json& row)> on_row{};  // sees each row as it is measured
  // Sees the names of the suite's rows before the error, where a text of `rows` fits none.
  std::function<void(const std::vector<std::string>& names)> on_no_row{};
  std::function<bool()> stop{};  // asked before each row: whether this and the others are to be left out
  // If set, `rows` is the whole name of one row, of another suite than scaling. When it is prepared and was run twice,
  // this is called; whenever it returns true the row is measured, with one run or more, and it is called again.
  std::function<bool()> await_request{};
};

// What results say of how they were measured: {"suite", "device", "processor", "threads", "dtype", "gemm", "cpu" (the
// set of kernels), "version", "revision", "numbers" (what weights and operands are), "load_before" (the system's,
// base/machine.h)}.
nlohmann::ordered_json BenchSetting(const Context& ctx, const BenchOptions& options);

// The setting (above), and "rows": [...]. A row has its name, its sizes, `ms` (the median over `repetitions`, after one
// run that is thrown away), and where these make sense
//   fastest_ms, slowest_ms the shortest and the longest of the repetitions. They are far from each other if something
//                          else used the machine for a part of the time. What slows all of them shows in load_before,
//                          unless it is another guest of the host
//   tokens_per_second
//   model_gflops           arithmetic of products and attention, three forwards for a training step
//   gflops, gb_per_second  an op's rate (10^9 a second): of arithmetic if that bounds it, else of its operands' bytes
//   peak_share             an op's rate, and on a device a training step's model_gflops, as a share of this machine's
//                          peak. The peak is measured in the same run; its row comes before the first that needs it,
//                          and in the suite ops may be asked for itself.
//                          Arithmetic: on the processor f32 multiply-adds whatever the dtype, so products of bf16 can
//                          exceed 1; on a device cuBLAS's product of 8192^3 in the dtype. Bytes: copying between
//                          buffers larger than a cache, so an op on data in a cache can exceed 1
//   calls                  of an op on a device: between two waits
//   sampling_ms            of a step of RL, the last one: the time until all is sampled
//   arena_bytes_per_token  step memory at its high-water mark, in the row
//   memory_bytes           that and the weights, gradients and moments
//   kv_bytes               the cache that a sequence of this length needs in decoding
// The repetitions of a decoding row of scaling are consecutive tokens, and `ms` is their mean. A peak is the best of
// several runs; its `ms` is the time of all.
// If `stop` has left rows out, there is also "stopped": {"rows", "of"}: how many were measured of how many `rows`
// names. In the suite scaling those of full attention count that would have been left out for the time they take.
//
// If the context asks for a memory report, it gets the largest model, optimizer and decoder of all rows. The arena's
// high-water mark is over all rows; of suites of whole models, over the last pass. Throws UsageError for an unknown
// suite and, before anything is measured, for a text of `rows` that fits no row.
nlohmann::ordered_json RunBench(Context& ctx, const BenchOptions& options);

// The results of the suite scaling as a figure, SVG: tokens per second, a decoded token's time, and memory against
// length.
std::string ScalingFigure(const nlohmann::ordered_json& results);

// A row as a line of a table.
std::string BenchLine(const nlohmann::ordered_json& row);

// The device's name as the system gives it, or "unknown processor".
std::string ProcessorName(Device device);

}  // namespace swarr
