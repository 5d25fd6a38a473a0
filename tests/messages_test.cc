// SPDX-License-Identifier: Apache-2.0
// What an error says: one line of UTF-8, short, whatever a file or a command line holds.
#include <doctest/doctest.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "config_json.h"
#include "model/hf_config.h"
#include "model/model_files.h"
#include "program.h"
#include "task/jsonl_task.h"
#include "task/registry.h"
#include "tensor/safetensors.h"
#include "text/unicode.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr std::size_t kMostBytes = 300;

// Holds a sentence to the rule. `paths`: bytes of paths in it.
void CheckSentence(const std::string& sentence, std::size_t paths = 0) {
  CAPTURE(sentence);
  CHECK(!sentence.empty());
  CHECK(sentence.size() <= kMostBytes + paths);
  CHECK_NOTHROW(CheckUtf8(sentence, "the sentence"));
  CHECK(std::ranges::none_of(sentence, [](char c) { return static_cast<unsigned char>(c) < 0x20; }));
  for (const char* raw : {"json.exception", "bad_alloc", "basic_string::", "_M_range_check", "filesystem error"}) {
    CHECK(sentence.find(raw) == std::string::npos);
  }
}

// The sentence of the Error that `run` throws.
template <class Run>
std::string SentenceOf(const Run& run) {
  try {
    run();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

std::string Repeated(const std::string& text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}

// Names as damaged and hostile files have them: one word, controls, characters of three bytes, what looks like a path,
// and what ends the quotes around it.
const std::vector<std::string> kLongNames = {Repeated("x", 10'000), Repeated("\n\x1B", 2'000),
                                             "x" + Repeated("€", 5'000), Repeated("../", 2'000),
                                             Repeated("' /a/b \"", 2'000)};

std::string BinaryText() {
  std::string bytes;
  for (int i = 0; i < 10'000; ++i) bytes += static_cast<char>(1 + i * 37 % 255);
  return bytes;
}

TEST_CASE("a long sentence keeps its beginning, its end and its paths, and is cut at a character's edge") {
  const std::string path = "/tmp/" + std::string(200, 'a') + "/" + std::string(200, 'b') + "/config.json";
  for (const std::string& name : kLongNames) {
    const std::string sentence = Error(path + ": the name '" + name + "' is wrong; rename it").what();
    CheckSentence(sentence, path.size());
    CHECK(sentence.starts_with(path + ": the name '"));
    CHECK(sentence.ends_with("; rename it"));
  }
  CheckSentence(Error(BinaryText()).what());
  CheckSentence(Error(std::string(100'000'000, 'y')).what());
  CheckSentence(Error(Concat("can't read /", std::string(5'000, 'z'), ": File name too long")).what());
  const std::string both = Concat("can't copy ", path, " to ", path, ": No space left on device");
  CHECK(std::string(Error(both).what()) == both);
}

TEST_CASE("a short sentence stays as it is, but for control characters and bytes that are no UTF-8") {
  CHECK(std::string(Error("the token 'é' is wrong").what()) == "the token 'é' is wrong");
  CHECK(std::string(Error(std::string("a\n\x1B\0\xC2\x9B\xFFz", 8)).what()) == "a\\n\\u001b\\u0000\\u009b\\xffz");
  CHECK(std::string(Error("a\xE2\x82 \xED\xA0\x80").what()) == "a\\xe2\\x82 \\xed\\xa0\\x80");
  CHECK(std::string(Error(std::string(280, 'x')).what()) == std::string(280, 'x'));
  CHECK(std::string(Error(std::string(281, 'x')).what()).size() == 280);
  CHECK(Excerpt(std::string(72, 'x')) == std::string(72, 'x'));
  CHECK(Excerpt(std::string(73, 'x')) == std::string(69, 'x') + "...");
}

TEST_CASE("every value of a config.json may be a long name: the sentence stays short") {
  ordered_json whole = With(Fields("llama"), {{"layer_types", ordered_json(4, "full_attention")},
                                              {"architectures", {"LlamaForCausalLM"}},
                                              {"rope_scaling", {{"rope_type", "default"}}}});
  for (const std::string& name : kLongNames) {
    for (const auto& [key, value] : whole.items()) {
      for (const ordered_json& bad : {ordered_json(name), ordered_json{{name, name}}, ordered_json(100, name)}) {
        const std::string sentence = SentenceOf([&] { ParseModelConfig(With(whole, {{key, bad}}), "c"); });
        if (key != "architectures") CheckSentence(sentence);
      }
    }
    CheckSentence(SentenceOf([&] { ParseModelConfig(With(whole, {{"rope_scaling", {{"type", name}}}}), "c"); }));
    CheckSentence(SentenceOf([&] { ParseModelConfig(With(whole, {{"rope_scaling", {{name, 2}}}}), "c"); }));
    CheckSentence(SentenceOf([&] { ParseModelConfig(With(whole, {{"layer_types", {name, name, name, name}}}), "c"); }));
    CheckSentence(SentenceOf(
        [&] { ParseJson<ordered_json>(Concat("{", ordered_json(name), ":1,", ordered_json(name), ":1}"), "c"); }));
  }
}

TEST_CASE("every part of a tokenizer.json may be a long name: the sentence stays short") {
  for (const std::string& name : kLongNames) {
    const auto refused = [&](const char* pointer, const ordered_json& value) {
      ordered_json json = Tokenizer::MakeCharacterTokenizer("ab", "<end>");
      json[ordered_json::json_pointer(pointer)] = value;
      INFO(pointer);
      CheckSentence(SentenceOf([&] { const Tokenizer tokenizer(json, "t"); }));
    };
    for (const char* part : {"/normalizer", "/pre_tokenizer", "/post_processor", "/decoder", "/truncation"}) {
      refused(part, name);
      refused(part, {{"type", name}});
      refused(part, {{name, name}});
    }
    refused("/model/type", name);
    refused("/model", {{"vocab", {{name, 0}}}});
    refused("/model", {{"type", {{name, name}}}, {"vocab", {{name, 0}}}, {"merges", ordered_json::array()}});
    refused("/model/unk_token", name);
    refused("/model/dropout", name);
    refused("/model/merges", {name});
    refused("/model/merges", {{"a", name}});
    refused("/model/vocab", {{name, name}, {"a", 1}, {"b", 2}});
    refused("/model/vocab", {{name, 0}, {"a", 1}, {"b", 2}});
    refused("/added_tokens/0/id", name);
    refused("/added_tokens/0/content", name);
    refused("/added_tokens/0/lstrip", name);
    refused("/added_tokens/0", name);
    refused("/pre_tokenizer", {{"type", "Split"}, {"behavior", name}, {"pattern", {{"Regex", "a"}}}});
    refused("/pre_tokenizer", {{"type", "Split"}, {"behavior", "Isolated"}, {"pattern", {{"Regex", "^" + name}}}});
    refused("/pre_tokenizer", {{"type", "Split"}, {"behavior", "Isolated"}, {"pattern", {{"Regex", "(" + name}}}});
    refused("/post_processor", {{"type", "TemplateProcessing"}, {"single", {{{"SpecialToken", {{"id", name}}}}}}});
    const Tokenizer tokenizer(Tokenizer::MakeCharacterTokenizer("ab", "<end>"), "t");
    CheckSentence(SentenceOf([&] { static_cast<void>(tokenizer.IdOf(name)); }));
  }
}

TEST_CASE("the header of weights may name and hold anything: the sentence stays short") {
  const TempDirectory dir;
  const fs::path path = dir / "model.safetensors";
  const auto refused = [&](const ordered_json& header) {
    const std::string text = header.dump();
    const std::uint64_t length = text.size();
    WriteFileAtomically(path, std::string(reinterpret_cast<const char*>(&length), 8) + text);
    CheckSentence(SentenceOf([&] { const SafetensorsFile file(path); }), path.string().size());
  };
  for (const std::string& name : kLongNames) {
    refused({{name, name}});
    refused({{name, {{"dtype", name}}}});
    refused({{name, {{"dtype", "F32"}, {"shape", name}}}});
    refused({{name, {{"dtype", "F32"}, {"shape", {name}}}}});
    refused({{name, {{"dtype", "F32"}, {"shape", ordered_json(5'000, 3)}, {"data_offsets", {0, 4}}}}});
    refused({{name, {{"dtype", "F32"}, {"shape", {1}}, {"data_offsets", {0, 4}}}}});
    refused({{"__metadata__", {{name, 3}}}});
  }
  WriteFileAtomically(path, BinaryText());
  CheckSentence(SentenceOf([&] { const SafetensorsFile file(path); }), path.string().size());
}

TEST_CASE("rows of data and the command line may hold anything: the sentence stays short") {
  const TempDirectory dir;
  const fs::path rows = dir / "rows.jsonl";
  const auto refused = [&](const std::string& text) {
    WriteFileAtomically(rows, text);
    CheckSentence(SentenceOf([&] { const JsonlTask task(rows, {.answer = true}, RewardByName("math")); }),
                  rows.string().size() + 4);
  };
  for (const std::string& name : kLongNames) {
    refused(ordered_json(name).dump());
    refused(ordered_json{{name, name}}.dump());
    refused(ordered_json{{"prompt", {{name, name}}}, {"answer", "1"}}.dump());
    refused(ordered_json{{"prompt", {{{"role", name}, {"content", name}}}}, {"answer", "1"}}.dump());
    refused(ordered_json{{"prompt", name}, {"answer", {name}}}.dump());
  }
  refused(BinaryText());
  std::vector<std::string> arguments = kLongNames;
  arguments.push_back(BinaryText());
  for (const std::string& name : arguments) {
    for (const std::vector<std::string>& command :
         std::vector<std::vector<std::string>>{{name},
                                               {"eval", "--" + name},
                                               {"eval", "--model", name, "--task", name},
                                               {"generate", "--model", name, "--prompt", name},
                                               {"generate", "--model", TinyModel(), "--prompt", "z" + name},
                                               {"tokenize", "--model", TinyModel(), "--decode", name},
                                               {"sft", "--lr", name},
                                               {"verify", "--reward", name, "--gold", "1", "--answer", "1"}}) {
      const Outcome outcome = Swarr(command);
      CHECK(outcome.status > 0);
      CHECK(outcome.IsOneSentence());
      CheckSentence(outcome.err.substr(0, outcome.err.size() - 1));
    }
  }
}

TEST_CASE("a model in a directory whose name is no UTF-8 is converted like any other") {
  const TempDirectory dir;
  const fs::path model = dir / "m\xFF\xC3";
  fs::copy(TinyModel(), model);
  const Outcome outcome =
      Swarr({"convert", "--model", model.string(), "--window", "4", "--output-dir", (dir / "swa").string()});
  CHECK_MESSAGE(outcome.status == 0, outcome.err);
  CHECK(ReadFile(dir / "swa" / "resolved_config.json").find("m\xEF\xBF\xBD\xEF\xBF\xBD") != std::string::npos);
}

}  // namespace
}  // namespace swarr
