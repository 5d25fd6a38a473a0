// SPDX-License-Identifier: Apache-2.0
// Rows that a model samples for SFT: which are kept, and that SFT learns from them what was drawn.
#include <doctest/doctest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "program.h"
#include "task/chain.h"
#include "task/jsonl_task.h"
#include "task/registry.h"
#include "test_models.h"
#include "train/data.h"
#include "train/samples.h"

namespace swarr {
namespace {

using nlohmann::json;

const RewardRule kChainRule = RewardByName("chain");

// What SFT with this format reads in the rows.
JsonlTask Read(const std::string& lines, const PromptFormat& format = {}) {
  const TempDirectory dir;
  WriteFileAtomically(dir / "rows.jsonl", lines);
  return JsonlTask(dir / "rows.jsonl", {.completion = true}, kChainRule, {}, format);
}

// A completion of the text, as if it had been drawn as the tokenizer spells it, with log p = -1 for each token.
EvaluatedCompletion Drawn(std::int64_t problem, const std::string& text, double reward, const Tokenizer& tokenizer) {
  Tokens tokens = tokenizer.Encode(text);
  tokens.push_back(0);
  return {.problem = problem,
          .text = text,
          .answer = {},
          .drawn = {.tokens = tokens, .logp = std::vector<double>(tokens.size(), -1.0), .finished = true},
          .finished = true,
          .reward = reward};
}

std::vector<json> ParseLines(const std::string& lines) {
  const TempDirectory dir;
  WriteFileAtomically(dir / "rows.jsonl", lines);
  return Lines(dir / "rows.jsonl");
}

// Samples all problems of the task from random weights, keeps all, and compares what SFT reads with what was drawn.
SampledRows CheckRoundTrip(const Tokenizer& tokenizer, const Task& task, std::int32_t eos_id) {
  ModelConfig config = TextConfig();
  config.vocab = tokenizer.vocab_size();
  config.eos_id = eos_id;
  const Transformer model(config, DType::kF32, /*with_gradients=*/false);
  Randomize(model);
  TestContext t;
  const int samples = 16;
  const std::vector<EvaluatedCompletion> completions =
      Evaluate(t.ctx, model, tokenizer, task, {.problems = 4, .samples = samples, .max_completion_length = 24});
  const PromptFormat format;
  const SampledRows rows = RowsToLearn(completions,
                                       {.task = task,
                                        .tokenizer = tokenizer,
                                        .format = format,
                                        .eos_id = eos_id,
                                        .model = "m",
                                        .seed = 0,
                                        .samples = samples},
                                       Keep::kAll);
  const std::vector<json> parsed = ParseLines(rows.lines);
  const JsonlTask read = Read(rows.lines);
  CHECK(read.size() == rows.rows);
  CHECK(rows.rows + rows.not_read_back == static_cast<std::int64_t>(completions.size()));
  for (std::size_t i = 0; i < parsed.size(); ++i) {
    const auto problem = parsed[i]["source"]["problem"].get<std::int64_t>();
    const auto sample = parsed[i]["source"]["sample"].get<std::size_t>();
    const Completion& drawn = completions[static_cast<std::size_t>(problem) * samples + sample].drawn;
    Tokens sampled = tokenizer.EncodePrompt(task.Get(problem, 0).prompt);
    const std::size_t prompt = sampled.size();
    sampled.insert(sampled.end(), drawn.tokens.begin(), drawn.tokens.end());
    const Document document = EncodeDocument(tokenizer, read.Get(static_cast<std::int64_t>(i), 0), eos_id);
    CHECK(document.tokens == sampled);
    CHECK(document.prompt_length == static_cast<int>(prompt));
  }
  return rows;
}

TEST_CASE("sft reads in sampled rows exactly the tokens that were drawn: the chain task, character by character") {
  const Tokenizer tokenizer(Tokenizer::MakeCharacterTokenizer(kChainAlphabet, kEndOfText), "t");
  CHECK(CheckRoundTrip(tokenizer, ChainTask(Split::kRl, {.n_min = 1, .n_max = 2}), 0).rows > 0);
}

TEST_CASE(
    "sft reads in sampled rows exactly the tokens that were drawn: bytes and merges, where another spelling of "
    "a text is left out and counted" *
    doctest::skip(!HasUnicodeLibraries())) {
  // "ab" may be drawn as one token or as two, and the two bytes of an accented letter apart.
  const Tokenizer tokenizer(nlohmann::ordered_json::parse(R"({
    "added_tokens": [{"id": 8, "content": "<end>", "special": true}],
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "Ġ": 2, "Ã": 3, "©": 4, "ab": 5, "Ġab": 6, "Ã©": 7},
              "merges": ["a b", "Ġ ab", "Ã ©"]}})"),
                            "t");
  const TableTask task({{"a", "", ""}, {"ab ab", "", ""}, {"é", "", ""}, {"b a", "", ""}});
  const SampledRows rows = CheckRoundTrip(tokenizer, task, 8);
  CHECK(rows.rows > 0);
  CHECK(rows.not_read_back > 0);
}

