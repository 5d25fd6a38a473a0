// SPDX-License-Identifier: Apache-2.0
// swarr sft --teacher, end to end: what it writes and records, and what it refuses.
#include "program.h"
#include "tensor/memory.h"
#include "tensor/safetensors.h"

using namespace swarr;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

std::vector<std::string> Sft(const std::string& output_dir, const std::vector<std::string>& more) {
  return std::vector<std::string>{"sft",       "--model", TinyModel(), "--max-steps",  "8",       "--batch-size", "4",
                                  "--threads", "1",       "--quiet",   "--output-dir", output_dir} +
         kShort + more;
}

// A copy of the tiny model in which `change` has changed a JSON file.
std::string ChangedModel(const fs::path& dir, const char* file, const std::function<void(json&)>& change) {
  fs::copy(TinyModel(), dir);
  json content = json::parse(ReadFile(dir / file));
  change(content);
  WriteFileAtomically(dir / file, content.dump());
  return dir.string();
}

}  // namespace

TEST_CASE("sft --teacher trains towards it, and records it as an input, its settings and both parts of the loss") {
  const TempDirectory dir;
  const std::string teacher = (dir / "teacher").string(), run = (dir / "run").string(),
                    again = (dir / "again").string();
  REQUIRE(
      Swarr(TinyPretrain(teacher, 2) + std::vector<std::string>{"--seed", "7", "--initializer-range", "0.5"}).status ==
      0);
  const Outcome trained = Swarr(Sft(run, {"--teacher", teacher, "--distill-weight", "1", "--distill-temperature", "2",
                                          "--distill-kl", "reverse", "--lr", "0.01", "--seed", "5"}));
  REQUIRE_MESSAGE(trained.status == 0, trained.err);
  const std::vector<json> steps = Lines(fs::path(run) / "metrics.jsonl");
  for (const json& row : steps) CHECK(row["loss"].get<double>() == 4 * row["kl"].get<double>());
  CHECK(steps[0].contains("cross_entropy"));
  CHECK(steps[7]["kl"] < steps[0]["kl"]);
  const json recorded = json::parse(ReadFile(fs::path(run) / "resolved_config.json"));
  CHECK(recorded["teacher"] == teacher);
  CHECK(recorded["distill-weight"] == 1.0);
  CHECK(recorded["distill-temperature"] == 2.0);
  CHECK(recorded["distill-kl"] == "reverse");
  CHECK(json::parse(ReadFile(fs::path(run) / "run.json")).dump().find("teacher") != std::string::npos);
  const std::string config = (fs::path(run) / "resolved_config.json").string();
  REQUIRE(Swarr({"sft", "--config", config, "--quiet", "--output-dir", again}).status == 0);
  CHECK(ReadFile(fs::path(again) / "model.safetensors") == ReadFile(fs::path(run) / "model.safetensors"));
}

TEST_CASE("sft without a teacher records nothing of one") {
  const TempDirectory dir;
  REQUIRE(Swarr(Sft((dir / "run").string(), {})).status == 0);
  const std::string recorded = ReadFile(dir / "run" / "resolved_config.json");
  CHECK(recorded.find("teacher") == std::string::npos);
  CHECK(recorded.find("distill") == std::string::npos);
  CHECK(!Lines(dir / "run" / "metrics.jsonl")[0].contains("kl"));
}

