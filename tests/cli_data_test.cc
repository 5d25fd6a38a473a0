// SPDX-License-Identifier: Apache-2.0
// Data of several schemas and prompts of several kinds, end to end.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "program.h"

using namespace swarr;
using nlohmann::json;

namespace {

// Rows like GSM8K's in the characters that the tests' model has; the second has no gold answer.
const std::string kRows =
    "{\"question\": \"a7b3n01x5?\", \"answer\": \"01:C,#C####C\"}\n"
    "{\"question\": \"a7b3n01x5?\", \"answer\": \"01:C,#C\"}\n";

}  // namespace

TEST_CASE("eval of GSM8K-like rows tells sampled, greedy, pass@k and extraction, and what it left out") {
  const TempDirectory dir;
  const std::string file = (dir / "rows.jsonl").string(), out = (dir / "completions.jsonl").string();
  WriteFileAtomically(file, kRows);
  const Outcome done = Swarr({"eval", "--model", TinyModel(), "--data", file, "--samples", "5", "--greedy",
                              "--max-completion-length", "20", "--completions-out", out, "--json"});
  REQUIRE_MESSAGE(done.status == 0, done.err);
  CHECK(done.Says("using 1 problems; left out:\n  1 for no answer ("));
  CHECK(done.Says("rows.jsonl:2: there is no gold answer"));
  const json result = json::parse(done.out);
  CHECK(result["problems"] == 1);
  CHECK(result["dropped"] == json{{"no answer", 1}});
  for (const char* name :
       {"accuracy", "accuracy_greedy", "pass@1", "pass@2", "pass@4", "pass@k", "maj@k", "extracted", "truncated"}) {
    CAPTURE(name);
    REQUIRE(result.contains(name));
    CHECK(result[std::string(name) + "_ci95"].size() == 2);
  }
  CHECK(result["pass@1"] == doctest::Approx(result["accuracy"].get<double>()));
  int rows = 0;
  ForEachJsonLine(out, [&](int, const json& row) {
    ++rows;
    CHECK(row["gold"] == "C");
    CHECK(row["prompt"] == "a7b3n01x5?");
  });
  CHECK(rows == 5);
}

TEST_CASE("with one seed eval draws other completions than sample, and generate what sample draws first") {
  const TempDirectory dir;
  const std::string evaluated = (dir / "evaluated.jsonl").string(), sampled = (dir / "sampled.jsonl").string();
  const auto draw = [](std::vector<std::string> command) {
    const Outcome outcome =
        Swarr(command + kShort +
              std::vector<std::string>{"--model", TinyModel(), "--problems", "4", "--samples", "3", "--seed", "1"});
    REQUIRE_MESSAGE(outcome.status == 0, outcome.err);
  };
  draw({"eval", "--completions-out", evaluated});
  draw({"sample", "--split", "eval", "--keep", "all", "--output", sampled});
  const std::vector<json> of_eval = Lines(evaluated), rows = Lines(sampled);
  REQUIRE(of_eval.size() == 12);
  REQUIRE(rows.size() > 3);  // those that end
  std::size_t equal = 0;
  for (const json& row : rows) {
    const json& other =
        of_eval.at(3 * row["source"]["problem"].get<std::size_t>() + row["source"]["sample"].get<std::size_t>());
    CHECK(other["prompt"] == row["prompt"]);
    equal += other["completion"] == row["completion"];
  }
  CHECK(equal < rows.size());
  REQUIRE(rows[0]["source"]["problem"] == 0);
  REQUIRE(rows[0]["source"]["sample"] == 0);
  const Outcome generated = Swarr({"generate", "--model", TinyModel(), "--prompt", rows[0]["prompt"], "--seed", "1"});
  CHECK(generated.out == rows[0]["completion"].get<std::string>() + "\n");
}

