// SPDX-License-Identifier: Apache-2.0
// Files and texts that are damaged, contradictory or hostile, as the program meets them: each ends in one clear
// sentence. What the readers themselves refuse, in all its variants, is in safetensors_test, weight_files_test,
// config_test, tokenizer_test, byte_level_test and cli_errors_test.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "memory_limit.h"
#include "model/model_files.h"
#include "program.h"
#include "tensor/safetensors.h"
#include "test_models.h"

using namespace swarr;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

using Arguments = std::vector<std::string>;

// No input may make the program ask for memory that has nothing to do with its size.
Outcome Limited(Arguments arguments) {
  arguments.insert(arguments.end(), {"--threads", "1"});
  return Program(std::move(arguments), LimitMemory<3ull << 30>).Wait();
}

void CheckSentence(const Outcome& outcome, const std::string& sentence) {
  CAPTURE(outcome.err);
  CHECK(outcome.status == 1);
  CHECK(outcome.IsOneSentence());
  CHECK(outcome.Says(sentence));
  CHECK(outcome.out.empty());
}

std::string SafetensorsBytes(const std::string& header, const std::string& data) {
  const std::uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + header + data;
}

// A model of the tests' pretraining that a test may spoil.
struct SpoiltModel {
  SpoiltModel() { fs::copy(TinyModel(), path); }

  std::string Read(const char* file) const { return ReadFile(path / file); }
  void Write(const char* file, const std::string& content) const { WriteFileAtomically(path / file, content); }
  json ReadJson(const char* file) const { return json::parse(Read(file)); }

  // Replaces the header of the weights by what `change` makes of it.
  template <class Change>
  void ChangeHeader(const Change& change) const {
    const std::string bytes = Read("model.safetensors");
    std::uint64_t length = 0;
    std::memcpy(&length, bytes.data(), sizeof length);
    json header = json::parse(bytes.substr(8, length));
    change(header);
    Write("model.safetensors", SafetensorsBytes(header.dump(), bytes.substr(8 + length)));
  }
  void Change(const char* file, const char* pointer, const json& value) const {
    json content = ReadJson(file);
    content[json::json_pointer(pointer)] = value;
    Write(file, content.dump());
  }
  // The weights under the name that the index gives, for all tensors.
  void Shard(const std::string& name) const {
    json index;
    for (const std::string& tensor : SafetensorsFile(path / "model.safetensors").names()) {
      index["weight_map"][tensor] = name;
    }
    fs::remove(path / "model.safetensors");
    Write("model.safetensors.index.json", index.dump());
  }

  Outcome Generate(const std::string& prompt = "a7") const {
    return Limited({"generate", "--model", path.string(), "--max-new-tokens", "2", "--prompt", prompt});
  }
  void CheckRefused(const std::string& sentence) const { CheckSentence(Generate(), sentence); }

  TempDirectory dir;
  fs::path path = dir / "model";
};

constexpr const char* kNorm = "model.norm.weight";

// The sentence with which `tokenize` refuses a tokenizer of the characters a and b, their merge, and `change`.
void CheckTokenizer(const char* pointer, const json& value, const std::string& sentence) {
  json tokenizer = json::parse(R"({"decoder": {"type": "Fuse"}, "model": {"type": "BPE",
      "vocab": {"a": 0, "b": 1, "ab": 2, "aba": 3}, "merges": ["a b", "ab a"]}})");
  const TempDirectory dir;
  const Arguments tokenize = {"tokenize", "--model", dir.path().string(), "--text", "abab"};
  WriteFileAtomically(dir / "tokenizer.json", tokenizer.dump());
  REQUIRE(Swarr(tokenize).status == 0);
  tokenizer[json::json_pointer(pointer)] = value;
  WriteFileAtomically(dir / "tokenizer.json", tokenizer.dump());
  const Outcome outcome = Swarr(tokenize);
  CheckSentence(outcome, sentence);
  CHECK(outcome.Says("tokenizer.json: "));
}