TEST_CASE(
    "correct keeps all right completions, shortest the first of the fewest tokens of each problem, all keeps all") {
  const Tokenizer tokenizer = TextTokenizer();
  const TableTask task({{"a?", "", "A"}, {"b?", "", "B"}, {"c?", "", "C"}});
  std::vector<EvaluatedCompletion> completions = {
      Drawn(0, "abcd", 1, tokenizer), Drawn(0, "ab", 1, tokenizer),   Drawn(0, "cd", 1, tokenizer),
      Drawn(1, "a", 0, tokenizer),    Drawn(1, "ab", 0.5, tokenizer), Drawn(1, "abc", 0, tokenizer),
      Drawn(2, "a", 0, tokenizer),    Drawn(2, "d", 1, tokenizer),    Drawn(2, "dd", 1, tokenizer)};
  completions[7].drawn.tokens.back() = 1;  // ends by another token than SFT appends
  const PromptFormat format;
  const SampleSource source{
      .task = task, .tokenizer = tokenizer, .format = format, .eos_id = 0, .model = "m", .seed = 7, .samples = 3};
  const auto texts = [&](Keep keep, int not_read_back) {
    const SampledRows rows = RowsToLearn(completions, source, keep);
    CHECK(rows.not_read_back == not_read_back);
    std::vector<std::string> all;
    std::int64_t tokens = 0;
    for (const json& row : ParseLines(rows.lines)) {
      all.push_back(row["completion"]);
      tokens += row["tokens"].get<std::int64_t>();
    }
    CHECK(rows.rows == static_cast<std::int64_t>(all.size()));
    CHECK(rows.tokens == tokens);
    return all;
  };
  using Texts = std::vector<std::string>;
  CHECK(texts(Keep::kCorrect, 1) == Texts{"abcd", "ab", "cd", "dd"});
  CHECK(texts(Keep::kShortest, 1) == Texts{"ab", "dd"});
  CHECK(texts(Keep::kAll, 1) == Texts{"abcd", "ab", "cd", "a", "ab", "abc", "a", "dd"});
  const json row = ParseLines(RowsToLearn(completions, source, Keep::kShortest).lines)[1];
  CHECK(row == json{{"prompt", "c?"},
                    {"completion", "dd"},
                    {"answer", "C"},
                    {"reward", 1.0},
                    {"logp", -3.0},
                    {"tokens", 3},
                    {"source", {{"model", "m"}, {"seed", 7}, {"problem", 2}, {"sample", 2}}}});
}

TEST_CASE("rows of a conversation and of an instruction become the same prompt again, and the format's own text once") {
  const std::string letters = "Question: Awrdhlpy\n<|im_endat>.b5";
  std::string alphabet;
  for (const char c : letters) {
    if (alphabet.find(c) == std::string::npos) alphabet += c;
  }
  const Tokenizer tokenizer(Tokenizer::MakeCharacterTokenizer(alphabet, kEndOfText), "t");
  const auto round_trip = [&](const std::string& problem, const PromptFormat& format, const std::string& text) {
    const TempDirectory dir;
    WriteFileAtomically(dir / "problem.jsonl", problem);
    const JsonlTask task(dir / "problem.jsonl", {.answer = true}, kChainRule, {}, format);
    const SampledRows rows = RowsToLearn(
        {Drawn(0, text, 1, tokenizer)},
        {.task = task, .tokenizer = tokenizer, .format = format, .eos_id = 0, .model = "m", .seed = 0, .samples = 1},
        Keep::kAll);
    REQUIRE(rows.rows == 1);
    const Example read = Read(rows.lines, format).Get(0, 0);
    CHECK(read.prompt == task.Get(0, 0).prompt);
    CHECK(read.completion == text);
    return ParseLines(rows.lines)[0];
  };
  const json conversation = {{{"role", "system"}, {"content", "the"}}, {{"role", "user"}, {"content", "ab"}}};
  CHECK(round_trip(json{{"messages", conversation}, {"answer", "5"}}.dump(),
                   {.chat = {.format = ChatFormat::kChatml, .system = {}}}, "a b")["prompt"] == conversation);
  PromptFormat question;
  question.instruction = Instruction::kQuestionAnswer;
  const json row = round_trip(R"({"question": "ab", "answer": "5"})", question, " 5.");
  CHECK(row["prompt"] == "ab");
  CHECK(row["completion"] == "5.");
}