TEST_CASE("a file that a command writes never replaces another, unless --overwrite says so") {
  const TempDirectory dir;
  const std::string out = (dir / "taken").string();
  const std::vector<std::vector<std::string>> commands = {
      std::vector<std::string>{"eval", "--model", TinyModel(), "--problems", "1", "--completions-out", out} + kShort,
      {"logits", "--model", TinyModel(), "--tokens", "1,2", "--out", out},
      {"data", "chain", "--count", "1", "--out", out},
      {"bench", "--suite", "ops", "--rows", "D add", "--seconds-per-row", "0.001", "--json", out}};
  for (const std::vector<std::string>& command : commands) {
    CAPTURE(command[0]);
    WriteFileAtomically(out, "precious");
    const Outcome refused = Swarr(command);
    CHECK(refused.status == 1);
    CHECK(refused.Says(out + ", which is there already; choose another file, or replace it with --overwrite"));
    CHECK(ReadFile(out) == "precious");
    CHECK(Swarr(command + std::vector<std::string>{"--overwrite"}).status == 0);
    CHECK(ReadFile(out) != "precious");
  }
}

// What eval says if somebody writes these files while it runs, the first of which is its output.
static Outcome EvalWhile(const std::string& data, const std::vector<std::string>& written) {
  // It can't end before, since it waits for data from a pipe that we open afterwards.
  std::filesystem::remove(data);
  REQUIRE(::mkfifo(data.c_str(), 0600) == 0);
  Program eval({"eval", "--model", TinyModel(), "--data", data, "--problems", "1", "--max-completion-length", "2",
                "--completions-out", written[0]});
  const int pipe = ::open(data.c_str(), O_WRONLY);  // until the command reads, it has seen that the name is free
  for (const std::string& file : written) WriteFileAtomically(file, "precious");
  const std::string row = R"({"prompt": "a7b3n01x5?", "answer": "C"})"
                          "\n";
  CHECK(::write(pipe, row.data(), row.size()) == static_cast<ssize_t>(row.size()));
  ::close(pipe);
  return eval.Wait();
}

TEST_CASE("files that appear under an output's name while a command runs stay, and the result is kept beside them") {
  const TempDirectory dir;
  const std::string data = (dir / "data").string(), out = (dir / "rows").string();
  std::vector<std::string> taken = {out};
  for (const char* free : {"rows.new", "rows.new-2", "rows.new-3"}) {
    std::filesystem::remove(out);
    const std::string result = (dir / free).string();
    const Outcome done = EvalWhile(data, taken);
    CHECK(done.status == 1);
    CHECK_MESSAGE(
        done.Says("has been written by another process meanwhile and stays; the result is in " + result + "\n"),
        done.err);
    CHECK(Lines(result).size() == 1);
    for (const std::string& file : taken) CHECK(ReadFile(file) == "precious");
    taken.push_back(result);
  }
  CHECK(HoldsOnly(dir.path(), {"data", "rows", "rows.new", "rows.new-2", "rows.new-3"}));
}

TEST_CASE("of two commands that write one file at a time each keeps its result, or was refused before it computed") {
  const auto command = [](const std::string& seed, const std::string& out) {
    return std::vector<std::string>{"data", "chain", "--count", "3000", "--seed", seed, "--out", out};
  };
  const TempDirectory dir;
  const std::string seeds[] = {"1", "2"};
  std::string rows[2];
  for (int i = 0; i < 2; ++i) {
    const std::string out = (dir / seeds[i]).string();
    REQUIRE(Swarr(command(seeds[i], out)).status == 0);
    rows[i] = ReadFile(out);
  }
  for (int trial = 0; trial < 10; ++trial) {
    const TempDirectory both;
    const std::string out = (both / "rows").string();
    Program a(command("1", out)), b(command("2", out));
    const Outcome outcomes[] = {a.Wait(), b.Wait()};
    CHECK(outcomes[0].status + outcomes[1].status == 1);
    for (int i = 0; i < 2; ++i) {
      CAPTURE(outcomes[i].err);
      if (outcomes[i].status == 0) {
        CHECK(ReadFile(out) == rows[i]);
      } else if (!outcomes[i].Says("which is there already")) {
        CHECK(outcomes[i].Says("the result is in " + out + ".new"));
        CHECK(ReadFile(out + ".new") == rows[i]);
      }
    }
    CHECK_FALSE(std::filesystem::exists(both / ".rows.swarr-lock"));
  }
}

