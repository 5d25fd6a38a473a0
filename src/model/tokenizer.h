// SPDX-License-Identifier: Apache-2.0
// Text to token ids and back, as Hugging Face `tokenizers` does it from a tokenizer.json (docs/tokenizers.md).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/unicode.h"

namespace swarr {

// Whether special tokens that are written in a text become those tokens, or are text like any other.
enum class SpecialTokens { kRecognised, kAsText };

// BPE over bytes (the GPT-2, SmolLM2, Qwen2, Qwen3 and Llama-3 families) or over characters (the built-in tasks,
// without merges, so that every character is a token; their words are added tokens). Added tokens (end of text and the
// like) are cut out of the text first. A component of tokenizer.json beyond those that docs/tokenizers.md lists is
// refused by name, never skipped. Copies share one vocabulary; every function may be called from several threads at
// once.
class Tokenizer {
 public:
  // Reads dir/tokenizer.json.
  static Tokenizer Load(const std::filesystem::path& dir);
  // `where` opens the sentence of every error.
  Tokenizer(const nlohmann::ordered_json& json, std::string where);
  // The same tokenizer for a model with the ids 0 to vocab - 1. The model may have ids that the tokenizer lacks (Qwen
  // pads its embedding); they can be sampled, and decoding leaves them out, as `tokenizers` does. Throws if
  // vocab < vocab_size().
  Tokenizer ForModel(int vocab) const;

  // The ids of `text`. Added tokens are matched in the text as it is (those marked `normalized`: in its normal form),
  // leftmost first and there the longest; the rest is brought into normal form, cut into words and merged. Throws on a
  // character that is not in the vocabulary, naming it (`tokenizers` drops it silently), and on invalid UTF-8.
  std::vector<std::int32_t> Encode(std::string_view text, SpecialTokens special = SpecialTokens::kRecognised) const;
  // What a model is prompted with: the ids of `text` after the special tokens that the post_processor puts in front of
  // a text (Llama-3's <|begin_of_text|>), unless the text begins with them already, as a rendered chat does.
  std::vector<std::int32_t> EncodePrompt(std::string_view text) const;
  // The text of `ids`; skip_special leaves special tokens out. Bytes that are no UTF-8 become U+FFFD (Utf8Joiner).
  // Throws on an id that is neither a token's nor one that ForModel allows.
  std::string Decode(const std::vector<std::int32_t>& ids, bool skip_special) const;

  // The token of `id` as tokenizer.json spells it. Throws if there is none.
  const std::string& Piece(std::int32_t id) const;
  // The id of a token. Throws if there is none.
  std::int32_t IdOf(std::string_view token) const;
  // The number of tokens: ids are 0 to vocab_size() - 1.
  int vocab_size() const;
  // The content of tokenizer.json, byte for byte, for writing it beside a model.
  const std::string& json_text() const;

  // An ordinary tokenizer.json: `end_of_text` is the special token 0, `pieces` follow in order. Those of several
  // characters, with a space in front where they have one in texts, are added tokens as well: BPE without merges leaves
  // a text in characters, while added tokens are cut out of it first, and no pre_tokenizer is needed.
  static nlohmann::ordered_json MakeWordTokenizer(std::span<const std::string> pieces, std::string_view end_of_text);
  // With the characters of `alphabet` as pieces.
  static nlohmann::ordered_json MakeCharacterTokenizer(std::string_view alphabet, std::string_view end_of_text);

 private:
  friend class TextStream;
  class Parts;
  Tokenizer(std::string json_text, std::string where);

  std::shared_ptr<const Parts> parts_;
  int model_vocab_;
};

// Decodes token by token, for showing text as it is generated. What Add and, at the end, Finish return is UTF-8 each
// time, and together it is what Decode makes of all the ids.
class TextStream {
 public:
  TextStream(const Tokenizer& tokenizer, bool skip_special);
  // The text that is complete with `id`; the first bytes of a character wait for the rest. Throws as Decode does.
  std::string Add(std::int32_t id);
  std::string Finish() { return joiner_.Finish(); }

 private:
  std::shared_ptr<const Tokenizer::Parts> parts_;
  int model_vocab_;
  bool skip_special_;
  bool first_ = true;
  Utf8Joiner joiner_;
};

}  // namespace swarr