TEST_CASE("sample writes the same rows for a seed whatever the threads and slots, of the training prompts, for sft") {
  const TempDirectory dir;
  const auto sample = [&](const std::string& name, const std::vector<std::string>& more) {
    return JsonOf(std::vector<std::string>{"sample", "--model", TinyModel(), "--problems", "5", "--samples", "4",
                                           "--keep", "all", "--json", "--output", (dir / name).string()} +
                  kShort + more);
  };
  const json summary = sample("a", {"--threads", "1"});
  sample("b", {"--threads", "3", "--slots", "2"});
  sample("c", {"--seed", "1"});
  CHECK(ReadFile(dir / "a") == ReadFile(dir / "b"));
  CHECK(ReadFile(dir / "a") != ReadFile(dir / "c"));
  const std::vector<json> rows = Lines(dir / "a");
  REQUIRE(!rows.empty());
  CHECK(summary["problems"] == 5);
  CHECK(summary["samples"] == 20);
  CHECK(summary["kept"] == rows.size());
  CHECK(summary["kept"].get<int>() + summary["not_read_back"].get<int>() == 20);
  std::int64_t tokens = 0;
  for (const json& row : rows) {
    CHECK(SplitOf(ParsePrompt(row["prompt"].get<std::string>())) == Split::kRl);
    CHECK(row["logp"] < 0);
    CHECK(row["source"]["model"] == "model");
    tokens += row["tokens"].get<std::int64_t>();
  }
  CHECK(summary["kept_tokens"] == tokens);
  CHECK(tokens <= summary["tokens"]);
  const Outcome sft = Swarr({"sft", "--model", TinyModel(), "--data", (dir / "a").string(), "--max-steps", "1",
                             "--batch-size", "2", "--output-dir", (dir / "sft").string()});
  CHECK_MESSAGE(sft.status == 0, sft.err);
  CHECK_FALSE(sft.Says("left out"));
}

TEST_CASE(
    "sample refuses no samples, rows without an answer, an unknown rule, a file that exists, and to keep nothing") {
  const TempDirectory dir;
  const std::string out = (dir / "out").string(), rows = (dir / "rows").string();
  const auto refused = [&](const std::vector<std::string>& more, int status, const std::string& text) {
    const Outcome outcome = Swarr(std::vector<std::string>{"sample", "--model", TinyModel(), "--problems", "1",
                                                           "--samples", "1", "--output", out} +
                                  more);
    CAPTURE(outcome.err);
    CHECK(outcome.status == status);
    CHECK(outcome.IsOneSentence());
    CHECK(outcome.Says(text));
    CHECK(outcome.out.empty());
  };
  WriteFileAtomically(rows, "{\"prompt\": \"a7b3n01x5?\"}\n");
  refused(kShort + std::vector<std::string>{"--samples", "0"}, 2, "--samples: 0 given where a number from 1 to");
  refused(kShort + std::vector<std::string>{"--keep", "best"}, 2, "'best'");
  refused(kShort + std::vector<std::string>{"--split", "train"}, 2, "'train'");
  refused({"--data", rows}, 1, "rows:1: the field \"answer\" is missing");
  refused(kShort + std::vector<std::string>{"--max-completion-length", "2"}, 1,
          "none of the 1 completions can be kept");
  CHECK(HoldsOnly(dir.path(), {"rows"}));
  WriteFileAtomically(out, "mine");
  const std::vector<std::string> all = kShort + std::vector<std::string>{"--keep", "all", "--samples", "9"};
  refused(all, 1, "--output names " + out + ", which is there already");
  CHECK(ReadFile(out) == "mine");
  const Outcome replaced = Swarr(
      std::vector<std::string>{"sample", "--model", TinyModel(), "--problems", "1", "--output", out, "--overwrite"} +
      all);
  CHECK_MESSAGE(replaced.status == 0, replaced.err);
  CHECK(ReadFile(out) != "mine");
}

TEST_CASE(
    "a built-in task's completions are kept whatever the model's chat template, which its problems don't follow") {
  const TempDirectory dir;
  const std::filesystem::path base = std::filesystem::path(SWARR_TEST_DATA) / "../../data/chain-base";
  std::filesystem::copy(base, dir / "chat");
  WriteFileAtomically(dir / "chat/chat_template.jinja",
                      "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}");
  const auto sampled = [&](const std::filesystem::path& model) {
    const std::string out = (dir / "rows.jsonl").string();
    const Outcome outcome = Swarr({"sample", "--model", model.string(), "--task", "chain", "--n-max", "4", "--problems",
                                   "2", "--samples", "2", "--keep", "all", "--output", out, "--overwrite", "--quiet"});
    REQUIRE_MESSAGE(outcome.status == 0, outcome.err);
    std::vector<std::string> completions;
    for (const json& row : Lines(out)) completions.push_back(row["completion"]);
    return completions;
  };
  const std::vector<std::string> plain = sampled(base);
  CHECK(plain.size() == 4);
  CHECK(sampled(dir / "chat") == plain);
}

}  // namespace
}  // namespace swarr
