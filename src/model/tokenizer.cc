// SPDX-License-Identifier: Apache-2.0
#include "model/tokenizer.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

#include "tensor/check.h"
#include "tensor/files.h"

namespace swarr {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

// Ids index a table, so a damaged file must not choose its size freely.
constexpr std::uint64_t kMaxId = 1 << 20;

struct Character {
  char32_t code = 0;
  std::size_t bytes = 0;  // 0: this is no UTF-8
};

// The character that starts at byte `at` of `text` (at < text.size()), by RFC 3629: no overlong forms, no surrogates.
Character CharacterAt(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const std::size_t bytes = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || bytes > text.size() - at) return {};
  char32_t code = lead & (0x7Fu >> bytes);
  for (std::size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {};
    code = code << 6 | (byte(i) & 0x3Fu);
  }
  constexpr std::array<char32_t, 5> kSmallest = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  return code < kSmallest[bytes] || code > 0x10FFFF || surrogate ? Character{} : Character{code, bytes};
}

// The same; `where` opens the sentence if this is no UTF-8.
Character CheckedCharacterAt(std::string_view text, std::size_t at, const std::string& where) {
  const Character c = CharacterAt(text, at);
  SWARR_CHECK(c.bytes > 0, where, ": the text is no UTF-8 at byte ", at);
  return c;
}

// "'z' (U+007A)", control characters without the quotes.
std::string Describe(std::string_view text, char32_t code) {
  std::array<char, 16> number{};
  static_cast<void>(std::snprintf(number.data(), number.size(), "U+%04X", static_cast<unsigned>(code)));
  const bool control = code < 0x20 || (code >= 0x7F && code < 0xA0);
  return control ? number.data() : Concat("'", text, "' (", number.data(), ")");
}

// Whether a setting is absent or says no.
bool IsOff(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null() || *found == false) return true;
  return found->is_string() && found->get_ref<const std::string&>().empty();
}

// The name of a component: its type, or what stands there instead.
std::string NameOf(const json& component) {
  const bool typed = component.is_object() && component.contains("type") && component["type"].is_string();
  return typed ? component["type"].get<std::string>() : component.dump();
}

}  // namespace

Tokenizer Tokenizer::Load(const std::filesystem::path& dir) {
  const std::filesystem::path path = dir / "tokenizer.json";
  return Tokenizer(ReadFile(path), path.string());
}

Tokenizer::Tokenizer(const ordered_json& json, std::string where) : Tokenizer(json.dump(2) + "\n", std::move(where)) {}

Tokenizer::Tokenizer(std::string json_text, std::string where)
    : json_text_(std::move(json_text)), where_(std::move(where)) {
  const auto root = ParseJson<json>(json_text_, where_);
  SWARR_CHECK(root.is_object(), where_, " holds no JSON object");
  for (const char* component : {"truncation", "padding", "normalizer", "pre_tokenizer", "post_processor"}) {
    SWARR_CHECK(IsOff(root, component), where_, ": the ", component, " ", NameOf(root[component]), " is not supported");
  }
  if (IsOff(root, "decoder")) {
    separator_ = " ";  // what `tokenizers` does without a decoder
  } else {
    SWARR_CHECK(NameOf(root["decoder"]) == "Fuse", where_, ": the decoder ", NameOf(root["decoder"]),
                " is not supported");
  }
  SWARR_CHECK(root.contains("model") && root["model"].is_object(), where_, ": the model is missing");
  ReadModel(root["model"]);
  if (!IsOff(root, "added_tokens")) ReadAddedTokens(root["added_tokens"]);
}

void Tokenizer::ReadModel(const json& json) {
  SWARR_CHECK(NameOf(json) == "BPE", where_, ": a model of type ", NameOf(json), " is not supported; it must be BPE");
  for (const char* setting : {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
                              "byte_fallback", "ignore_merges"}) {
    SWARR_CHECK(IsOff(json, setting), where_, ": the model's ", setting, " ", json[setting].dump(),
                " is not supported");
  }
  SWARR_CHECK(json.contains("vocab") && json["vocab"].is_object(), where_, ": the model's vocab is missing");
  SWARR_CHECK(json.contains("merges") && json["merges"].is_array(), where_, ": the model's merges are missing");
  SWARR_CHECK(json["merges"].empty(), where_, ": BPE with merges is not supported; only characters are tokens so far");
  for (const auto& [text, id] : json["vocab"].items()) Add(text, id, false);
}

void Tokenizer::ReadAddedTokens(const json& json) {
  SWARR_CHECK(json.is_array(), where_, ": added_tokens is no JSON array");
  for (const auto& token : json) {
    SWARR_CHECK(token.is_object() && token.contains("content") && token["content"].is_string() && token.contains("id"),
                where_, ": the added token ", token.dump(), " lacks a content or an id");
    for (const char* setting : {"single_word", "lstrip", "rstrip", "normalized"}) {
      SWARR_CHECK(IsOff(token, setting), where_, ": ", setting, " of the added token ", token["content"].dump(),
                  " is not supported");
    }
    const auto text = token["content"].get<std::string>();
    Add(text, token["id"], !IsOff(token, "special"));
    added_.push_back(text);
  }
  const auto longer = [](const std::string& a, const std::string& b) { return a.size() > b.size(); };
  std::stable_sort(added_.begin(), added_.end(), longer);
}