// A model of 64 ids of which its tokenizer has 6, so that it samples mostly ids without a token.
std::string PaddedModel(const fs::path& path) {
  ModelConfig config = TextConfig();
  config.vocab = 64;
  const Transformer model(config, DType::kF32, /*with_gradients=*/false);
  Randomize(model);
  SaveModel(path, model, TextTokenizer());
  return path.string();
}

}  // namespace

TEST_CASE("bad input: truncated safetensors") {
  const SpoiltModel model;
  const std::string whole = model.Read("model.safetensors");
  for (const std::size_t size : {std::size_t{0}, std::size_t{7}, std::size_t{8}, whole.size() / 2, whole.size() - 1}) {
    CAPTURE(size);
    model.Write("model.safetensors", whole.substr(0, size));
    model.CheckRefused("model.safetensors: ");
  }
}

TEST_CASE("bad input: overlapping tensors") {
  const SpoiltModel model;
  model.ChangeHeader(
      [](json& h) { h[kNorm]["data_offsets"] = h["model.layers.0.input_layernorm.weight"]["data_offsets"]; });
  model.CheckRefused("overlap");
}

TEST_CASE("bad input: a header that lies about offsets, shape, dtype or its own length") {
  const auto refused = [](const char* field, const json& value, const std::string& sentence) {
    const SpoiltModel model;
    model.ChangeHeader([&](json& h) { h[kNorm][field] = value; });
    model.CheckRefused(sentence);
  };
  refused("shape", {3}, "needs 12 bytes, but its data_offsets span 64");
  refused("shape", {4, 4}, "model.norm.weight is [4,4] where config.json asks for [16]");
  refused("dtype", "F64", "needs 128 bytes, but its data_offsets span 64");
  refused("dtype", "I32", "model.norm.weight is i32; weights are read as");
  refused("data_offsets", {0, 1ull << 62}, "but its data_offsets span");
  const SpoiltModel model;
  model.Write("model.safetensors", SafetensorsBytes("{}", "").substr(0, 8) + "{");
  model.CheckRefused("a header of 2 bytes is announced, but only 1 follow");
}

TEST_CASE("bad input: a safetensors header of more than 100 MB, of too many values, or of shapes beyond 64 bits") {
  const SpoiltModel model;
  std::string header = SafetensorsBytes("", "");
  const std::uint64_t length = 100'000'001;
  std::memcpy(header.data(), &length, sizeof length);
  model.Write("model.safetensors", header);
  fs::resize_file(model.path / "model.safetensors", length + 8);  // a hole: takes no room
  model.CheckRefused("a header of 100000001 bytes is announced, more than the format allows");
  std::string values = "[0";
  for (int i = 0; i < 1 << 24; ++i) values += ",0";
  model.Write("model.safetensors", SafetensorsBytes(values + "]", ""));
  model.CheckRefused("this JSON holds more than 16777216 keys and values");
  const SpoiltModel other;
  other.ChangeHeader([](json& h) { h[kNorm]["shape"] = {1ll << 32, 1ll << 32}; });
  other.CheckRefused("has more bits than 64-bit numbers can count");
}

TEST_CASE("bad input: a tensor that occurs twice") {
  const SpoiltModel model;
  const std::string one = R"("a":{"dtype":"F32","shape":[],"data_offsets":[0,4]})";
  model.Write("model.safetensors", SafetensorsBytes("{" + one + "," + one + "}", "1234"));
  model.CheckRefused("the key 'a' occurs twice");
}

TEST_CASE("bad input: a pipe or a directory in place of the weights") {
  const SpoiltModel model;
  fs::remove(model.path / "model.safetensors");
  REQUIRE(::mkfifo((model.path / "model.safetensors").c_str(), 0600) == 0);
  model.CheckRefused("model.safetensors: it is no regular file");
  fs::remove(model.path / "model.safetensors");
  fs::create_directory(model.path / "model.safetensors");
  model.CheckRefused("model.safetensors: it is no regular file");
}

TEST_CASE("bad input: shards whose names lead out of the directory") {
  for (const std::string& name :
       {std::string("../model.safetensors"), std::string("/etc/model.safetensors"), std::string("a/b.safetensors"),
        std::string("..\\model.safetensors"), std::string("a\0.safetensors", 14), std::string("")}) {
    CAPTURE(name);
    const SpoiltModel model;
    model.Shard(name);
    model.CheckRefused("a shard must be a .safetensors file in the same directory, named without a path");
  }
}

