// SPDX-License-Identifier: Apache-2.0
// One step of AdamW in plain loops, with a switch for everything that an implementation may get wrong. By default the
// switches are right: then it computes what tensor/ops.h and train/optimizer.h define, and a test holds it to that.
#pragma once

#include "oracle/suite.h"
#include "tensor/ops.h"

namespace swarr::oracle {

enum class Clipping : std::uint8_t {
  kGlobal,    // right: by the norm of all gradients, down only
  kNone,      // gradients as they are
  kUpToo,     // to the largest norm also where the norm is smaller
  kEach,      // every tensor by a norm of its own
  kElements,  // every element into [-max_grad_norm, max_grad_norm]
};
enum class NormOf : std::uint8_t { kAll, kMatrices, kSumOfNorms };
enum class Decaying : std::uint8_t {
  kDecoupled,    // right: w -= lr weight_decay w, w before the step
  kInGradient,   // weight_decay w added to the clipped gradient (L2)
  kWithoutRate,  // w -= weight_decay w
  kAfterStep,    // w the new weight
};
enum class EpsPlace : std::uint8_t {
  kOutside,           // right: sqrt(v / (1 - b2^t)) + eps
  kInRoot,            // sqrt(v / (1 - b2^t) + eps)
  kBeforeCorrection,  // (sqrt(v) + eps) / sqrt(1 - b2^t)
};

struct StepRule {
  AdamWOptions adamw;
  double lr = 0, max_grad_norm = 0;  // max_grad_norm 0: no clipping
  std::int64_t t = 1;
  Clipping clipping = Clipping::kGlobal;
  NormOf norm_of = NormOf::kAll;
  double added_to_norm = 0;
  bool reports_clipped_norm = false;
  bool vectors_decay = false;
  Decaying decaying = Decaying::kDecoupled;
  EpsPlace eps_place = EpsPlace::kOutside;
  bool corrects_m = true, corrects_v = true;
  bool m_complements = true;  // the gradient enters m times 1 - b1, not 1
  bool steps_by_old_m = false;
  double sign = 1;  // -1: uphill
};

// The right rule of a case.
StepRule RuleOf(const Case& c);

// Inputs and outputs as the step suite names them.
Values PlainStep(const Values& inputs, const StepRule& rule, Noise& noise);

// The tensors' names: <name> of each input "w.<name>".
std::vector<std::string> TensorNames(const Values& inputs);

}  // namespace swarr::oracle
