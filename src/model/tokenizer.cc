// SPDX-License-Identifier: Apache-2.0
#include "model/tokenizer.h"

#include <algorithm>
#include <mutex>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/check.h"
#include "base/files.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/component.h"
#include "text/pre_tokenizer.h"
#include "text/unicode.h"

namespace swarr {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;
using Ids = std::vector<std::int32_t>;

// Ids index a table, so a damaged file must not choose its size freely.
constexpr std::uint64_t kMaxId = 1 << 20;

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

// What a Tokenizer consists of, as read from tokenizer.json. A tokenizer holds it as const.
class Tokenizer::Parts {
 public:
  // Reads the content of a tokenizer.json. Throws, `source` first, on what is missing, contradictory or not supported.
  Parts(std::string text, std::string source) : json_text(std::move(text)), where(std::move(source)) {
    const auto root = ParseJson<json>(json_text, where);
    SWARR_CHECK(root.is_object(), where, " holds no JSON object");
    for (const char* component : {"truncation", "padding"}) {
      if (!IsOff(root, component)) RefuseComponent(where, component, root[component]);
    }
    ReadNormalizer(root);
    pre_tokenizer = std::make_unique<PreTokenizer>(root.value("pre_tokenizer", json()), where);
    const bool byte_decoder = ReadDecoder(root);
    SWARR_CHECK(root.contains("model") && root["model"].is_object(), where, ": the model is missing");
    ReadModel(root["model"]);
    const StringSet no_merge_needed =
        ReadAddedTokens(IsOff(root, "added_tokens") ? json::array() : root["added_tokens"]);
    bpe_ = std::make_unique<Bpe>(root["model"], pre_tokenizer->byte_level(), no_merge_needed, where);
    encoder_ = std::make_unique<BpeEncoder>(*bpe_);
    ReadPostProcessor(root);
    CompleteEntries(byte_decoder);
  }

  struct Entry {
    std::string piece;   // as in tokenizer.json
    std::string normal;  // of an added token: what is matched and, as in `tokenizers`, decoded
    std::string bytes;   // what it adds to a decoded text
    bool special = false;
  };
  const Entry& EntryOf(std::int32_t id) const {
    SWARR_CHECK(id >= 0 && static_cast<std::size_t>(id) < entries.size(), where, ": no token has the id ", id);
    return entries[static_cast<std::size_t>(id)];
  }

  // Calls use(encoder) with an encoder that nobody else uses meanwhile: the one that remembers the words of all texts,
  // or, while another thread has that one, a new one.
  template <class Use>
  void WithEncoder(const Use& use) const {
    if (const std::unique_lock lock(mutex_, std::try_to_lock); lock.owns_lock()) return use(*encoder_);
    BpeEncoder encoder(*bpe_);
    use(encoder);
  }

  std::string json_text;
  std::string where;  // opens the sentence of every error
  // In the order in which a text meets them.
  AddedTokens added, normalized_added;
  bool nfc = false;
  std::unique_ptr<PreTokenizer> pre_tokenizer;
  std::vector<std::int32_t> prefix;  // special tokens in front of a prompt
  // What ids mean.
  std::vector<Entry> entries;  // by id
  StringIds ids;
  std::string separator;  // goes between tokens when decoding

 private:
  void ReadNormalizer(const json& root) {
    for (const json& step : StepsOf(where, "normalizer", root.value("normalizer", json()), "normalizers")) {
      if (NameOf(step) != "NFC") RefuseComponent(where, "normalizer", step);
      NeedUnicodeLibraries(where + ": the normalizer NFC");
      nfc = true;
    }
  }

  // Whether the decoder turns letters into bytes.
  bool ReadDecoder(const json& root) {
    if (IsOff(root, "decoder")) {
      separator = " ";  // what `tokenizers` does without a decoder
      return false;
    }
    const std::vector<json> steps = StepsOf(where, "decoder", root["decoder"], "decoders");
    const std::string name = steps.size() == 1 ? NameOf(steps[0]) : "";
    if (name != "ByteLevel" && name != "Fuse") RefuseComponent(where, "decoder", root["decoder"]);
    return name == "ByteLevel";
  }