TEST_CASE("a shard that is a link, as in the cache of the Hugging Face hub, is read") {
  const SpoiltModel model;
  fs::copy(model.path / "model.safetensors", model.dir / "blob");
  model.Shard("model-00001-of-00001.safetensors");
  fs::create_symlink("../blob", model.path / "model-00001-of-00001.safetensors");
  const Outcome outcome = model.Generate();
  CHECK_MESSAGE(outcome.status == 0, outcome.err);
}

TEST_CASE("bad input: a tokenizer with more ids than the embedding has rows") {
  const SpoiltModel model;
  model.Change("tokenizer.json", "/model/vocab/Z", model.ReadJson("config.json")["vocab_size"]);
  model.CheckRefused("; take both from the same model");
  CheckSentence(Swarr({"tokenize", "--model", model.path.string(), "--decode", "1"}), "take both from the same model");
}

TEST_CASE("ids of a padded embedding that no token has are left out of what is generated, evaluated and learned from") {
  const TempDirectory dir;
  const std::string model = PaddedModel(dir / "model"), rows = (dir / "rows.jsonl").string();
  const Outcome generated = Limited({"generate", "--model", model, "--prompt", "ab", "--max-new-tokens", "8"});
  CHECK_MESSAGE(generated.status == 0, generated.err);
  CHECK(generated.out.size() < 8);  // one letter a token, and a newline
  WriteFileAtomically(rows, R"({"prompt": "ab", "answer": "1"})");
  const Arguments data = {"--model", model, "--data", rows, "--reward", "math", "--max-completion-length", "8"};
  Arguments eval = {"eval", "--json"};
  eval.insert(eval.end(), data.begin(), data.end());
  const Outcome evaluated = Limited(eval);
  CHECK_MESSAGE(evaluated.status == 0, evaluated.err);
  Arguments rl = {"rl", "--max-steps", "1", "--quiet", "--output-dir", (dir / "rl").string()};
  rl.insert(rl.end(), data.begin(), data.end());
  const Outcome learned = Limited(rl);
  CHECK_MESSAGE(learned.status == 0, learned.err);
}

TEST_CASE("an id that the model has and the tokenizer lacks decodes to nothing, one that neither has is refused") {
  const TempDirectory dir;
  const std::string model = PaddedModel(dir / "model");
  const auto decode = [&](const char* ids) { return Swarr({"tokenize", "--model", model, "--json", "--decode", ids}); };
  const Outcome padded = decode("1,63,2");
  REQUIRE_MESSAGE(padded.status == 0, padded.err);
  CHECK(json::parse(padded.out) == json{{"ids", {1, 63, 2}}, {"pieces", {"a", nullptr, "b"}}, {"text", "ab"}});
  CheckSentence(decode("1,64"), "no token has the id 64");
  CheckSentence(decode("-1"), "no token has the id -1");
  fs::remove(dir / "model" / "config.json");  // then only the tokenizer's own ids are known
  CheckSentence(decode("1,63"), "no token has the id 63");
}

TEST_CASE("bad input: a tokenizer with cyclic merges") {
  // A merge makes a longer token of two shorter ones, so a cycle needs a part that is empty or stands twice.
  CheckTokenizer("/model/merges/1", {"", "ab"}, "merge 1 ('' and 'ab') needs the token ''");
  CheckTokenizer("/model/vocab/", 4, "the empty text can't be a token");
  CheckTokenizer("/model/merges/1", "a b", "merge 1 ('a' and 'b') stands in the list before");
}

TEST_CASE("bad input: a tokenizer whose merges are missing or name missing tokens") {
  CheckTokenizer("/model/merges", json::array({"a b"}), "the token 'aba' (id 3) is made by no merge");
  CheckTokenizer("/model/merges", nullptr, "the model's merges are missing");
  CheckTokenizer("/model/merges/1", "ab c", "merge 1 ('ab' and 'c') needs the token 'c', which is not in");
  CheckTokenizer("/model/merges/1", "b a", "merge 1 ('b' and 'a') needs the token 'ba', which is not in");
}

