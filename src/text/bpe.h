// SPDX-License-Identifier: Apache-2.0
// Byte pair encoding (Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", 2016). A word
// begins as its characters or bytes. As long as some neighbours have a merge, those whose merge comes first in the list
// of merges become one token, the leftmost pair first.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace swarr {

// Strings as keys that are looked up by string_view.
struct StringHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};
using StringIds = std::unordered_map<std::string, std::int32_t, StringHash, std::equal_to<>>;
using StringSet = std::unordered_set<std::string, StringHash, std::equal_to<>>;

// The alphabet of byte-level BPE (Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, section
// 2.2) has a letter for each byte, so that tokens, which are strings of bytes, can be written in JSON. The printable
// bytes 0x21-0x7E, 0xA1-0xAC and 0xAE-0xFF are the characters of the same number, the other 68 are U+0100 to U+0143 in
// order. Returns the bytes of the letters of `token`, or nothing if a character of it is no letter of the alphabet.
std::optional<std::string> BytesOfLetters(std::string_view token);

// The model of tokenizer.json: vocabulary and merges.
class Bpe {
 public:
  // `json` holds vocab (token to id, checked before), merges ("a b" or ["a", "b"]) and ignore_merges: a word that is a
  // token is that token, whatever the merges (Llama-3). `byte_level`: tokens are written in the letters of
  // BytesOfLetters. Throws, `where` first, on a merge of what is not in the vocabulary or into what is not, on a
  // merge that stands twice, and on a token that no merge makes, unless it is in `added` (or ignore_merges is on).
  Bpe(const nlohmann::json& json, bool byte_level, const StringSet& added, const std::string& where);

  struct Merge {
    std::int32_t rank = 0;
    std::int32_t id = 0;
  };
  // The merge of two adjacent tokens, or null.
  const Merge* MergeOf(std::int32_t left, std::int32_t right) const;

  static constexpr std::int32_t kNoToken = -1;
  // The token of the character or byte at `at` of `word`, or kNoToken; `bytes` is its length.
  std::int32_t SymbolAt(std::string_view word, std::size_t at, std::size_t& bytes) const;
  // The token that a word is whatever the merges, because of ignore_merges or as a single character; or kNoToken.
  std::int32_t WholeWord(std::string_view word) const;

 private:
  void ReadMerges(const nlohmann::json& merges, const StringIds& vocab, const std::string& where);

  bool byte_level_;
  StringIds words_;                            // what WholeWord knows
  std::array<std::int32_t, 256> byte_tokens_;  // byte_level
  std::unordered_map<std::uint64_t, Merge> merges_;
};

// Encodes word after word with one Bpe, which must outlive it. It remembers words it has met and reuses its memory, so
// it is for one thread at a time.
class BpeEncoder {
 public:
  explicit BpeEncoder(const Bpe& bpe) : bpe_(bpe) {}

  // Appends the tokens of `word` to `ids` and returns word.size(); or returns the place of the first character or byte
  // that is not in the vocabulary. Takes O(n log n) time, however long the word.
  std::size_t Append(std::string_view word, std::vector<std::int32_t>& ids);

 private:
  struct Symbol {
    std::int32_t id = 0;  // Bpe::kNoToken: merged into the one before
    std::int32_t previous = 0, next = 0;
  };
  struct Candidate {
    std::int32_t rank = 0;
    std::int32_t at = 0;
    std::int32_t left = 0, right = 0, merged = 0;
    // NOLINTNEXTLINE(modernize-use-nullptr): clang-tidy 14 finds a 0 in what the compiler writes
    auto operator<=>(const Candidate&) const = default;
  };
  std::size_t ReadSymbols(std::string_view word);
  void Merge();
  void Propose(std::int32_t at);

  const Bpe& bpe_;
  std::vector<Symbol> symbols_;
  std::vector<Candidate> candidates_;  // a heap, the best on top
  std::unordered_map<std::string, std::vector<std::int32_t>, StringHash, std::equal_to<>> known_;
};

}  // namespace swarr