void Tokenizer::Add(const std::string& text, const json& id, bool special) {
  SWARR_CHECK(!text.empty(), where_, ": the empty text can't be a token");
  SWARR_CHECK(id.is_number_unsigned() && id.get<std::uint64_t>() < kMaxId, where_, ": the token '", text,
              "' has the id ", id.dump(), " where an integer from 0 to ", kMaxId - 1, " is needed");
  const auto index = id.get<std::size_t>();
  if (index >= entries_.size()) entries_.resize(index + 1);
  Entry& entry = entries_[index];
  SWARR_CHECK(!entry.exists || entry.text == text, where_, ": the tokens '", entry.text, "' and '", text,
              "' have the same id ", index);
  const auto [known, added] = ids_.emplace(text, static_cast<std::int32_t>(index));
  SWARR_CHECK(added || entry.exists, where_, ": the token '", text, "' has the ids ", known->second, " and ", index);
  entry = {text, true, special};
}

std::string_view Tokenizer::AddedTokenAt(std::string_view text, std::size_t at) const {
  const std::string_view rest = text.substr(at);
  for (const std::string& token : added_) {
    if (rest.starts_with(token)) return token;
  }
  return {};
}

std::vector<std::int32_t> Tokenizer::Encode(std::string_view text) const {
  std::vector<std::int32_t> ids;
  std::size_t begin = 0;  // of the text since the last added token
  for (std::size_t at = 0; at < text.size();) {
    const std::string_view token = AddedTokenAt(text, at);
    if (token.empty()) {
      ++at;
      continue;
    }
    EncodeCharacters(text, begin, at, ids);
    ids.push_back(IdOf(token));
    begin = at += token.size();
  }
  EncodeCharacters(text, begin, text.size(), ids);
  return ids;
}

void Tokenizer::EncodeCharacters(std::string_view text, std::size_t begin, std::size_t end,
                                 std::vector<std::int32_t>& ids) const {
  for (std::size_t at = begin; at < end;) {
    const Character c = CheckedCharacterAt(text, at, where_);
    const std::string_view piece = text.substr(at, c.bytes);
    const auto found = ids_.find(piece);
    SWARR_CHECK(found != ids_.end(), where_, ": the character ", Describe(piece, c.code), " at byte ", at,
                " of the text is not in the vocabulary");
    ids.push_back(found->second);
    at += c.bytes;
  }
}

std::string Tokenizer::Decode(const std::vector<std::int32_t>& ids, bool skip_special) const {
  std::string text;
  bool first = true;
  for (std::int32_t id : ids) {
    const std::string& piece = Piece(id);
    if (skip_special && entries_[static_cast<std::size_t>(id)].special) continue;
    if (!first) text += separator_;
    text += piece;
    first = false;
  }
  return text;
}

const std::string& Tokenizer::Piece(std::int32_t id) const {
  SWARR_CHECK(id >= 0 && id < vocab_size() && entries_[static_cast<std::size_t>(id)].exists, where_,
              ": no token has the id ", id);
  return entries_[static_cast<std::size_t>(id)].text;
}

std::int32_t Tokenizer::IdOf(std::string_view token) const {
  const auto found = ids_.find(token);
  SWARR_CHECK(found != ids_.end(), where_, ": there is no token '", token, "'");
  return found->second;
}

ordered_json Tokenizer::MakeCharacterTokenizer(std::string_view alphabet, std::string_view end_of_text) {
  SWARR_CHECK(!end_of_text.empty(), "a character tokenizer needs a token for the end of text");
  ordered_json vocab = {{end_of_text, 0}};
  for (std::size_t at = 0; at < alphabet.size();) {
    const Character c = CheckedCharacterAt(alphabet, at, "the alphabet of a character tokenizer");
    const std::string piece(alphabet.substr(at, c.bytes));
    SWARR_CHECK(!vocab.contains(piece), "the alphabet of a character tokenizer holds ", Describe(piece, c.code),
                " twice");
    const std::size_t id = vocab.size();
    vocab[piece] = id;
    at += c.bytes;
  }
  const ordered_json end = {{"id", 0},         {"content", end_of_text}, {"single_word", false}, {"lstrip", false},
                            {"rstrip", false}, {"normalized", false},    {"special", true}};
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", ordered_json::array({end})},
          {"normalizer", nullptr},
          {"pre_tokenizer", nullptr},
          {"post_processor", nullptr},
          {"decoder", {{"type", "Fuse"}}},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", false},
            {"vocab", vocab},
            {"merges", ordered_json::array()}}}};
}

}  // namespace swarr
