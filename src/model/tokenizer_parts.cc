// SPDX-License-Identifier: Apache-2.0
#include "model/tokenizer_parts.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "tensor/check.h"
#include "tensor/files.h"
#include "text/component.h"

namespace swarr {
namespace {

using nlohmann::json;

// Ids index a table, so a damaged file must not choose its size freely.
constexpr std::uint64_t kMaxId = 1 << 20;

// A member of `object`, or null.
json Member(const json& object, const char* key) { return object.contains(key) ? object[key] : json(); }

}  // namespace

Tokenizer::Parts::Parts(std::string text, std::string source) : json_text(std::move(text)), where(std::move(source)) {
  const auto root = ParseJson<json>(json_text, where);
  SWARR_CHECK(root.is_object(), where, " holds no JSON object");
  for (const char* component : {"truncation", "padding"}) {
    if (!IsOff(root, component)) RefuseComponent(where, component, root[component]);
  }
  ReadNormalizer(root);
  pre_tokenizer = std::make_unique<PreTokenizer>(Member(root, "pre_tokenizer"), where);
  const bool byte_decoder = ReadDecoder(root);
  SWARR_CHECK(root.contains("model") && root["model"].is_object(), where, ": the model is missing");
  ReadModel(root["model"]);
  StringSet no_merge_needed;
  if (!IsOff(root, "added_tokens")) {
    ReadAddedTokens(root["added_tokens"]);
    for (const auto& token : root["added_tokens"]) no_merge_needed.insert(token["content"].get<std::string>());
  }
  bpe_ = std::make_unique<Bpe>(root["model"], pre_tokenizer->byte_level(), no_merge_needed, where);
  encoder_ = std::make_unique<BpeEncoder>(*bpe_);
  ReadPostProcessor(root);
  CompleteEntries(byte_decoder);
}

void Tokenizer::Parts::ReadNormalizer(const json& root) {
  for (const json& step : StepsOf(where, "normalizer", Member(root, "normalizer"), "normalizers")) {
    if (NameOf(step) != "NFC") RefuseComponent(where, "normalizer", step);
    NeedUnicodeLibraries(where + ": the normalizer NFC");
    nfc = true;
  }
}

bool Tokenizer::Parts::ReadDecoder(const json& root) {
  if (IsOff(root, "decoder")) {
    separator = " ";  // what `tokenizers` does without a decoder
    return false;
  }
  const std::string name = NameOf(root["decoder"]);
  if (name != "ByteLevel" && name != "Fuse") RefuseComponent(where, "decoder", root["decoder"]);
  return name == "ByteLevel";
}

void Tokenizer::Parts::ReadModel(const json& json) {
  SWARR_CHECK(NameOf(json) == "BPE", where, ": a model of type ", NameOf(json), " is not supported; it must be BPE");
  for (const char* setting :
       {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback"}) {
    SWARR_CHECK(IsOff(json, setting), where, ": the model's ", setting, " ", json[setting].dump(), " is not supported");
  }
  SWARR_CHECK(json.contains("vocab") && json["vocab"].is_object(), where, ": the model's vocab is missing");
  SWARR_CHECK(json.contains("merges") && json["merges"].is_array(), where, ": the model's merges are missing");
  for (const auto& [piece, id] : json["vocab"].items()) AddToken(piece, id);
}

void Tokenizer::Parts::ReadAddedTokens(const json& json) {
  SWARR_CHECK(json.is_array(), where, ": added_tokens is no JSON array");
  std::vector<AddedToken> plain, normalized;
  StringSet contents;
  for (const auto& token : json) {
    SWARR_CHECK(token.is_object() && token.contains("content") && token["content"].is_string() && token.contains("id"),
                where, ": the added token ", token.dump(), " lacks a content or an id");
    const auto piece = token["content"].get<std::string>();
    for (const char* setting : {"single_word", "lstrip", "rstrip"}) {
      SWARR_CHECK(IsOff(token, setting), where, ": ", setting, " of the added token ", token["content"].dump(),
                  " is not supported");
    }
    AddToken(piece, token["id"]);
    const auto id = token["id"].get<std::int32_t>();
    const bool special = !IsOff(token, "special");
    const bool by_normal_form = !IsOff(token, "normalized");
    const std::string content = by_normal_form && nfc ? ToNfc(piece) : piece;
    SWARR_CHECK(contents.insert((by_normal_form ? "n" : "r") + content).second, where, ": two added tokens are '",
                content, "'");
    Entry& entry = entries[static_cast<std::size_t>(id)];
    entry.special = special;
    entry.normal = content;
    (by_normal_form ? normalized : plain).push_back({content, id, special});
  }
  added = AddedTokens(std::move(plain));
  normalized_added = AddedTokens(std::move(normalized));
}

void Tokenizer::Parts::AddToken(const std::string& piece, const json& id) {
  SWARR_CHECK(!piece.empty(), where, ": the empty text can't be a token");
  SWARR_CHECK(id.is_number_unsigned() && id.get<std::uint64_t>() < kMaxId, where, ": the token '", piece,
              "' has the id ", id.dump(), " where an integer from 0 to ", kMaxId - 1, " is needed");
  const auto index = id.get<std::size_t>();
  if (index >= entries.size()) entries.resize(index + 1);
  Entry& entry = entries[index];
  const bool exists = !entry.piece.empty();
  SWARR_CHECK(!exists || entry.piece == piece, where, ": the tokens '", entry.piece, "' and '", piece,
              "' have the same id ", index);
  const auto [known, is_new] = ids.emplace(piece, static_cast<std::int32_t>(index));
  SWARR_CHECK(is_new || exists, where, ": the token '", piece, "' has the ids ", known->second, " and ", index);
  entry.piece = piece;
}

void Tokenizer::Parts::ReadPostProcessor(const json& root) {
  for (const json& step : StepsOf(where, "post_processor", Member(root, "post_processor"), "processors")) {
    if (NameOf(step) == "TemplateProcessing") {
      ReadTemplate(step);
    } else if (NameOf(step) != "ByteLevel") {  // which changes the places of tokens in the text, not the tokens
      RefuseComponent(where, "post_processor", step);
    }
  }
}

// The special tokens that a template puts in front of one text.
void Tokenizer::Parts::ReadTemplate(const json& json) {
  SWARR_CHECK(json.contains("single") && json["single"].is_array() && prefix.empty(), where,
              ": the post_processor TemplateProcessing must stand once and have the array single");
  bool text_seen = false;
  for (const auto& part : json["single"]) {
    SWARR_CHECK(!text_seen, where, ": the post_processor TemplateProcessing puts ", part.dump(),
                " behind the text, which is not supported");
    text_seen = part.is_object() && part.contains("Sequence");
    if (text_seen) continue;
    SWARR_CHECK(part.is_object() && part.contains("SpecialToken") && part["SpecialToken"].is_object() &&
                    part["SpecialToken"].contains("id") && part["SpecialToken"]["id"].is_string(),
                where, ": the post_processor TemplateProcessing holds ", part.dump(),
                " where a SpecialToken or the Sequence is needed");
    const auto piece = part["SpecialToken"]["id"].get<std::string>();
    const auto found = ids.find(piece);
    SWARR_CHECK(found != ids.end(), where, ": the post_processor TemplateProcessing puts '", piece,
                "' in front, which is no token");
    prefix.push_back(found->second);
  }
}

// To be called when all tokens are known: no id may lack one, and each entry gets what it decodes to.
void Tokenizer::Parts::CompleteEntries(bool byte_decoder) {
  for (std::size_t id = 0; id < entries.size(); ++id) {
    Entry& entry = entries[id];
    SWARR_CHECK(!entry.piece.empty(), where, ": no token has the id ", id, ", although ids go up to ",
                entries.size() - 1);
    const std::string& text = entry.normal.empty() ? entry.piece : entry.normal;
    entry.bytes = byte_decoder ? BytesOfLetters(text).value_or(text) : text;
  }
}

const Tokenizer::Parts::Entry& Tokenizer::Parts::EntryOf(std::int32_t id) const {
  SWARR_CHECK(id >= 0 && static_cast<std::size_t>(id) < entries.size(), where, ": no token has the id ", id);
  return entries[static_cast<std::size_t>(id)];
}

}  // namespace swarr