TEST_CASE("bad input: a tokenizer with ids that occur twice, leave holes or are none") {
  CheckTokenizer("/model/vocab/aba", 2, "have the same id 2");
  CheckTokenizer("/model/vocab/aba", 5, "no token has the id 3, although ids go up to 5");
  CheckTokenizer("/model/vocab/aba", 1ll << 40, "where an integer from 0 to 1048575 is needed");
  CheckTokenizer("/model/vocab/aba", -1, "where an integer from 0 to 1048575 is needed");
}

TEST_CASE("bad input: text that is no UTF-8, in a prompt, a text, a row of data and the model's files") {
  const SpoiltModel model;
  for (const char* bytes : {"\xFF", "\xC3", "\xED\xA0\x80", "\xF4\x90\x80\x80"}) {
    CheckSentence(model.Generate(std::string("a") + bytes), "the text is no UTF-8 at byte 1");
    CheckSentence(Swarr({"tokenize", "--model", model.path.string(), "--text", bytes}),
                  "the text is no UTF-8 at byte 0");
  }
  const std::string rows = (model.dir / "rows.jsonl").string();
  WriteFileAtomically(rows, "{\"prompt\": \"a\xFF\", \"answer\": \"C\"}\n");
  CheckSentence(Swarr({"eval", "--model", model.path.string(), "--data", rows}), "rows.jsonl:1: no valid JSON");
  for (const char* file : {"tokenizer.json", "config.json"}) {
    const SpoiltModel damaged;
    damaged.Write(file, "{\"model_type\": \"\xFF\"}");
    damaged.CheckRefused(std::string(file) + ": no valid JSON");
  }
}

TEST_CASE("bad input: rows with no answer, an empty one, or one of the wrong type") {
  const TempDirectory dir;
  const std::string rows = (dir / "rows.jsonl").string();
  const auto refused = [&](const std::string& row, const std::string& sentence) {
    WriteFileAtomically(rows, row);
    for (Arguments command :
         {Arguments{"eval"}, Arguments{"rl", "--max-steps", "1", "--output-dir", (dir / "o").string()}}) {
      command.insert(command.end(), {"--model", TinyModel(), "--data", rows});
      CheckSentence(Limited(command), "rows.jsonl:1: " + sentence);
      CHECK(HoldsOnly(dir.path(), {"rows.jsonl"}));
    }
  };
  refused(R"({"prompt": "a7"})", "the field \"answer\" is missing");
  refused(R"({"prompt": "a7", "answer": ""})", "there is no gold answer to compare with");
  refused(R"({"prompt": "a7", "answer": null})", "there is no gold answer to compare with");
  refused(R"({"prompt": "a7", "answer": {"a": 1}})",
          "the field \"answer\" is {\"a\":1} where a text in quotes is needed");
  refused(R"({"prompt": 7, "answer": "C"})", "the field \"prompt\" is 7 where a text in quotes is needed");
  refused("null", "a row must be an object");
}

TEST_CASE("bad input: values of config.json that the model can't compute") {
  const SpoiltModel model;
  const std::string original = model.Read("config.json");
  const auto refused = [&](const char* field, const json& value, const std::string& sentence) {
    model.Write("config.json", original);
    model.Change("config.json", field, value);
    model.CheckRefused("config.json: " + sentence);
  };
  refused("/model_type", "gpt2", "model_type 'gpt2' is not supported");
  refused("/hidden_act", "gelu", "hidden_act 'gelu' is not supported");
  refused("/rope_parameters", {{"rope_type", "yarn"}}, "RoPE of type 'yarn' is not supported");
  refused("/layer_types", {"full_attention", "linear_attention"}, "layer_types holds \"linear_attention\"");
  refused("/vocab_size", -1, "vocab_size is -1");
  refused("/vocab_size", 1e300, "vocab_size is 1e+300");
  refused("/num_key_value_heads", 0, "num_key_value_heads must be at least 1");
  refused("/eos_token_id", {{1}}, "eos_token_id is [1]");
}

