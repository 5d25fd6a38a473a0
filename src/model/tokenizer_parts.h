// SPDX-License-Identifier: Apache-2.0
// What a Tokenizer consists of, as read from tokenizer.json.
#pragma once

#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
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
  // The content of a tokenizer.json. Throws, `where` first, on what is missing, contradictory or not supported.
  Parts(std::string json_text, std::string where);

  struct Entry {
    std::string piece;   // as in tokenizer.json
    std::string normal;  // of an added token: what is matched and, as in `tokenizers`, decoded
    std::string bytes;   // what it adds to a decoded text
    bool special = false;
  };

  // The parts in the order in which a text meets them; then what ids mean.
  const std::string& json_text() const { return json_text_; }
  const std::string& where() const { return where_; }
  const AddedTokens& added(bool normalized) const { return normalized ? normalized_added_ : added_; }
  bool nfc() const { return nfc_; }
  const PreTokenizer& pre_tokenizer() const { return *pre_tokenizer_; }
  const std::vector<std::int32_t>& prefix() const { return prefix_; }
  const std::vector<Entry>& entries() const { return entries_; }
  const StringIds& ids() const { return ids_; }
  const std::string& separator() const { return separator_; }  // goes between tokens when decoding
  const Entry& EntryOf(std::int32_t id) const;

  // Calls use(encoder) with an encoder that nobody else uses meanwhile: the one that remembers the words of all texts,
  // or, while another thread has that, a new one.
  template <class Use>
  void WithEncoder(const Use& use) const {
    if (const std::unique_lock lock(mutex_, std::try_to_lock); lock.owns_lock()) return use(*encoder_);
    BpeEncoder encoder(*bpe_);
    use(encoder);
  }

 private:
  void ReadNormalizer(const nlohmann::json& root);
  void ReadDecoder(const nlohmann::json& root);
  void ReadModel(const nlohmann::json& json);
  void ReadAddedTokens(const nlohmann::json& json);
  void ReadPostProcessor(const nlohmann::json& root);
  void ReadTemplate(const nlohmann::json& json);
  void AddToken(const std::string& piece, const nlohmann::json& id);
  void Complete();

  std::string json_text_;
  std::string where_;
  bool nfc_ = false;
  bool byte_decoder_ = false;
  std::string separator_;
  std::unique_ptr<PreTokenizer> pre_tokenizer_;
  std::vector<Entry> entries_;  // by id
  StringIds ids_;
  AddedTokens added_, normalized_added_;
  std::vector<std::int32_t> prefix_;
  std::unique_ptr<Bpe> bpe_;
  std::unique_ptr<BpeEncoder> encoder_;  // under mutex_
  mutable std::mutex mutex_;
};

}  // namespace swarr
