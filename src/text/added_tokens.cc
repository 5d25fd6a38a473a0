// SPDX-License-Identifier: Apache-2.0
#include "text/added_tokens.h"

#include <algorithm>
#include <utility>

namespace swarr {

AddedTokens::AddedTokens(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::ranges::sort(tokens_, {}, &AddedToken::content);
  for (const AddedToken& token : tokens_) first_bytes_.set(static_cast<unsigned char>(token.content[0]));
}

std::optional<AddedTokens::Match> AddedTokens::Find(std::string_view text, std::size_t from) const {
  for (std::size_t at = from; at < text.size(); ++at) {
    if (!first_bytes_[static_cast<unsigned char>(text[at])]) continue;
    if (const AddedToken* token = LongestAt(text.substr(at))) return Match{at, token};
  }
  return std::nullopt;
}

const AddedToken* AddedTokens::LongestAt(std::string_view text) const {
  const AddedToken* longest = nullptr;
  auto begin = tokens_.begin();
  auto end = tokens_.end();  // [begin, end): the tokens that agree with the text so far
  for (std::size_t length = 0; begin != end; ++length) {
    if (begin->content.size() == length) longest = &*begin++;  // it sorts before those that go on
    if (length == text.size()) break;
    const auto byte_of = [&](const AddedToken& token) { return static_cast<unsigned char>(token.content[length]); };
    const auto byte = static_cast<unsigned char>(text[length]);
    begin = std::partition_point(begin, end, [&](const AddedToken& token) { return byte_of(token) < byte; });
    end = std::partition_point(begin, end, [&](const AddedToken& token) { return byte_of(token) == byte; });
  }
  return longest;
}

}  // namespace swarr