  void ReadModel(const json& model) {
    const auto is_off = [&](const char* setting) {
      SWARR_CHECK(IsOff(model, setting), where, ": the model's ", setting, " ", Excerpt(model[setting].dump()),
                  " is not supported");
    };
    // GPT-2's own file names no type. `tokenizers` takes a model with vocab and merges for BPE then.
    const bool typed = !IsOff(model, "type");
    SWARR_CHECK(!typed || NameOf(model) == "BPE", where, ": a model of type ", Excerpt(NameOf(model)),
                " is not supported; it must be BPE");
    SWARR_CHECK(typed || model.contains("merges"), where,
                ": the model has neither a type nor the merges of BPE; other models are not supported");
    SWARR_CHECK(model.contains("vocab") && model["vocab"].is_object(), where, ": the model's vocab is missing");
    SWARR_CHECK(model.contains("merges") && model["merges"].is_array(), where, ": the model's merges are missing");
    for (const char* setting : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) is_off(setting);
    std::size_t bytes = 0;  // that are tokens
    for (const auto& [piece, id] : model["vocab"].items()) {
      AddToken(piece, id);
      bytes += UnitAt(piece, 0).bytes == piece.size() && BytesOfLetters(piece).has_value();
    }
    // What becomes of the unknown (fuse_unk: of several together) has no meaning where each byte is a token.
    if (pre_tokenizer->byte_level() && bytes == 256) return;
    for (const char* setting : {"unk_token", "byte_fallback"}) is_off(setting);
  }

  // Returns the texts of the tokens.
  StringSet ReadAddedTokens(const json& tokens) {
    SWARR_CHECK(tokens.is_array(), where, ": added_tokens is no JSON array");
    std::vector<AddedToken> plain, normalized;
    StringSet pieces, contents;
    for (const auto& token : tokens) {
      SWARR_CHECK(
          token.is_object() && token.contains("content") && token["content"].is_string() && token.contains("id"), where,
          ": the added token ", Excerpt(token.dump()), " lacks a content or an id");
      const auto piece = token["content"].get<std::string>();
      for (const char* setting : {"single_word", "lstrip", "rstrip"}) {
        SWARR_CHECK(IsOff(token, setting), where, ": ", setting, " of the added token ",
                    Excerpt(token["content"].dump()), " is not supported");
      }
      AddToken(piece, token["id"]);
      pieces.insert(piece);
      const auto id = token["id"].get<std::int32_t>();
      const bool special = !IsOff(token, "special"), by_normal_form = !IsOff(token, "normalized");
      const std::string content = by_normal_form && nfc ? ToNfc(piece) : piece;
      SWARR_CHECK(contents.insert((by_normal_form ? "n" : "r") + content).second, where, ": two added tokens are '",
                  Excerpt(content), "'");
      Entry& entry = entries[static_cast<std::size_t>(id)];
      entry.special = special;
      entry.normal = content;
      (by_normal_form ? normalized : plain).push_back({content, id, special});
    }
    added = AddedTokens(std::move(plain));
    normalized_added = AddedTokens(std::move(normalized));
    return pieces;
  }

  void ReadPostProcessor(const json& root) {
    for (const json& step : StepsOf(where, "post_processor", root.value("post_processor", json()), "processors")) {
      if (NameOf(step) == "TemplateProcessing") {
        ReadTemplate(step);
      } else if (NameOf(step) != "ByteLevel") {  // which changes the places of tokens in the text, not the tokens
        RefuseComponent(where, "post_processor", step);
      }
    }
  }

  // The special tokens that a template puts in front of one text.
  void ReadTemplate(const json& json) {
    SWARR_CHECK(json.contains("single") && json["single"].is_array() && prefix.empty(), where,
                ": the post_processor TemplateProcessing must stand once and have the array single");
    const json::json_pointer id("/SpecialToken/id");
    bool text_seen = false;
    for (const auto& part : json["single"]) {
      SWARR_CHECK(!text_seen, where, ": the post_processor TemplateProcessing puts ", Excerpt(part.dump()),
                  " behind the text, which is not supported");
      text_seen = part.is_object() && part.contains("Sequence");
      if (text_seen) continue;
      SWARR_CHECK(part.contains(id) && part[id].is_string(), where, ": the post_processor TemplateProcessing holds ",
                  Excerpt(part.dump()), " where a SpecialToken or the Sequence is needed");
      const auto piece = part[id].get<std::string>();
      const auto found = ids.find(piece);
      SWARR_CHECK(found != ids.end(), where, ": the post_processor TemplateProcessing puts '", Excerpt(piece),
                  "' in front, which is no token");
      const json::json_pointer place = json::json_pointer("/special_tokens") / piece / "ids";
      SWARR_CHECK(!json.contains(place) || json[place] == json::array({found->second}), where,
                  ": the post_processor TemplateProcessing gives '", Excerpt(piece), "' the ids ",
                  Excerpt(json[place].dump()), ", but the vocabulary the id ", found->second);
      prefix.push_back(found->second);
    }
  }

