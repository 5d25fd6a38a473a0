// SPDX-License-Identifier: Apache-2.0
// Text to token ids and back, as Hugging Face `tokenizers` does it from a tokenizer.json.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace swarr {

// A BPE tokenizer without merges, which makes every character a token, and added tokens (end of text and the like) that
// are cut out of the text first. Components of tokenizer.json beyond that are refused by name, never skipped.
class Tokenizer {
 public:
  // Reads dir/tokenizer.json.
  static Tokenizer Load(const std::filesystem::path& dir);
  // `where` opens the sentence of every error.
  Tokenizer(const nlohmann::ordered_json& json, std::string where);

  // The ids of `text`. Added tokens are matched in the text as it is, leftmost first and there the longest; the rest is
  // split into characters. Throws on a character that is not in the vocabulary, naming it (`tokenizers` drops it
  // silently), and on invalid UTF-8.
  std::vector<std::int32_t> Encode(std::string_view text) const;
  // The text of `ids`; skip_special leaves special tokens out. Throws on an id without a token.
  std::string Decode(const std::vector<std::int32_t>& ids, bool skip_special) const;

  // The token of `id`. Throws if there is none.
  const std::string& Piece(std::int32_t id) const;
  // The id of a token. Throws if there is none.
  std::int32_t IdOf(std::string_view token) const;
  // One more than the largest id.
  int vocab_size() const { return static_cast<int>(entries_.size()); }
  // The content of tokenizer.json, byte for byte, for writing it beside a model.
  const std::string& json_text() const { return json_text_; }

  // An ordinary tokenizer.json: `end_of_text` is the special token 0, the characters of `alphabet` follow in order.
  static nlohmann::ordered_json MakeCharacterTokenizer(std::string_view alphabet, std::string_view end_of_text);

 private:
  struct Entry {
    std::string text;
    bool exists = false;
    bool special = false;
  };
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };

  Tokenizer(std::string json_text, std::string where);
  void ReadModel(const nlohmann::json& json);
  void ReadAddedTokens(const nlohmann::json& json);
  void Add(const std::string& text, const nlohmann::json& id, bool special);
  std::string_view AddedTokenAt(std::string_view text, std::size_t at) const;
  void EncodeCharacters(std::string_view text, std::size_t begin, std::size_t end,
                        std::vector<std::int32_t>& ids) const;

  std::string json_text_;
  std::string where_;
  std::vector<Entry> entries_;                                                // by id
  std::unordered_map<std::string, std::int32_t, Hash, std::equal_to<>> ids_;  // by text
  std::vector<std::string> added_;                                            // longest first
  std::string separator_;                                                     // goes between tokens when decoding
};

}  // namespace swarr
