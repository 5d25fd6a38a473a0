// SPDX-License-Identifier: Apache-2.0
#include "text/bpe.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/check.h"
#include "text/component.h"
#include "text/unicode.h"

namespace swarr {
namespace {

using nlohmann::json;

// The encoder remembers this many words of at most so many bytes.
constexpr std::size_t kKnownWords = 1 << 16;
constexpr std::size_t kKnownWordBytes = 64;

constexpr std::int32_t kNone = -1;  // no symbol; no byte

// The byte of each letter, by the letter's code.
constexpr std::array<std::int16_t, 0x144> kByteOfLetter = [] {
  std::array<std::int16_t, 0x144> bytes{};
  bytes.fill(kNone);
  std::size_t next = 0x100;
  for (std::size_t byte = 0; byte < 0x100; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    bytes[printable ? byte : next++] = static_cast<std::int16_t>(byte);
  }
  return bytes;
}();

std::uint64_t KeyOf(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right);
}

// The two parts of a merge in either spelling.
std::pair<std::string, std::string> PartsOf(const json& merge, std::size_t rank, const std::string& where) {
  if (merge.is_string()) {
    const auto& text = merge.get_ref<const std::string&>();
    const std::size_t space = text.find(' ');
    if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos) {
      return {text.substr(0, space), text.substr(space + 1)};
    }
  } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return {merge[0].get<std::string>(), merge[1].get<std::string>()};
  }
  throw Error(
      Concat(where, ": merge ", rank, " is ", Excerpt(merge.dump()), R"(, not two tokens: "a b" or ["a", "b"])"));
}

}  // namespace

std::optional<std::string> BytesOfLetters(std::string_view token) {
  std::string bytes;
  for (std::size_t at = 0; at < token.size();) {
    const Utf8Unit letter = UnitAt(token, at);
    const bool known = letter.kind == Utf8Unit::Kind::kCharacter && letter.code < kByteOfLetter.size() &&
                       kByteOfLetter[letter.code] != kNone;
    if (!known) return std::nullopt;
    bytes += static_cast<char>(kByteOfLetter[letter.code]);
    at += letter.bytes;
  }
  return bytes;
}

Bpe::Bpe(const json& json, bool byte_level, const StringSet& added, const std::string& where)
    : byte_level_(byte_level) {
  const bool ignore_merges = !IsOff(json, "ignore_merges");
  byte_tokens_.fill(kNoToken);
  StringIds vocab;
  for (const auto& [text, id] : json["vocab"].items()) vocab.emplace(text, id.get<std::int32_t>());
  ReadMerges(json["merges"], vocab, where);
  std::unordered_set<std::int32_t> made;
  for (const auto& [key, merge] : merges_) made.insert(merge.id);
  for (const auto& [text, id] : vocab) {
    const bool single = UnitAt(text, 0).bytes == text.size();
    const std::optional<std::string> bytes = byte_level ? BytesOfLetters(text) : text;
    if (bytes && byte_level && single) byte_tokens_[static_cast<unsigned char>((*bytes)[0])] = id;
    if (bytes && (ignore_merges || (!byte_level && single))) words_.emplace(*bytes, id);
    SWARR_CHECK((single && bytes) || made.contains(id) || added.contains(text) || ignore_merges, where, ": the token '",
                Excerpt(text), "' (id ", id, ") is made by no merge and is no added token; merges are missing");
  }
}

void Bpe::ReadMerges(const json& merges, const StringIds& vocab, const std::string& where) {
  SWARR_CHECK(merges.size() < std::numeric_limits<std::int32_t>::max(), where, ": there are too many merges");
  merges_.reserve(merges.size());
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const auto [left, right] = PartsOf(merges[rank], rank, where);
    const auto id_of = [&, &left = left, &right = right](const std::string& token) {
      const auto found = vocab.find(token);
      SWARR_CHECK(found != vocab.end(), where, ": merge ", rank, " ('", Excerpt(left), "' and '", Excerpt(right),
                  "') needs the token '", Excerpt(token), "', which is not in the vocabulary");
      return found->second;
    };
    const std::uint64_t key = KeyOf(id_of(left), id_of(right));
    const bool first = merges_.emplace(key, Merge{static_cast<std::int32_t>(rank), id_of(left + right)}).second;
    SWARR_CHECK(first, where, ": merge ", rank, " ('", Excerpt(left), "' and '", Excerpt(right),
                "') stands in the list before");
  }
}