TEST_CASE("of two conversions to one directory at a time one makes it whole and the other is refused") {
  for (int trial = 0; trial < 10; ++trial) {
    const TempDirectory dir;
    const std::filesystem::path out = dir / "missing" / "converted";
    const auto command = [&](const char* window) {
      return std::vector<std::string>{"convert", "--model",      TinyModel(), "--window",
                                      window,    "--output-dir", out.string()};
    };
    Program a(command("1")), b(command("2"));
    const Outcome outcomes[] = {a.Wait(), b.Wait()};
    CAPTURE(outcomes[0].err);
    CAPTURE(outcomes[1].err);
    REQUIRE(outcomes[0].status + outcomes[1].status == 1);
    const int window = outcomes[0].status == 0 ? 1 : 2;
    CHECK(json::parse(ReadFile(out / "config.json"))["sliding_window"] == window);
    CHECK(json::parse(ReadFile(out / "resolved_config.json"))["window"] == window);
    CHECK(std::filesystem::exists(out / "model.safetensors"));
    CHECK(HoldsOnly(out.parent_path(), {"converted"}));
  }
}

TEST_CASE("a file's name that is too long for what stands beside it meanwhile is refused before anything is computed") {
  const TempDirectory dir;
  const auto write = [&](std::size_t length) {
    return Swarr({"data", "chain", "--count", "1", "--out", (dir / std::string(length, 'n')).string()});
  };
  CHECK(write(229).status == 0);
  const Outcome refused = write(230);
  CHECK(refused.status == 1);
  CHECK(refused.Says("a name too long for what stands beside it meanwhile; choose a shorter one"));
}

TEST_CASE("what a command reads is never overwritten by what it writes, through a link neither") {
  const TempDirectory dir;
  const std::string data = (dir / "rows.jsonl").string(), model = (dir / "model").string();
  const std::string link = (dir / "link").string(), config = (dir / "config").string();
  WriteFileAtomically(data, kRows);
  WriteFileAtomically(config, "{\"problems\": 1}");
  std::filesystem::copy(TinyModel(), model);
  const std::vector<std::string> eval = {"eval", "--model", model, "--data", data, "--config", config, "--overwrite"};
  const auto refused = [&](const std::vector<std::string>& more, const std::string& why) {
    const Outcome outcome = Swarr(eval + more);
    CHECK(outcome.status != 0);
    CHECK(outcome.IsOneSentence());
    CHECK_MESSAGE(outcome.Says(why), outcome.err);
    CHECK(ReadFile(data) == kRows);
  };
  refused({"--completions-out", data}, "which --data reads; choose another file");
  refused({"--completions-out", config}, "which --config reads");
  std::filesystem::create_symlink(data, link);
  refused({"--completions-out", link}, "which --data reads");
  refused({"--completions-out", model + "/config.json"}, "of a model or a run");
  std::filesystem::remove(link);
  std::filesystem::create_symlink(model + "/model.safetensors", link);
  const std::string weights = ReadFile(link);
  refused({"--completions-out", link}, "of a model or a run");
  CHECK(ReadFile(link) == weights);
}

