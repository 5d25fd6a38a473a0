// SPDX-License-Identifier: Apache-2.0
// The mistakes that the suite `loss` knows: names, as the user reads them, and what each makes of the right rule.
#pragma once

#include <span>

#include "oracle/loss_rule.h"

namespace swarr::oracle {

// Where a mistake is what the case asks for, or has no meaning in it, it changes nothing.
struct LossMistake {
  const char* name;
  void (*make)(LossRule& rule);
};
std::span<const LossMistake> LossMistakes();

}  // namespace swarr::oracle
