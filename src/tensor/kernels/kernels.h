// SPDX-License-Identifier: Apache-2.0
// The kernels of the ops, in sets: one for each tag of cpu.h, and Cuda, which cuda/ defines if the build has it. Their
// contracts stand in ops.h, and ops.cc has checked the arguments.
//
// The rule of every folder named kernels/: its .cc files are compiled once for each set (*_dot.cc and *_amx.cc for
// one instruction alone), with the instructions of that set and with SWARR_SET naming its tag (cmake/kernels.cmake).
// Each defines `template <> void Kernels<SWARR_SET>::F(...)`. Nothing else that it compiles may be visible to the
// linker: an inline function of external linkage is kept once in the program, from any of the sets, and another set
// could call it where its instructions do not exist. So helpers are always inlined, or stand in an unnamed namespace,
// or are templates over a lambda of the kernel, whose type carries the set. The test kernel_symbols looks at every
// object for what is left.
#pragma once

#include "tensor/kernels/short_panels.h"
#include "tensor/linears.h"
#include "tensor/ops.h"

namespace swarr {

template <class Set>
struct Kernels {
  static void GatherRows(const Context& ctx, const Tensor& y, const Tensor& x, const Tensor& rows);
  static void EmbeddingBackward(const Context& ctx, const Tensor& dw, const Tensor& dy, const Tensor& ids);

  static void MatMulNT(const Context& ctx, const Tensor& y, const Tensor& x, const Tensor& w, const Tensor& bias,
                       const Tensor& addend);
  static void MatMulNN(const Context& ctx, const Tensor& dx, const Tensor& dy, const Tensor& w, bool accumulate);
  static void MatMulTN(const Context& ctx, const Tensor& dw, const Tensor& dy, const Tensor& x, bool accumulate);
  // Products of one input, or that add to one result, or of one operand, together (linears.h). On the processor alone.
  static void Linears(const Context& ctx, const Tensor& x, std::span<const LinearResult> results);
  static void LinearsInputGradient(const Context& ctx, const Tensor& dx, std::span<const InputGradientTerm> terms);
  static void LinearsWeightGradients(const Context& ctx, const Tensor& x, std::span<const WeightGradient> gradients);
  // Into panels [., PanelDepth, kPanel], or into short ones from its beginning on, with their notes: false if w does
  // not fit these or the kernel reads none.
  static void PackWeight(const Context& ctx, const Tensor& panels, const Tensor& w);
  static bool PackWeightShort(const Context& ctx, const Tensor& panels, std::span<ShortNote> notes, const Tensor& w);
  static void BiasBackward(const Context& ctx, const Tensor& db, const Tensor& dy);

  static void RmsNormForward(const Context& ctx, const Tensor& y, const Tensor& rstd, const Tensor& x, const Tensor& w,
                             double eps);
  static void RmsNormBackward(const Context& ctx, const Tensor& dx, const Tensor& dw, const Tensor& dy, const Tensor& x,
                              const Tensor& w, const Tensor& rstd, const Tensor& y);

  static void RopeForward(const Context& ctx, const Tensor& y, const Tensor& x, const Tensor& positions,
                          const Tensor& table);
  static void RopeBackward(const Context& ctx, const Tensor& dx, const Tensor& dy, const Tensor& positions,
                           const Tensor& table);

  static void SwiGluForward(const Context& ctx, const Tensor& y, const Tensor& gate, const Tensor& up);
  static void SwiGluBackward(const Context& ctx, const Tensor& dgate, const Tensor& dup, const Tensor& dy,
                             const Tensor& gate, const Tensor& up, const Tensor& y);

  static void AddForward(const Context& ctx, const Tensor& y, const Tensor& a, const Tensor& b);

  // For rows of logits [rows, V], with the targets and results of these rows.
  static void LogSoftmaxRows(const Context& ctx, const Tensor& logp, const Tensor& lse, const Tensor& entropy,
                             const Tensor& logits, const Tensor& targets);
  static void LogSoftmaxRowsBackward(const Context& ctx, const Tensor& dlogits, const Tensor& dlogp,
                                     const Tensor& dentropy, const Tensor& lse, const Tensor& entropy,
                                     const Tensor& logits, const Tensor& targets);
  // Divides both logits by the temperature, in place.
  static void DistillRows(const Context& ctx, const DistillResults& results, const Tensor& logits,
                          const Tensor& teacher_logits, const DistillOptions& options);
  static void DistillRowsBackward(const Context& ctx, const Tensor& dlogits, const Tensor& dkl,
                                  const DistillResults& results, const Tensor& logits, const Tensor& teacher_logits,
                                  const DistillOptions& options);
  static void SampleRows(const Context& ctx, const Tensor& tokens, const Tensor& logp, const Tensor& logits,
                         const Tensor& positions, const SampleRow* rows);

  static void AdamWStep(const Context& ctx, const Tensor& w, const Tensor& m, const Tensor& v, const Tensor& g,
                        const AdamWUpdate& update);
  static void SquaresOfChunks(const Context& ctx, const Tensor& sums, const Tensor& x);
  static double RootOfSum(const Context& ctx, const Tensor& sums);
  static void CastForward(const Context& ctx, const Tensor& y, const Tensor& x);
};

}  // namespace swarr