TEST_CASE("flags that would do nothing are refused by the flag that makes them idle") {
  const TempDirectory dir;
  const std::string model = TinyModel(), out = (dir / "out").string(), data = (dir / "rows.jsonl").string();
  WriteFileAtomically(data, R"({"prompt": "a7b3n01x5?", "completion": "01:C,#C", "answer": "C"})");
  using Arguments = std::vector<std::string>;
  const Arguments task = {"--task", "chain"}, rows = {"--data", data}, to = {"--output-dir", out};
  const auto refused = [&](const Arguments& command, const std::string& flag, const std::string& why) {
    const Outcome outcome = Swarr(command);
    CAPTURE(outcome.err);
    CHECK(outcome.status == 2);
    CHECK(outcome.IsOneSentence());
    CHECK(outcome.Says(flag + " has no effect " + why));
    CHECK(HoldsOnly(dir.path(), {"rows.jsonl"}));
  };
  const Arguments sample = {"sample", "--model", model, "--output", out}, eval = {"eval", "--model", model},
                  rl = Arguments{"rl", "--model", model, "--max-steps", "1"} + to,
                  sft = Arguments{"sft", "--model", model} + to, pretrain = Arguments{"pretrain"} + to;
  for (const Arguments& command : {sample, eval, rl, sft, pretrain}) {
    CAPTURE(command[0]);
    for (const Arguments& flag : {Arguments{"--template", "chatml"},
                                  {"--instruction", "boxed"},
                                  {"--system", "none"},
                                  {"--prompt-field", "p"},
                                  {"--answer-field", "a"}}) {
      refused(command + task + flag, flag[0], "with --task, whose problems are its own; leave it out");
    }
    refused(command + task + Arguments{"--reward", "math"}, "--reward", "with --task, which has its own rule");
    refused(command + rows + Arguments{"--n-max", "3"}, "--n-max", "with --data");
  }
  // The task's own rule may be named.
  CHECK(Swarr(eval + Arguments{"--reward", "chain", "--problems", "1"} + kShort).status == 0);
  refused(sft + task + Arguments{"--strip-calculator-marks"}, "--strip-calculator-marks", "with --task");
  refused(sft + rows + Arguments{"--restate", "0.2"}, "--restate", "with --data");
  refused(sft + task + Arguments{"--lines-max", "2"}, "--lines-max", "with another --task");
  refused(eval + Arguments{"--task", "words", "--n-max", "2"}, "--n-max", "with another --task");
  refused(sft + task + Arguments{"--max-steps", "1", "--epochs", "2"}, "--epochs", "with --max-steps");
  for (const char* flag : {"--eval-data", "--eval-examples", "--eval-max-completion-length"}) {
    refused(sft + task + Arguments{flag, "1"}, flag, "where --eval-every is 0");
  }
  refused(sft + task + Arguments{"--keep-checkpoints", "2"}, "--keep-checkpoints", "where --save-every is 0");
  refused(sft + task + Arguments{"--change", "lr"}, "--change", "without --resume");
  refused(sample + rows + Arguments{"--split", "sft"}, "--split", "with --data");
  refused(rl + task + Arguments{"--ref-model", model}, "--ref-model", "where --beta is 0");
  refused(eval + task + Arguments{"--lm-eval"}, "--lm-eval", "with --task");
  refused(eval + rows + Arguments{"--shots", "3"}, "--shots", "without --few-shot-data");
  refused(eval + rows + Arguments{"--lm-eval", "--shots", "0", "--samples", "2"}, "--samples", "with --lm-eval");
  refused(pretrain + task + Arguments{"--model", model, "--layers", "2"}, "--layers", "with --model");
  refused({"tokenize", "--model", model, "--decode", "1", "--special-as-text"}, "--special-as-text", "with --decode");
  refused({"generate", "--model", model, "--prompt", "a", "--system", "be brief"}, "--system", "with --template plain");
}

TEST_CASE("a flag that speaks of rows has its effect with --task where the evaluation reads rows") {
  const TempDirectory dir;
  const std::string data = (dir / "rows.jsonl").string();
  WriteFileAtomically(data, R"({"prompt": "a7b3n01x5?", "gold": "C"})");
  const std::vector<std::string> sft = {
      "sft", "--model",     TinyModel(), "--max-steps",    "1",    "--quiet",      "--eval-every",
      "1",   "--eval-data", data,        "--answer-field", "gold", "--output-dir", (dir / "out").string()};
  const Outcome done = Swarr(sft + kShort);
  CHECK_MESSAGE(done.status == 0, done.err);
}

TEST_CASE("a file that can't be written is refused before anything is computed, and a model's file always") {
  const TempDirectory dir;
  const std::string model = (dir / "model").string();
  REQUIRE(Swarr({"convert", "--model", TinyModel(), "--window", "4", "--output-dir", model}).status == 0);
  const auto refused = [](const std::string& out, const std::string& why) {
    const Outcome outcome = Swarr({"data", "chain", "--count", "1", "--overwrite", "--out", out});
    CHECK(outcome.status != 0);
    CHECK(outcome.IsOneSentence());
    CHECK_MESSAGE(outcome.Says(why), outcome.err);
  };
  refused("", "is empty");
  refused((dir / "nowhere" / "rows").string(), "there is no directory");
  refused(model, "is a directory");
  refused("/dev/full", "something else than a file");
  refused(model + "/model.safetensors", "of a model or a run");
  const Outcome again = Swarr({"convert", "--model", TinyModel(), "--window", "4", "--output-dir", model});
  CHECK(again.Says("is not empty"));
}

TEST_CASE("a file in a directory that may not be written is refused before anything is computed" *
          doctest::skip(::geteuid() == 0)) {  // who may write everywhere
  const TempDirectory dir;
  fs::permissions(dir.path(), fs::perms::owner_read | fs::perms::owner_exec);
  const Outcome outcome = Swarr({"data", "chain", "--count", "1", "--out", (dir / "rows").string()});
  fs::permissions(dir.path(), fs::perms::owner_all);
  CHECK(outcome.status == 1);
  CHECK(outcome.Says("nothing can be written in"));
}

TEST_CASE("sft imitates whole GSM8K answers, and leaves out what is too long, with a word on it") {
  const TempDirectory dir;
  const std::string file = (dir / "rows.jsonl").string(), out = (dir / "out").string();
  std::vector<std::string> sft = {"sft", "--model",      TinyModel(), "--data",        file, "--max-steps",
                                  "1",   "--batch-size", "1",         "--max-seq-len", "20", "--output-dir",
                                  out};
  WriteFileAtomically(file, kRows);
  const Outcome done = Swarr(sft);
  REQUIRE_MESSAGE(done.status == 0, done.err);
  CHECK(done.Says("using 1 problems; left out:\n  1 for more than 20 tokens (" + file +
                  ":1: prompt and completion with end of text have 23 tokens"));
}

TEST_CASE("sft and pretrain learn plain text with a tokenizer that puts no token in front") {
  const TempDirectory dir;
  const std::string file = (dir / "rows.jsonl").string();
  WriteFileAtomically(file, "{\"text\": \"a7b3n01x5?\"}\n{\"text\": \"01:C\"}\n");
  for (const std::string command : {"sft", "pretrain"}) {
    CAPTURE(command);
    const Outcome done = Swarr({command, "--model", TinyModel(), "--data", file, "--max-steps", "2", "--batch-size",
                                "2", "--output-dir", (dir / command).string()});
    CHECK_MESSAGE(done.status == 0, done.err);
  }
}

TEST_CASE("eval judges against the digits that a gold answer has in its file") {
  const TempDirectory dir;
  const std::string file = (dir / "rows.jsonl").string(), out = (dir / "completions.jsonl").string();
  WriteFileAtomically(file,
                      "{\"question\": \"a7b3\", \"answer\": 0.00005}\n{\"question\": \"a7b3\", \"answer\": 1e16}\n");
  const Outcome done = Swarr({"eval", "--model", TinyModel(), "--data", file, "--reward", "math",
                              "--max-completion-length", "2", "--completions-out", out});
  REQUIRE_MESSAGE(done.status == 0, done.err);
  std::vector<std::string> golds;
  ForEachJsonLine(out, [&](int, const json& row) { golds.push_back(row["gold"]); });
  CHECK(golds == std::vector<std::string>{"0.00005", "1e16"});
}

TEST_CASE("a chat template that the model's tokenizer has no tokens for is refused, as is --lm-eval without examples") {
  const TempDirectory dir;
  const std::string file = (dir / "rows.jsonl").string();
  WriteFileAtomically(file, kRows);
  const std::vector<std::string> eval = {"eval", "--model", TinyModel(), "--data", file};
  const auto refused = [&](std::vector<std::string> more, int status, const std::string& text) {
    std::vector<std::string> command = eval;
    command.insert(command.end(), more.begin(), more.end());
    const Outcome outcome = Swarr(command);
    CHECK(outcome.status == status);
    CHECK_MESSAGE(outcome.Says(text), outcome.err);
    CHECK(outcome.IsOneSentence());
  };
  refused({"--template", "chatml"}, 1, "<");
  refused({"--template", "llama"}, 2, "unknown template 'llama'");
  refused({"--instruction", "think"}, 2, "unknown instruction 'think'");
  refused({"--instruction", "boxed"}, 1, "rows.jsonl:1: ");
  refused({"--lm-eval"}, 2, "--lm-eval needs --few-shot-data FILE");
  refused({"--few-shot-data", file}, 2, "--instruction question-answer alone");
  refused({"--few-shot-data", file, "--instruction", "question-answer"}, 1, "holds 2 worked examples where --shots");
  refused({"--answer-field", "gold"}, 1, "rows.jsonl:1: the field \"gold\" is missing");
}
