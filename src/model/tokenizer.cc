// SPDX-License-Identifier: Apache-2.0
#include "model/tokenizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "model/tokenizer_parts.h"
#include "tensor/check.h"
#include "tensor/files.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;

using Ids = std::vector<std::int32_t>;

// Calls piece(part of the text) and token(added token) for what added tokens cut `text` into, in order.
template <class Piece, class Token>
void CutByTokens(const AddedTokens& tokens, std::string_view text, SpecialTokens special, const Piece& piece,
                 const Token& token) {
  std::size_t begin = 0;  // of the text since the last token
  std::size_t from = 0;
  while (const auto match = tokens.Find(text, from)) {
    from = match->begin + match->token->content.size();
    if (match->token->special && special == SpecialTokens::kAsText) continue;
    if (match->begin > begin) piece(text.substr(begin, match->begin - begin));
    token(*match->token);
    begin = from;
  }
  if (begin < text.size()) piece(text.substr(begin));
}

}  // namespace

Tokenizer Tokenizer::Load(const std::filesystem::path& dir) {
  const std::filesystem::path path = dir / "tokenizer.json";
  return Tokenizer(ReadFile(path, kMostJsonBytes), path.string());
}

Tokenizer::Tokenizer(const ordered_json& json, std::string where) : Tokenizer(json.dump(2) + "\n", std::move(where)) {}

Tokenizer::Tokenizer(std::string json_text, std::string where)
    : parts_(std::make_shared<const Parts>(std::move(json_text), std::move(where))), model_vocab_(vocab_size()) {}

Tokenizer Tokenizer::ForModel(int vocab) const {
  SWARR_CHECK(vocab_size() <= vocab, parts_->where, " has ids up to ", vocab_size() - 1,
              ", but config.json has a vocab_size of ", vocab, "; take both from the same model");
  Tokenizer same = *this;
  same.model_vocab_ = vocab;
  return same;
}

Ids Tokenizer::Encode(std::string_view text, SpecialTokens special) const {
  const Parts& parts = *parts_;
  CheckUtf8(text, parts.where);
  Ids ids;
  const auto add_token = [&](const AddedToken& token) { ids.push_back(token.id); };
  parts.WithEncoder([&](BpeEncoder& encoder) {
    const auto add_words = [&](std::string_view whole, std::string_view piece) {
      parts.pre_tokenizer->Split(piece, [&](std::string_view word) {
        const std::size_t done = encoder.Append(word, ids);
        if (done == word.size()) return;
        std::size_t at = static_cast<std::size_t>(word.data() - whole.data()) + done;
        while ((static_cast<unsigned char>(whole[at]) & 0xC0) == 0x80) --at;  // to where the character begins
        throw Error(Concat(parts.where, ": the character ", DescribeCharacter(whole, at), " at byte ", at,
                           " of the text is not in the vocabulary"));
      });
    };
    const auto add_piece = [&](std::string_view piece) {
      const std::string composed = parts.nfc ? ToNfc(piece) : std::string();
      const std::string_view normal = parts.nfc ? composed : piece;
      // Places in errors are those of the text as it was given, where it is what is encoded.
      const std::string_view whole = parts.nfc ? normal : text;
      CutByTokens(
          parts.normalized_added, normal, special, [&](std::string_view rest) { add_words(whole, rest); }, add_token);
    };
    CutByTokens(parts.added, text, special, add_piece, add_token);
  });
  return ids;
}

Ids Tokenizer::EncodePrompt(std::string_view text) const {
  Ids ids = Encode(text);
  const Ids& prefix = parts_->prefix;
  const bool begun = ids.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), ids.begin());
  if (!begun) ids.insert(ids.begin(), prefix.begin(), prefix.end());
  return ids;
}

std::string Tokenizer::Decode(const Ids& ids, bool skip_special) const {
  TextStream stream(*this, skip_special);
  std::string text;
  for (const std::int32_t id : ids) text += stream.Add(id);
  return text + stream.Finish();
}

const std::string& Tokenizer::Piece(std::int32_t id) const { return parts_->EntryOf(id).piece; }

std::int32_t Tokenizer::IdOf(std::string_view token) const {
  const auto found = parts_->ids.find(token);
  SWARR_CHECK(found != parts_->ids.end(), parts_->where, ": there is no token '", token, "'");
  return found->second;
}

int Tokenizer::vocab_size() const { return static_cast<int>(parts_->entries.size()); }

const std::string& Tokenizer::json_text() const { return parts_->json_text; }

TextStream::TextStream(const Tokenizer& tokenizer, bool skip_special)
    : parts_(tokenizer.parts_), model_vocab_(tokenizer.model_vocab_), skip_special_(skip_special) {}

std::string TextStream::Add(std::int32_t id) {
  if (id >= static_cast<std::int32_t>(parts_->entries.size()) && id < model_vocab_) return {};
  const Tokenizer::Parts::Entry& entry = parts_->EntryOf(id);
  if (skip_special_ && entry.special) return {};
  std::string text = std::exchange(first_, false) ? std::string() : joiner_.Add(parts_->separator);
  return text + joiner_.Add(entry.bytes);
}

ordered_json Tokenizer::MakeCharacterTokenizer(std::string_view alphabet, std::string_view end_of_text) {
  SWARR_CHECK(!end_of_text.empty(), "a character tokenizer needs a token for the end of text");
  CheckUtf8(alphabet, "the alphabet of a character tokenizer");
  ordered_json vocab = {{end_of_text, 0}};
  for (std::size_t at = 0; at < alphabet.size();) {
    const std::size_t bytes = UnitAt(alphabet, at).bytes;
    const std::string piece(alphabet.substr(at, bytes));
    SWARR_CHECK(!vocab.contains(piece), "the alphabet of a character tokenizer holds ", DescribeCharacter(alphabet, at),
                " twice");
    const std::size_t id = vocab.size();
    vocab[piece] = id;
    at += bytes;
  }
  auto json = ordered_json::parse(R"({
      "version": "1.0", "truncation": null, "padding": null,
      "added_tokens": [{"id": 0, "content": "", "single_word": false, "lstrip": false, "rstrip": false,
                        "normalized": false, "special": true}],
      "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": {"type": "Fuse"},
      "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": {}, "merges": []}})");
  json["added_tokens"][0]["content"] = end_of_text;
  json["model"]["vocab"] = vocab;
  return json;
}

}  // namespace swarr
