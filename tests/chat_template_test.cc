// SPDX-License-Identifier: Apache-2.0
#include "model/chat_template.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <vector>

#include "base/check.h"
#include "base/files.h"
#include "temp_directory.h"
#include "test_models.h"

namespace swarr {
namespace {

using doctest::Contains;
using Messages = std::vector<Message>;

const Messages kQuestion = {{"user", "2+2?"}};
const Messages kDialogue = {{"user", "Hi"}, {"assistant", "<think>\nhm\n</think>\n\nHello"}, {"user", "2+2?"}};

ChatTemplate Template(ChatFormat format, const std::string& system = "") { return {format, system}; }

// What `auto` makes of a model that brings this Jinja text, in one of the two places where it may stand.
ChatTemplate Auto(const std::string& jinja, bool own_file = false, const std::string& name = "auto") {
  const TempDirectory dir;
  const nlohmann::json config = {{"chat_template", jinja}};
  WriteFileAtomically(dir / (own_file ? "chat_template.jinja" : "tokenizer_config.json"),
                      own_file ? jinja : config.dump());
  return ChatTemplateByName(name, dir.path());
}

TEST_CASE("plain is the user's message as it stands, and nothing but one such message") {
  const ChatTemplate plain = Template(ChatFormat::kPlain, "no use");
  CHECK(plain.Prompt(kQuestion) == "2+2?");
  CHECK(plain.Completion("4") == "4");
  CHECK(plain.end().empty());
  CHECK(plain.FindToken("a <|im_end|>").empty());
  CHECK_THROWS_WITH_AS(plain.Prompt(kDialogue), Contains("use --template chatml"), Error);
  CHECK_THROWS_AS(plain.Prompt(Messages{{"system", "s"}}), Error);
  CHECK_THROWS_AS(plain.Prompt(Messages{}), Error);
}

TEST_CASE("chatml writes every turn between its tokens and opens the assistant's") {
  const ChatTemplate chat = Template(ChatFormat::kChatml, "Be brief.");
  CHECK(chat.Prompt(kQuestion) ==
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n");
  CHECK(chat.end() == "<|im_end|>");
  CHECK(chat.Completion("4") == "4");
  CHECK(Template(ChatFormat::kChatml).Prompt(kQuestion) == "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n");
  CHECK(chat.FindToken("forged <|im_end|> turn") == "<|im_end|>");
  CHECK(chat.FindToken("<|im_start|>") == "<|im_start|>");
  CHECK(chat.FindToken("|im_end| <im_end>").empty());
}

TEST_CASE("a conversation's own system message replaces the default one, and may stand at the beginning alone") {
  const ChatTemplate chat = Template(ChatFormat::kChatml, "default");
  CHECK(chat.Prompt(Messages{{"system", "own"}, {"user", "q"}}) ==
        "<|im_start|>system\nown<|im_end|>\n<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n");
  CHECK_THROWS_WITH_AS(chat.Prompt(Messages{{"user", "q"}, {"system", "s"}}), Contains("turn 2"), Error);
  CHECK_THROWS_WITH_AS(chat.Prompt(Messages{{"tool", "t"}}), Contains("'tool'"), Error);
}

TEST_CASE("qwen3 answers after an empty thought in the prompt, and earlier thoughts are left out") {
  const ChatTemplate chat = Template(ChatFormat::kQwen3);
  const std::string turns =
      "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
      "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n";
  CHECK(chat.Prompt(kDialogue) == turns + "<think>\n\n</think>\n\n");
  CHECK(chat.Completion("<think>\nsum\n</think>\n\n4") == "4");
  CHECK(chat.Completion("4") == "4");
  const ChatTemplate thinking = Template(ChatFormat::kQwen3Thinking);
  CHECK(thinking.Prompt(kDialogue) == turns);
  CHECK(thinking.Completion("<think>\nsum\n</think>\n\n4") == "<think>\nsum\n</think>\n\n4");
  CHECK(thinking.Completion("4") == "<think>\n\n</think>\n\n4");
  CHECK(Template(ChatFormat::kChatml).Prompt(kDialogue).find("<think>\nhm\n</think>\n\nHello") != std::string::npos);
}

TEST_CASE("auto recognises a model's template and its default system line, in either file") {
  const std::string smollm =
      "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou are a helpful AI assistant named SmolLM, "
      "trained by Hugging Face<|im_end|>\\n' }}{% endif %}";
  for (const bool own_file : {false, true}) {
    const ChatTemplate chat = Auto(smollm, own_file);
    CHECK(chat.format == ChatFormat::kChatml);
    CHECK(chat.system == "You are a helpful AI assistant named SmolLM, trained by Hugging Face");
  }
  const ChatTemplate qwen = Auto("<|im_start|>system You are Qwen, created by Alibaba Cloud. ...<|im_end|>");
  CHECK(qwen.system == "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.");
  const ChatTemplate math =
      Auto("<|im_start|>system\\nPlease reason step by step, and put your final answer within \\\\boxed{}.<|im_end|>");
  CHECK(math.system == "Please reason step by step, and put your final answer within \\boxed{}.");
  const ChatTemplate qwen3 = Auto("<|im_start|><|im_end|>{% if enable_thinking is false %}<think></think>{% endif %}");
  CHECK(qwen3.format == ChatFormat::kQwen3);
  CHECK(qwen3.system.empty());
}

TEST_CASE("a name overrides the format but keeps the model's system line, except for plain") {
  const std::string jinja = "<|im_start|>You are Qwen, created by Alibaba Cloud.<|im_end|>";
  CHECK(Auto(jinja, false, "qwen3").format == ChatFormat::kQwen3);
  CHECK_FALSE(Auto(jinja, false, "qwen3").system.empty());
  CHECK(Auto(jinja, false, "plain").format == ChatFormat::kPlain);
  CHECK(Auto(jinja, false, "plain").system.empty());
  CHECK_THROWS_WITH_AS(ChatTemplateByName("jinja", ""), Contains("unknown template 'jinja'"), UsageError);
}

TEST_CASE("a model without a template is plain; one that no format here matches is refused, not guessed") {
  const TempDirectory dir;
  CHECK(ChatTemplateByName("auto", dir.path()).format == ChatFormat::kPlain);
  CHECK(ChatTemplateByName("auto", "").format == ChatFormat::kPlain);
  WriteFileAtomically(dir / "tokenizer_config.json", R"({"chat_template": null})");
  CHECK(ChatTemplateByName("auto", dir.path()).format == ChatFormat::kPlain);
  CHECK_THROWS_WITH_AS(Auto("[INST] {{ content }} [/INST]"), Contains("none that this program knows"), Error);
  CHECK_THROWS_WITH_AS(Auto("<|im_start|><|im_end|><think>\n"), Contains("none that this program knows"), Error);
  CHECK(Auto("[INST]", false, "chatml").format == ChatFormat::kChatml);
  WriteFileAtomically(dir / "tokenizer_config.json", R"({"chat_template": [{"name": "rag", "template": "x"}]})");
  CHECK_THROWS_WITH_AS(ChatTemplateByName("auto", dir.path()), Contains("a list with a default"), Error);
  WriteFileAtomically(dir / "tokenizer_config.json",
                      R"({"chat_template": [{"name": "default", "template": "<|im_start|><|im_end|>"}]})");
  CHECK(ChatTemplateByName("auto", dir.path()).format == ChatFormat::kChatml);
}

TEST_CASE("the token that ends a turn must be one token of the model") {
  CHECK(SingleToken(TextTokenizer(), "<|end|>") == 0);
  CHECK_THROWS_WITH_AS(SingleToken(TextTokenizer(), "ab"), Contains("into 2 tokens; use --template plain"), Error);
}

}  // namespace
}  // namespace swarr
