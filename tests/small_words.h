// SPDX-License-Identifier: Apache-2.0
// A word problem that tests know by heart.
#pragma once

#include <string_view>

#include "task/words.h"

namespace swarr {

inline int Noun(std::string_view noun) { return Lexemes(noun)[0].noun; }

// Given foxes are 3; bees are 4 times hens; hens are 5 more than foxes; cats, which nobody needs, are 7; how many bees?
inline WordProblem Small() {
  return {.statements = {{Noun("foxes"), Relation::kNumber, 3},
                         {Noun("bees"), Relation::kTimes, 4, Noun("hens")},
                         {Noun("hens"), Relation::kMore, 5, Noun("foxes")},
                         {Noun("cats"), Relation::kNumber, 7}},
          .asked = Noun("bees")};
}

}  // namespace swarr
