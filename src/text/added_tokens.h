// SPDX-License-Identifier: Apache-2.0
// Finds added tokens (end of text and the like) in a text, before anything else is done to it.
#pragma once

#include <bitset>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace swarr {

struct AddedToken {
  std::string content;
  std::int32_t id = 0;
  bool special = false;
};

class AddedTokens {
 public:
  AddedTokens() = default;
  // No content may be empty or occur twice.
  explicit AddedTokens(std::vector<AddedToken> tokens);

  struct Match {
    std::size_t begin = 0;
    const AddedToken* token = nullptr;
  };
  // The leftmost token at or after byte `from` of `text`, and of those that begin there the longest. Takes
  // O(length of a token * log(number of tokens)) for each place whose byte begins a token.
  std::optional<Match> Find(std::string_view text, std::size_t from) const;

 private:
  const AddedToken* LongestAt(std::string_view text) const;

  std::vector<AddedToken> tokens_;  // by content
  std::bitset<256> first_bytes_;
};

}  // namespace swarr