TEST_CASE("bad input: weights so large that logits overflow end what draws from these, and nothing is made of it") {
  const SpoiltModel model;
  std::string bytes = model.Read("model.safetensors");
  const float value = 3e38F;
  std::memcpy(bytes.data() + bytes.size() - 2 * sizeof value, &value, sizeof value);
  model.Write("model.safetensors", bytes);
  const std::string path = model.path.string(), sentence = "a logit there is not finite";
  const Arguments task = {"--model", path, "--task", "chain", "--n-min", "1", "--n-max", "2", "--problems", "2"};
  const Outcome shown = Swarr({"generate", "--model", path, "--prompt", "a1"});  // shows each token as it is drawn
  CHECK(shown.status == 1);
  CHECK(shown.Says(sentence));
  CheckSentence(Swarr(Arguments{"eval"} + task), sentence);
  CheckSentence(Swarr(Arguments{"sample", "--output", (model.dir / "out").string()} + task), sentence);
  CHECK(HoldsOnly(model.dir.path(), {"model"}));
}

TEST_CASE("bad input: a weight that is NaN or infinite ends every command that reads weights, and inspect counts it") {
  const float values[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()};
  for (const float value : values) {
    const SpoiltModel model;
    std::string bytes = model.Read("model.safetensors");
    std::memcpy(bytes.data() + bytes.size() - 2 * sizeof value, &value, sizeof value);
    model.Write("model.safetensors", bytes);
    const std::string path = model.path.string(), out = (model.dir / "out").string();
    const std::string sentence = ": 1 value of the tensor model.norm.weight is NaN or infinite";
    model.CheckRefused(sentence);
    const Arguments task = {"--model", path, "--task", "chain", "--n-min", "1", "--n-max", "2"};
    CheckSentence(Swarr(Arguments{"eval", "--problems", "2"} + task), sentence);
    for (const char* command : {"sft", "rl"}) {
      CheckSentence(Swarr(Arguments{command, "--max-steps", "1", "--output-dir", out} + task), sentence);
    }
    CheckSentence(Swarr({"logits", "--model", path, "--tokens", "1,2", "--out", out}), sentence);
    CheckSentence(Swarr({"convert", "--model", path, "--window", "4", "--output-dir", out}), sentence);
    CHECK(HoldsOnly(model.dir.path(), {"model"}));
    const Outcome shown = Swarr({"inspect", "--model", path});
    CHECK(shown.status == 1);
    CHECK(shown.Says(sentence));
    CHECK(shown.out.find("1 NaN or infinite values in model.norm.weight\n") != std::string::npos);
  }
}

TEST_CASE("bad input: a config.json or an index of absurd size") {
  const SpoiltModel model;
  model.Shard("model-00001-of-00001.safetensors");
  fs::resize_file(model.path / "model.safetensors.index.json", 1ull << 40);  // a hole: takes no room
  model.CheckRefused("index.json: it has more than 268435456 bytes");
  fs::resize_file(model.path / "config.json", 1ull << 40);
  model.CheckRefused("config.json: it has more than 268435456 bytes");
}

TEST_CASE("bad input: names with line breaks, zero bytes and terminal codes, which stay within the one line") {
  const std::string evil("a\n\x1B[2J\0\xC2\x9Bz", 10), spelt = "a\\n\\u001b[2J\\u0000\\u009bz";
  const SpoiltModel model;
  model.ChangeHeader([&](json& h) { h[evil] = 7; });
  model.CheckRefused("tensor '" + spelt + "' is described by no JSON object");
  CheckTokenizer("/model/vocab/aba", evil, "the token 'aba' has the id \"a\\n\\u001b[2J\\u0000");
  CheckTokenizer("/added_tokens", json::array({{{"content", evil}, {"id", 2}}}), "the tokens 'ab' and '" + spelt + "'");
  const Outcome usage = Swarr({"eval", "--task", "b\nc", "--model", "x"});
  CHECK(usage.status == 2);
  CHECK(usage.IsOneSentence());
  const Outcome unknown = Swarr({"eval", "--b\nc"});
  CHECK(unknown.status == 2);
  CHECK(unknown.IsOneSentence());
}
