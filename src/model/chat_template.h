// SPDX-License-Identifier: Apache-2.0
// Conversations as the texts that instruction-tuned models were trained on. Hugging Face states the format as a Jinja
// program in tokenizer_config.json or chat_template.jinja. This program knows the formats below by name and reads the
// Jinja text only to recognise one of them.
#pragma once

#include <array>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "base/names.h"
#include "model/tokenizer.h"

namespace swarr {

struct Message {
  std::string role;  // system, user or assistant
  std::string content;
  bool operator==(const Message&) const = default;
};

enum class ChatFormat {
  kPlain,   // the one user message as it stands; a completion goes on where it ends
  kChatml,  // <|im_start|>ROLE\nCONTENT<|im_end|>\n for every turn (SmolLM2, Qwen2.5)
  kQwen3,   // ChatML; the answer follows an empty <think> block, which is part of the prompt (enable_thinking off)
  kQwen3Thinking,  // ChatML; the model writes the <think> block itself
};
template <>
inline constexpr std::array kNames<ChatFormat> = {"plain", "chatml", "qwen3", "qwen3-thinking"};

struct ChatTemplate {
  ChatFormat format = ChatFormat::kPlain;
  std::string system;  // the content of the system turn where a conversation brings none; empty: no such turn

  // The text up to where the assistant's next turn begins. Thoughts (<think>...</think>) of earlier turns are left out
  // in the qwen3 formats. Throws Error for roles and orders that the format can't express: plain takes one user message
  // alone; elsewhere a system message comes first, if at all.
  std::string Prompt(std::span<const Message> conversation) const;
  // The assistant's turn that follows Prompt, without the token that ends it.
  std::string Completion(std::string_view content) const;
  // The token that ends a turn; empty for plain, where the model's end of text does.
  std::string_view end() const;
  // A token of the format that occurs in `text`; empty if none does. Such a text would forge turns.
  std::string_view FindToken(std::string_view text) const;
};

// `name` is a format's, or auto: the format of the model in `dir`. Every format but plain comes with the model's
// default system line. auto is plain for a model without a template. For a template that is none of these it throws
// Error, rather than prompt a model as it was not trained. An empty `dir` is no model. Throws UsageError for other
// names.
ChatTemplate ChatTemplateByName(const std::string& name, const std::filesystem::path& dir);

// The id of `token`, which `tokenizer` must know as one token. Throws Error otherwise.
std::int32_t SingleToken(const Tokenizer& tokenizer, std::string_view token);

}  // namespace swarr
