// SPDX-License-Identifier: Apache-2.0
#include "model/chat_template.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "base/check.h"
#include "base/files.h"

namespace swarr {
namespace {

using nlohmann::json;

constexpr std::string_view kStart = "<|im_start|>", kEnd = "<|im_end|>";
constexpr std::string_view kThink = "<think>", kThinkEnd = "</think>", kNoThoughts = "<think>\n\n</think>\n\n";

// The system lines that models add by themselves, each after its beginning, which no escape in Jinja changes.
constexpr std::pair<std::string_view, std::string_view> kSystemLines[] = {
    {"You are Qwen, created by Alibaba Cloud.", "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."},
    {"You are a helpful AI assistant named SmolLM",
     "You are a helpful AI assistant named SmolLM, trained by Hugging Face"},
    {"Please reason step by step, and put your final answer within",
     "Please reason step by step, and put your final answer within \\boxed{}."}};

bool Contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

// The default template's Jinja text in tokenizer_config.json: a text, or a list of named ones.
std::string TemplateIn(const json& config, const std::string& where) {
  const auto found = config.find("chat_template");
  if (found == config.end() || found->is_null()) return {};
  if (found->is_string()) return found->get<std::string>();
  for (const json& named : found->is_array() ? *found : json::array()) {
    const bool fits = named.is_object() && named.contains("template") && named["template"].is_string();
    if (fits && named.value("name", json()) == "default") return named["template"].get<std::string>();
  }
  throw Error(Concat(where, ": chat_template is neither a text nor a list with a default; name one with --template"));
}

// The model's Jinja text; empty if it has none.
std::string ReadJinja(const std::filesystem::path& dir) {
  if (dir.empty()) return {};
  const std::filesystem::path own = dir / "chat_template.jinja", config = dir / "tokenizer_config.json";
  if (std::filesystem::exists(own)) return ReadFile(own, kMostJsonBytes);
  if (!std::filesystem::exists(config)) return {};
  const auto root = ParseJson<json>(ReadFile(config, kMostJsonBytes), config.string());
  SWARR_CHECK(root.is_object(), config.string(), " holds no JSON object");
  return TemplateIn(root, config.string());
}

// A template is recognised by what it writes: ChatML's markers, and whether it can leave thoughts out.
ChatFormat Recognise(const std::string& jinja, const std::filesystem::path& dir) {
  if (jinja.empty()) return ChatFormat::kPlain;
  const bool chatml = Contains(jinja, kStart) && Contains(jinja, kEnd);
  if (chatml && Contains(jinja, "enable_thinking")) return ChatFormat::kQwen3;
  if (chatml && !Contains(jinja, kThink)) return ChatFormat::kChatml;
  throw Error(Concat("the chat template of ", dir.string(),
                     " is none that this program knows; name the one to use with --template plain, chatml, qwen3 or "
                     "qwen3-thinking"));
}

std::string_view WithoutThoughts(std::string_view content) {
  const std::size_t end = content.rfind(kThinkEnd);
  if (end == std::string_view::npos) return content;
  content.remove_prefix(end + kThinkEnd.size());
  content.remove_prefix(std::min(content.find_first_not_of('\n'), content.size()));
  return content;
}

std::string Turn(std::string_view role, std::string_view content) {
  return Concat(kStart, role, "\n", content, kEnd, "\n");
}

}  // namespace

std::string ChatTemplate::Prompt(std::span<const Message> conversation) const {
  if (format == ChatFormat::kPlain) {
    SWARR_CHECK(conversation.size() == 1 && conversation[0].role == "user",
                "a conversation of several turns can't be written without a chat template; use --template chatml");
    return conversation[0].content;
  }
  std::string text;
  const bool own_system = !conversation.empty() && conversation[0].role == "system";
  if (!own_system && !system.empty()) text += Turn("system", system);
  for (std::size_t i = 0; i < conversation.size(); ++i) {
    const auto& [role, content] = conversation[i];
    SWARR_CHECK(role == "user" || role == "assistant" || (role == "system" && i == 0), "turn ", i + 1,
                " of a conversation has the role '", role,
                "'; after a system message at the beginning there may be user and assistant");
    const bool thoughtless = format != ChatFormat::kChatml && role == "assistant";
    text += Turn(role, thoughtless ? WithoutThoughts(content) : content);
  }
  text += Concat(kStart, "assistant\n");
  if (format == ChatFormat::kQwen3) text += kNoThoughts;
  return text;
}

std::string ChatTemplate::Completion(std::string_view content) const {
  switch (format) {
    case ChatFormat::kPlain:
    case ChatFormat::kChatml:
      break;
    case ChatFormat::kQwen3:
      return std::string(WithoutThoughts(content));
    case ChatFormat::kQwen3Thinking:
      if (!content.starts_with(kThink)) return Concat(kNoThoughts, content);
      break;
  }
  return std::string(content);
}

std::string_view ChatTemplate::end() const { return format == ChatFormat::kPlain ? std::string_view() : kEnd; }

std::string_view ChatTemplate::FindToken(std::string_view text) const {
  if (format == ChatFormat::kPlain) return {};
  for (const std::string_view token : {kStart, kEnd}) {
    if (Contains(text, token)) return token;
  }
  return {};
}

ChatTemplate ChatTemplateByName(const std::string& name, const std::filesystem::path& dir) {
  const std::optional<ChatFormat> named = FindName<ChatFormat>(name);
  if (!named && name != "auto") {
    throw UsageError(Concat("unknown template '", name, "'; use auto, ", Listed(kNames<ChatFormat>)));
  }
  const std::string jinja = ReadJinja(dir);
  ChatTemplate chat{named ? *named : Recognise(jinja, dir), {}};
  if (chat.format == ChatFormat::kPlain) return chat;
  const auto known = std::ranges::find_if(kSystemLines, [&](const auto& line) { return Contains(jinja, line.first); });
  if (known != std::end(kSystemLines)) chat.system = known->second;
  return chat;
}

std::int32_t SingleToken(const Tokenizer& tokenizer, std::string_view token) {
  const std::vector<std::int32_t> ids = tokenizer.Encode(token);
  SWARR_CHECK(ids.size() == 1, "the tokenizer splits ", token, ", which the chat template needs, into ", ids.size(),
              " tokens; use --template plain with this model");
  return ids[0];
}

}  // namespace swarr
