// SPDX-License-Identifier: Apache-2.0
// Attention in plain loops over all queries and keys, forward and backward, by any rule of attention_rule.h. By the
// right one it computes what attn/attention.h defines, and a test holds it to that.
#pragma once

#include "oracle/suite.h"

namespace swarr::oracle {

std::vector<std::string> AttentionMistakeNames();

// Inputs and outputs as the attention suite names them.
Values DenseAttention(const Case& c, const Values& inputs, const std::string& mistake, Noise& noise);

}  // namespace swarr::oracle