  void AddToken(const std::string& piece, const json& id) {
    SWARR_CHECK(!piece.empty(), where, ": the empty text can't be a token");
    SWARR_CHECK(id.is_number_unsigned() && id.get<std::uint64_t>() < kMaxId, where, ": the token '", Excerpt(piece),
                "' has the id ", Excerpt(id.dump()), " where an integer from 0 to ", kMaxId - 1, " is needed");
    const auto index = id.get<std::size_t>();
    if (index >= entries.size()) entries.resize(index + 1);
    Entry& entry = entries[index];
    const bool exists = !entry.piece.empty();
    SWARR_CHECK(!exists || entry.piece == piece, where, ": the tokens '", Excerpt(entry.piece), "' and '",
                Excerpt(piece), "' have the same id ", index);
    const auto [known, is_new] = ids.emplace(piece, static_cast<std::int32_t>(index));
    SWARR_CHECK(is_new || exists, where, ": the token '", Excerpt(piece), "' has the ids ", known->second, " and ",
                index);
    entry.piece = piece;
  }

  // To be called when all tokens are known: no id may lack one, and each entry gets what it decodes to.
  void CompleteEntries(bool byte_decoder) {
    for (std::size_t id = 0; id < entries.size(); ++id) {
      Entry& entry = entries[id];
      SWARR_CHECK(!entry.piece.empty(), where, ": no token has the id ", id, ", although ids go up to ",
                  entries.size() - 1);
      const std::string& text = entry.normal.empty() ? entry.piece : entry.normal;
      entry.bytes = byte_decoder ? BytesOfLetters(text).value_or(text) : text;
    }
  }

  std::unique_ptr<Bpe> bpe_;
  std::unique_ptr<BpeEncoder> encoder_;  // under mutex_
  mutable std::mutex mutex_;
};

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
  SWARR_CHECK(found != parts_->ids.end(), parts_->where, ": there is no token '", Excerpt(token), "'");
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
  CheckUtf8(alphabet, "the alphabet of a character tokenizer");
  std::vector<std::string> characters;
  for (std::size_t at = 0; at < alphabet.size(); at += characters.back().size()) {
    characters.emplace_back(alphabet.substr(at, UnitAt(alphabet, at).bytes));
  }
  return MakeWordTokenizer(characters, end_of_text);
}

ordered_json Tokenizer::MakeWordTokenizer(std::span<const std::string> pieces, std::string_view end_of_text) {
  SWARR_CHECK(!end_of_text.empty(), "a tokenizer of words or characters needs a token for the end of text");
  auto json = ordered_json::parse(R"({
      "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
      "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": {"type": "Fuse"},
      "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": {}, "merges": []}})");
  ordered_json vocab = {{end_of_text, 0}};
  const auto cut_out = [&](std::string_view token, std::size_t id, bool special) {
    json["added_tokens"].push_back({{"id", id},
                                    {"content", token},
                                    {"single_word", false},
                                    {"lstrip", false},
                                    {"rstrip", false},
                                    {"normalized", false},
                                    {"special", special}});
  };
  cut_out(end_of_text, 0, /*special=*/true);
  for (const std::string& piece : pieces) {
    SWARR_CHECK(!piece.empty() && !vocab.contains(piece), "the list of a tokenizer's tokens holds ",
                piece.empty() ? "the empty text" : Concat("'", Excerpt(piece), "' twice"));
    const std::size_t id = vocab.size();
    vocab[piece] = id;
    if (UnitAt(piece, 0).bytes < piece.size()) cut_out(piece, id, /*special=*/false);
  }
  json["model"]["vocab"] = vocab;
  return json;
}

}  // namespace swarr