TEST_CASE("a teacher that does not fit the student, and settings without a teacher or out of range, are refused") {
  const TempDirectory dir;
  const std::string run = (dir / "run").string();
  const auto refuses = [&](const std::vector<std::string>& more, int status, const std::string& sentence) {
    INFO(sentence);
    const Outcome outcome = Swarr(Sft(run, more));
    CHECK(outcome.status == status);
    CHECK(outcome.IsOneSentence());
    CHECK_MESSAGE(outcome.Says(sentence), outcome.err);
    CHECK(!fs::exists(run));
  };
  refuses({"--distill-weight", "0.5"}, 2, "--distill-weight has no effect without --teacher; leave it out");
  refuses({"--distill-kl", "forward"}, 2, "--distill-kl has no effect without --teacher");
  const std::vector<std::string> taught = {"--teacher", TinyModel()};
  refuses(taught + std::vector<std::string>{"--distill-weight", "1.5"}, 2, "a number from 0 to 1 is needed");
  refuses(taught + std::vector<std::string>{"--distill-weight", "-0.1"}, 2, "a number from 0 to 1 is needed");
  for (const char* temperature : {"-1", "0", "0.09", "100"}) {
    refuses(taught + std::vector<std::string>{"--distill-temperature", temperature}, 2,
            "a number from 0.1 to 20 is needed");
  }
  refuses(taught + std::vector<std::string>{"--distill-kl", "sideways"}, 2, "sideways");
  refuses({"--teacher", (dir / "none").string()}, 1, "none");

  const std::string swapped = ChangedModel(dir / "swapped", "tokenizer.json", [](json& tokenizer) {
    std::swap(tokenizer["model"]["vocab"]["0"], tokenizer["model"]["vocab"]["1"]);
  });
  refuses({"--teacher", swapped}, 1, "to the teacher and '");
  const std::string fewer = ChangedModel(dir / "fewer", "tokenizer.json", [](json& tokenizer) {
    std::string last;
    for (const auto& [piece, id] : tokenizer["model"]["vocab"].items()) {
      if (id == tokenizer["model"]["vocab"].size() - 1) last = piece;
    }
    tokenizer["model"]["vocab"].erase(last);
  });
  refuses({"--teacher", fewer}, 1, "the teacher's tokenizer has");
  const std::string shorter =
      ChangedModel(dir / "shorter", "config.json", [](json& config) { config["max_position_embeddings"] = 30; });
  refuses({"--teacher", shorter, "--max-seq-len", "40"}, 2,
          "--max-seq-len 40 exceeds the teacher's context of 30 tokens");
  const std::string chat = (dir / "chat").string();
  fs::copy(TinyModel(), chat);
  WriteFileAtomically(fs::path(chat) / "chat_template.jinja",
                      "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}");
  const std::string rows = (dir / "rows.jsonl").string();
  REQUIRE(Swarr({"data", "chain", "--count", "9", "--n-min", "1", "--n-max", "2", "--out", rows}).status == 0);
  const Outcome turns = Swarr({"sft", "--model", TinyModel(), "--max-steps", "1", "--quiet", "--output-dir", run,
                               "--data", rows, "--teacher", chat});
  CHECK(turns.status == 1);
  CHECK_MESSAGE(turns.Says("the teacher's chat template is chatml and the model's plain"), turns.err);
  // Problems of a built-in task are put to both models in the same words.
  CHECK(Swarr(Sft(run, {"--teacher", chat})).status == 0);
}

TEST_CASE("rl --objective opd learns from the teacher that --ref-model names, exactly on-policy, and asks for one") {
  const TempDirectory dir;
  const std::string teacher = (dir / "teacher").string(), run = (dir / "run").string();
  REQUIRE(Swarr(TinyPretrain(teacher, 2) + std::vector<std::string>{"--seed", "7"}).status == 0);
  const auto rl = [&](const std::vector<std::string>& more) {
    return Swarr(std::vector<std::string>{"rl", "--model", TinyModel(), "--objective", "opd", "--max-steps", "2",
                                          "--prompts-per-step", "2", "--num-generations", "3", "--output-dir", run} +
                 kShort + more);
  };
  const Outcome alone = rl({});
  CHECK(alone.status == 2);
  CHECK(alone.Says("with --reward-weight 0 the reference model is the teacher; name it with --ref-model"));
  const std::string swapped = ChangedModel(dir / "swapped", "tokenizer.json", [](json& tokenizer) {
    std::swap(tokenizer["model"]["vocab"]["0"], tokenizer["model"]["vocab"]["1"]);
  });
  const Outcome other = rl({"--ref-model", swapped});
  CHECK(other.status == 1);
  CHECK(other.IsOneSentence());
  CHECK(other.Says("to the reference model and '"));
  const Outcome taught = rl({"--ref-model", teacher});
  REQUIRE_MESSAGE(taught.status == 0, taught.err);
  CHECK(taught.Says("largest difference 0\n"));
  CHECK(Lines(fs::path(run) / "metrics.jsonl")[0]["kl"] != 0.0);
}

TEST_CASE("a teacher of another vocabulary is refused") {
  const TempDirectory dir;
  const std::string teacher = (dir / "teacher").string(), run = (dir / "run").string();
  fs::copy(TinyModel(), teacher);
  Arena arena;
  std::vector<NamedTensor> tensors;
  const SafetensorsFile weights(fs::path(teacher) / "model.safetensors");
  json config = json::parse(ReadFile(fs::path(teacher) / "config.json"));
  const std::int64_t vocab = config["vocab_size"].get<std::int64_t>();
  for (const std::string& name : weights.names()) {
    const std::vector<std::int64_t>& shape = weights.shape(name);
    const std::int64_t rows = shape[0] + (name.find("embed_tokens") != std::string::npos ? 3 : 0);
    tensors.push_back(
        {name, shape.size() == 1 ? arena.NewZero(DType::kF32, {rows}) : arena.NewZero(DType::kF32, {rows, shape[1]})});
  }
  config["vocab_size"] = vocab + 3;  // as a padded embedding has it
  WriteFileAtomically(fs::path(teacher) / "config.json", config.dump());
  WriteSafetensors(fs::path(teacher) / "model.safetensors", tensors);
  const Outcome outcome = Swarr(Sft(run, {"--teacher", teacher}));
  CHECK(outcome.status == 1);
  CHECK(outcome.IsOneSentence());
  CHECK_MESSAGE(
      outcome.Says(Concat("the teacher has a vocabulary of ", vocab + 3, " tokens, the model one of ", vocab)),
      outcome.err);
}