const Bpe::Merge* Bpe::MergeOf(std::int32_t left, std::int32_t right) const {
  const auto found = merges_.find(KeyOf(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

std::int32_t Bpe::SymbolAt(std::string_view word, std::size_t at, std::size_t& bytes) const {
  bytes = byte_level_ ? 1 : UnitAt(word, at).bytes;
  return byte_level_ ? byte_tokens_[static_cast<unsigned char>(word[at])] : WholeWord(word.substr(at, bytes));
}

std::int32_t Bpe::WholeWord(std::string_view word) const {
  const auto found = words_.find(word);
  return found == words_.end() ? kNoToken : found->second;
}

std::size_t BpeEncoder::Append(std::string_view word, std::vector<std::int32_t>& ids) {
  const auto known = known_.find(word);
  if (known != known_.end()) {
    ids.insert(ids.end(), known->second.begin(), known->second.end());
    return word.size();
  }
  const std::size_t before = ids.size();
  if (const std::int32_t whole = bpe_.WholeWord(word); whole != Bpe::kNoToken) {
    ids.push_back(whole);
  } else {
    const std::size_t read = ReadSymbols(word);
    if (read < word.size()) return read;
    Merge();
    for (const Symbol& symbol : symbols_) {
      if (symbol.id != Bpe::kNoToken) ids.push_back(symbol.id);
    }
  }
  if (word.size() <= kKnownWordBytes && known_.size() < kKnownWords) {
    known_.emplace(word, std::vector<std::int32_t>(ids.begin() + static_cast<std::ptrdiff_t>(before), ids.end()));
  }
  return word.size();
}

// Sets symbols_ to the characters or bytes of `word`; returns where it ends or meets one that has no token.
std::size_t BpeEncoder::ReadSymbols(std::string_view word) {
  SWARR_CHECK(word.size() < std::numeric_limits<std::int32_t>::max(), "a word of ", word.size(), " bytes is too long");
  symbols_.clear();
  for (std::size_t at = 0, bytes = 0; at < word.size(); at += bytes) {
    const std::int32_t id = bpe_.SymbolAt(word, at, bytes);
    if (id == Bpe::kNoToken) return at;
    const auto index = static_cast<std::int32_t>(symbols_.size());
    symbols_.push_back({id, index - 1, index + 1});
  }
  if (!symbols_.empty()) symbols_.back().next = kNone;
  return word.size();
}

void BpeEncoder::Merge() {
  candidates_.clear();
  for (std::int32_t at = 0; at < static_cast<std::int32_t>(symbols_.size()); ++at) Propose(at);
  while (!candidates_.empty()) {
    std::pop_heap(candidates_.begin(), candidates_.end(), std::greater<>());
    const Candidate best = candidates_.back();
    candidates_.pop_back();
    Symbol& left = symbols_[static_cast<std::size_t>(best.at)];
    if (left.id != best.left || left.next == kNone) continue;  // merged since it was proposed
    Symbol& right = symbols_[static_cast<std::size_t>(left.next)];
    if (right.id != best.right) continue;
    left.id = best.merged;
    right.id = Bpe::kNoToken;
    left.next = right.next;
    if (left.next != kNone) symbols_[static_cast<std::size_t>(left.next)].previous = best.at;
    Propose(best.at);
    if (left.previous != kNone) Propose(left.previous);
  }
}

// Puts the pair that begins at symbol `at` on the heap, if it has a merge.
void BpeEncoder::Propose(std::int32_t at) {
  const Symbol& left = symbols_[static_cast<std::size_t>(at)];
  if (left.next == kNone) return;
  const std::int32_t right = symbols_[static_cast<std::size_t>(left.next)].id;
  const Bpe::Merge* merge = bpe_.MergeOf(left.id, right);
  if (merge == nullptr) return;
  candidates_.push_back({merge->rank, at, left.id, right, merge->id});
  std::push_heap(candidates_.begin(), candidates_.end(), std::greater<>());
}

}  // namespace swarr
