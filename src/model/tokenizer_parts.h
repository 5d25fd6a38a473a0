// SPDX-License-Identifier: Apache-2.0
// What a Tokenizer consists of, as read from tokenizer.json. A tokenizer holds it as const.
#pragma once

#include <memory>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/pre_tokenizer.h"

namespace swarr {

class Tokenizer::Parts {
 public:
  // Reads the content of a tokenizer.json. Throws, `source` first, on what is missing, contradictory or not supported.
  Parts(std::string text, std::string source);

  struct Entry {
    std::string piece;   // as in tokenizer.json
    std::string normal;  // of an added token: what is matched and, as in `tokenizers`, decoded
    std::string bytes;   // what it adds to a decoded text
    bool special = false;
  };
  const Entry& EntryOf(std::int32_t id) const;

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
  void ReadNormalizer(const nlohmann::json& root);
  bool ReadDecoder(const nlohmann::json& root);  // whether it turns letters into bytes
  void ReadModel(const nlohmann::json& json);
  void ReadAddedTokens(const nlohmann::json& json);
  void ReadPostProcessor(const nlohmann::json& root);
  void ReadTemplate(const nlohmann::json& json);
  void AddToken(const std::string& piece, const nlohmann::json& id);
  void CompleteEntries(bool byte_decoder);

  std::unique_ptr<Bpe> bpe_;
  std::unique_ptr<BpeEncoder> encoder_;  // under mutex_
  mutable std::mutex mutex_;
};

}  // namespace swarr
