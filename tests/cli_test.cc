// SPDX-License-Identifier: Apache-2.0
// The commands that train nothing, end to end: what they write and print, by the names that others rely on.
#include <doctest/doctest.h>
#include <sched.h>

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "program.h"
#include "task/chain.h"
#include "tensor/cpu.h"
#include "tensor/memory.h"
#include "tensor/safetensors.h"

using namespace swarr;
using nlohmann::json;
namespace fs = std::filesystem;

TEST_CASE("data chain writes rows with the problem, its trace and its facts, from the split asked for") {
  const TempDirectory dir;
  const std::string file = (dir / "rows.jsonl").string();
  const std::vector<std::string> command = {"data", "chain",   "--count", "30",        "--split", "rl",    "--n-min",
                                            "2",    "--n-max", "5",       "--restate", "0.5",     "--out", file};
  REQUIRE(Swarr(command).status == 0);
  const std::vector<json> rows = Lines(file);
  REQUIRE(rows.size() == 30);
  bool restates = false;
  for (const json& row : rows) {
    const ChainProblem problem{row["a"], row["b"], row["x0"], row["n"]};
    CHECK(row["prompt"] == PromptOf(problem));
    CHECK(row["answer"] == AnswerOf(problem));
    CHECK(SplitOf(problem) == Split::kRl);
    CHECK(VerifyChain(row["answer"].get<std::string>(), row["completion"].get<std::string>(), true).reward == 1);
    restates |= row["completion"].get<std::string>().find('[') != std::string::npos;
  }
  CHECK(restates);
  const std::string first = ReadFile(file);
  REQUIRE(Swarr(command + std::vector<std::string>{"--overwrite"}).status == 0);
  CHECK(ReadFile(file) == first);
  REQUIRE(Swarr(command + std::vector<std::string>{"--overwrite", "--seed", "1"}).status == 0);
  CHECK(ReadFile(file) != first);
}

TEST_CASE("convert changes the attention of the layers asked for and not one byte of weights or tokenizer") {
  const TempDirectory dir;
  const std::string out = (dir / "swa").string();
  REQUIRE(Swarr({"convert", "--model", TinyModel(), "--window", "5", "--sinks", "2", "--full-layers", "1",
                 "--output-dir", out})
              .status == 0);
  for (const char* name : {"model.safetensors", "tokenizer.json"}) {
    CHECK(ReadFile(fs::path(out) / name) == ReadFile(fs::path(TinyModel()) / name));
  }
  CHECK(json::parse(ReadFile(fs::path(out) / "config.json"))["swarr_attention_sinks"] == 2);
  const json shown = JsonOf({"inspect", "--model", out, "--lengths", "8,640", "--json"});
  CHECK(shown["attention"][0] == json{{"layer", 0}, {"attention", "window"}, {"window", 5}, {"sinks", 2}});
  CHECK(shown["attention"][1] == json{{"layer", 1}, {"attention", "full"}, {"window", nullptr}, {"sinks", 0}});
  // Per tile of 32 tokens and each of two heads, 8 x 32 f32 numbers of keys and 32 x 32 (whole panels) of values: at
  // most one tile of sinks and two of the window in the first layer, and as many as there are tokens in the other.
  const int tile = 2 * (8 * 32 + 32 * 32) * 4;
  CHECK(shown["kv_bytes"] ==
        json{{{"length", 8}, {"bytes", (1 + 1) * tile}}, {{"length", 640}, {"bytes", (3 + 20) * tile}}});
}

TEST_CASE("convert --full-every leaves full attention to every K-th layer, counted from 1") {
  const TempDirectory dir;
  const std::string deep = (dir / "deep").string(), out = (dir / "out").string();
  REQUIRE(Swarr(TinyPretrain(deep, 1) + std::vector<std::string>{"--layers", "5"}).status == 0);
  REQUIRE(Swarr({"convert", "--model", deep, "--window", "3", "--full-every", "2", "--output-dir", out}).status == 0);
  const json shown = JsonOf({"inspect", "--model", out, "--json"});
  std::vector<int> full;
  for (const json& layer : shown["attention"]) {
    if (layer["attention"] == "full") full.push_back(layer["layer"]);
  }
  CHECK(full == std::vector<int>{1, 3});
}

TEST_CASE("eval --full-attention-decode samples what full attention does, and tells that the window disagrees") {
  const TempDirectory dir;
  const std::string windowed = (dir / "swa").string();
  REQUIRE(Swarr({"convert", "--model", TinyModel(), "--window", "2", "--output-dir", windowed}).status == 0);
  const auto eval = [&](const std::string& model, const std::vector<std::string>& more) {
    return JsonOf(std::vector<std::string>{"eval", "--model", model, "--problems", "8", "--json"} + kShort + more);
  };
  json gap = eval(windowed, {"--full-attention-decode"});
  CHECK(gap["logprob_abs_diff_mean"] > 0);
  CHECK(gap["logprob_abs_diff_max"] > gap["logprob_abs_diff_mean"]);
  CHECK(gap["logprob_tokens"] == std::lround(8 * gap["mean_length"].get<double>()));
  const json full = eval(TinyModel(), {});
  for (const char* name : {"accuracy", "mean_length", "truncated"}) CHECK(gap[name] == full[name]);
}

TEST_CASE("convert keeps each text's own prompt visible where it is asked for, and generate and eval run so") {
  const TempDirectory dir;
  const std::string out = (dir / "prompt").string();
  const std::vector<std::string> convert = {"convert",     "--model",      TinyModel(), "--window", "5",
                                            "--overwrite", "--output-dir", out,         "--sinks"};
  REQUIRE(Swarr(convert + std::vector<std::string>{"prompt"}).status == 0);
  CHECK(json::parse(ReadFile(fs::path(out) / "config.json"))["swarr_attention_sinks"] == "prompt");
  CHECK(JsonOf({"inspect", "--model", out, "--json"})["attention"][0]["sinks"] == "prompt");
  CHECK(Swarr({"inspect", "--model", out}).out.find("window 5, the prompt visible") != std::string::npos);
  CHECK(Swarr({"generate", "--model", out, "--prompt", "a7b3n02x5?", "--max-new-tokens", "9"}).status == 0);
  CHECK(JsonOf(std::vector<std::string>{"eval", "--model", out, "--problems", "2", "--json"} + kShort)["problems"] ==
        2);
  for (const char* wrong : {"many", "1,2", "-3", ""}) {
    const Outcome refused = Swarr(convert + std::vector<std::string>{wrong});
    CAPTURE(wrong);
    CHECK(refused.status == 2);
    CHECK(refused.IsOneSentence());
  }
}

TEST_CASE("convert gives a model learned sinks, of 0 where no number is named") {
  const TempDirectory dir;
  const auto convert = [&](const std::vector<std::string>& sinks) {
    const std::vector<std::string> command = {"convert", "--model",     TinyModel(),    "--window",
                                              "5",       "--overwrite", "--output-dir", (dir / "sinks").string()};
    return Swarr(command + sinks);
  };
  for (const auto& [options, value] : {std::pair{std::vector<std::string>{"--learned-sinks"}, 0.0},
                                       {{"--learned-sinks", "-1.5"}, -1.5},
                                       {{"--learned-sinks=2"}, 2.0}}) {
    REQUIRE(convert(options).status == 0);
    CHECK(JsonOf({"inspect", "--model", (dir / "sinks").string(), "--json"})["learned_sinks"] == true);
    const SafetensorsFile file(dir / "sinks" / "model-sinks.safetensors");
    Arena arena;
    const Tensor sinks = arena.New(DType::kF32, {file.shape("model.layers.0.self_attn.sinks").at(0)});
    file.CopyTo("model.layers.0.self_attn.sinks", sinks);
    CHECK(sinks.data<float>()[0] == value);
    const json config = json::parse(ReadFile(dir / "sinks" / "resolved_config.json"));
    CHECK(std::stod(config.at("learned-sinks").get<std::string>()) == value);
  }
  const Outcome word = convert({"--learned-sinks", "many"});
  CHECK(word.status == 2);
  CHECK(word.IsOneSentence());
  CHECK(JsonOf({"inspect", "--model", TinyModel(), "--json"})["learned_sinks"] == false);
}

TEST_CASE("eval's table tells reasons in full, and no interval where there is none") {
  const TempDirectory dir;
  const std::string rows = (dir / "rows.jsonl").string();
  WriteFileAtomically(rows, R"({"prompt": "a7", "answer": "7"}
{"prompt": "a7", "answer": ""})");
  const Outcome outcome =
      Swarr({"eval", "--model", TinyModel(), "--data", rows, "--reward", "math", "--max-completion-length", "4"});
  REQUIRE_MESSAGE(outcome.status == 0, outcome.err);
  CHECK(outcome.out.find("nan") == std::string::npos);
  CHECK(outcome.out.find("dropped: no answer         1 ") != std::string::npos);
  CHECK(outcome.out.find("mean_length                4         \n") != std::string::npos);
  // All are cut at one length, which does not say that no other is possible.
  const json cut = JsonOf(std::vector<std::string>{"eval", "--model", TinyModel(), "--problems", "5", "--samples", "3",
                                                   "--max-completion-length", "1", "--json"} +
                          kShort);
  CHECK(cut["mean_length"] == 1);
  CHECK(cut["mean_length_ci95"] == json{nullptr, nullptr});
}

TEST_CASE("inspect counts the parameters that the model file holds") {
  const SafetensorsFile file(fs::path(TinyModel()) / "model.safetensors");
  std::int64_t count = 0;
  for (const std::string& name : file.names()) {
    std::int64_t size = 1;
    for (const std::int64_t d : file.shape(name)) size *= d;
    count += size;
  }
  const json shown = JsonOf({"inspect", "--model", TinyModel(), "--json"});
  CHECK(shown["parameters"] == count);
  CHECK(shown["dtype"] == "f32");
}

TEST_CASE("eval says so if there are fewer problems than are asked for, and takes all of them") {
  const TempDirectory dir;
  const std::string rows = (dir / "rows.jsonl").string();
  REQUIRE(Swarr({"data", "chain", "--count", "2", "--out", rows}).status == 0);
  const auto eval = [&](const char* problems) {
    const Outcome outcome = Swarr({"eval", "--model", TinyModel(), "--data", rows, "--problems", problems, "--json",
                                   "--max-completion-length", "4", "--quiet"});
    REQUIRE_MESSAGE(outcome.status == 0, outcome.err);
    CHECK(json::parse(outcome.out)["problems"] == 2);
    return outcome.err;
  };
  CHECK(eval("2").empty());
  CHECK(eval("3") == "--problems is 3; there are 2, and all of them are taken\n");
}

TEST_CASE("eval with a greedy pass prints pass@k and maj@k of the sampled completions too") {
  const Outcome done =
      Swarr(std::vector<std::string>{"eval", "--model", TinyModel(), "--problems", "2", "--samples", "3", "--greedy"} +
            kShort);
  CHECK(done.status == 0);
  for (const char* name : {"accuracy ", "accuracy_greedy ", "pass@k ", "maj@k "}) {
    CAPTURE(name);
    CHECK(done.out.find(name) != std::string::npos);
  }
}

TEST_CASE("eval prints one object with intervals around each share, the same as its completions give") {
  const TempDirectory dir;
  const std::string out = (dir / "completions.jsonl").string();
  const json result = JsonOf(std::vector<std::string>{"eval", "--model", TinyModel(), "--problems", "5", "--samples",
                                                      "3", "--completions-out", out, "--json"} +
                             kShort);
  CHECK(result["problems"] == 5);
  for (const char* name : {"accuracy", "pass@k", "maj@k", "mean_length", "truncated"}) {
    CAPTURE(name);
    const json interval = result[std::string(name) + "_ci95"];
    CHECK(interval[0] <= result[name]);
    CHECK(result[name] <= interval[1]);
  }
  const std::vector<json> completions = Lines(out);
  REQUIRE(completions.size() == 15);
  double reward = 0, tokens = 0, truncated = 0;
  for (const json& c : completions) {
    reward += c["reward"].get<double>();
    tokens += c["tokens"].get<double>();
    truncated += !c["finished"].get<bool>();
  }
  CHECK(result["accuracy"] == doctest::Approx(reward / 15));
  CHECK(result["mean_length"] == doctest::Approx(tokens / 15));
  CHECK(result["truncated"] == doctest::Approx(truncated / 15));
}

TEST_CASE("eval on the file that data chain writes is eval on the chain task itself") {
  const TempDirectory dir;
  const std::string file = (dir / "rows.jsonl").string();
  REQUIRE(Swarr({"data", "chain", "--split", "eval", "--count", "6", "--n-min", "1", "--n-max", "2", "--out", file})
              .status == 0);
  const std::vector<std::string> command = {"eval", "--model",    TinyModel(), "--max-completion-length",
                                            "20",   "--problems", "6",         "--json"};
  const json from_file = JsonOf(command + std::vector<std::string>{"--data", file});
  CHECK(from_file.contains("restatement_rate"));
  CHECK(from_file == JsonOf(command + kShort));
}

TEST_CASE("a model that is new to word problems reads them word by word, from the task itself and from its rows") {
  const TempDirectory dir;
  const std::string model = (dir / "model").string(), file = (dir / "rows.jsonl").string();
  const std::vector<std::string> short_ones = {"--lines-min", "1", "--lines-max", "2"};
  const std::vector<std::string> pretrain = {
      "pretrain", "--task",          "words",        "--carry",     "0.5", "--layers",
      "1",        "--hidden-size",   "16",           "--heads",     "2",   "--ffn",
      "24",       "--max-positions", "200",          "--max-steps", "2",   "--batch-size",
      "2",        "--quiet",         "--output-dir", model};
  const std::vector<std::string> data = {"data", "words", "--split", "eval", "--count", "6", "--out", file};
  REQUIRE(Swarr(pretrain + short_ones).status == 0);
  REQUIRE(Swarr(data + short_ones).status == 0);
  const std::vector<std::string> command = {"eval", "--model",    model, "--max-completion-length",
                                            "20",   "--problems", "6",   "--json"};
  const json from_file = JsonOf(command + std::vector<std::string>{"--data", file, "--reward", "words"});
  CHECK(from_file.contains("needs_in_window"));
  CHECK(from_file == JsonOf(command + std::vector<std::string>{"--task", "words"} + short_ones));
}

TEST_CASE("generate gives the same text for the same seed, and no more tokens than asked for") {
  const std::vector<std::string> command = {"generate",   "--model",          TinyModel(), "--prompt",
                                            "a7b3n02x5?", "--max-new-tokens", "9"};
  const Outcome first = Swarr(command);
  REQUIRE(first.status == 0);
  CHECK(first.out.size() <= 10);
  CHECK(Swarr(command).out == first.out);
  std::vector<std::string> texts;
  for (const char* seed : {"1", "2", "3"}) {
    texts.push_back(Swarr(command + std::vector<std::string>{"--seed", seed}).out);
  }
  CHECK(std::count(texts.begin(), texts.end(), first.out) < 3);
}

TEST_CASE("logits are the same from a text and from its ids, and greedy decoding takes their largest") {
  const TempDirectory dir;
  const std::string prompt = "a7b3n02x5?", from_text = (dir / "text").string(), from_ids = (dir / "ids").string();
  const json tokens = JsonOf({"tokenize", "--model", TinyModel(), "--text", prompt, "--json"});
  std::string ids;
  for (const json& id : tokens["ids"]) ids += (ids.empty() ? "" : ",") + id.dump();
  REQUIRE(Swarr({"logits", "--model", TinyModel(), "--prompt", prompt, "--out", from_text}).status == 0);
  REQUIRE(Swarr({"logits", "--model", TinyModel(), "--tokens", ids, "--out", from_ids}).status == 0);
  CHECK(ReadFile(from_text) == ReadFile(from_ids));

  const SafetensorsFile file(from_text);
  const OwnedTensor logits(DType::kF32, {10, 24});
  const OwnedTensor kept(DType::kI32, {10});
  file.CopyTo("logits", logits.view());
  file.CopyTo("tokens", kept.view());
  CHECK(json(std::vector<int>(kept.view().data<std::int32_t>(), kept.view().data<std::int32_t>() + 10)) ==
        tokens["ids"]);
  const float* last = logits.view().Rows(9, 10).data<float>();
  const auto best = std::max_element(last, last + 24) - last;
  const Outcome text =
      Swarr({"generate", "--model", TinyModel(), "--prompt", prompt, "--max-new-tokens", "1", "--temperature", "0"});
  const Outcome piece = Swarr({"tokenize", "--model", TinyModel(), "--decode", std::to_string(best)});
  CHECK(text.out == (best == 0 ? "\n" : piece.out));  // token 0 ends the text
}

TEST_CASE("tokenize gives ids and pieces, and --decode the way back") {
  const json tokens = JsonOf({"tokenize", "--model", TinyModel(), "--text", "07:C,", "--json"});
  CHECK(tokens["pieces"] == json{"0", "7", ":", "C", ","});
  CHECK(tokens["ids"].size() == 5);
  CHECK(Swarr({"tokenize", "--model", TinyModel(), "--decode", "1,2,0"}).out == "01<|end|>\n");
}

TEST_CASE("verify says what the reward says and which rule decided") {
  CHECK(JsonOf({"verify", "--gold", "C", "--answer", "01:C,#C", "--json"}) ==
        json{{"correct", true}, {"reward", 1.0}, {"rule", "correct"}, {"extracted", "C"}});
  CHECK(JsonOf({"verify", "--gold", "C", "--answer", "#B", "--json"})["rule"] == "wrong digit");
  CHECK(JsonOf({"verify", "--gold", "C", "--answer", "#C", "--truncated", "--json"})["correct"] == false);
}

TEST_CASE("verify --reward math says which rules found and compared the answer, and refuses a gold it can't read") {
  CHECK(JsonOf({"verify", "--reward", "math", "--gold", "1/2", "--answer", "so \\boxed{0.5}", "--json"}) ==
        json({{"correct", true}, {"reward", 1.0}, {"rule", "boxed: equal numbers"}, {"extracted", "1/2"}}));
  CHECK(JsonOf({"verify", "--reward", "math", "--gold", "72", "--answer", "72", "--json"})["rule"] ==
        "no marked answer");
  CHECK(JsonOf({"verify", "--reward", "gsm8k-flexible-extract", "--gold", "72", "--answer", "72",
                "--json"})["correct"] == true);
  const Outcome refused = Swarr({"verify", "--reward", "math", "--gold", "", "--answer", "#### 1"});
  CHECK(refused.status == 1);
  CHECK(refused.IsOneSentence());
  CHECK(refused.Says("the gold answer is empty"));
}

TEST_CASE("a configuration gives lists as lists, and a flag takes the place of the whole list") {
  const TempDirectory dir;
  const std::string config = (dir / "config.json").string(), out = (dir / "out").string(), model = TinyModel();
  WriteFileAtomically(config, R"({"lengths": [8, "16"]})");
  const std::vector<std::string> inspect = {"inspect", "--model", model, "--json", "--config", config};
  const json two = JsonOf(inspect)["kv_bytes"],
             one = JsonOf(inspect + std::vector<std::string>{"--lengths", "4"})["kv_bytes"];
  CHECK(two.size() == 2);
  CHECK(two[1]["length"] == 16);
  CHECK(one.size() == 1);
  CHECK(one[0]["length"] == 4);

  WriteFileAtomically(config, json{{"model", model}, {"window", 4}, {"full-layers", {1}}}.dump());
  REQUIRE(Swarr({"convert", "--config", config, "--output-dir", out}).status == 0);
  const json layers = JsonOf({"inspect", "--model", out, "--json"})["attention"];
  CHECK(layers[0]["attention"] == "window");
  CHECK(layers[1]["attention"] == "full");

  WriteFileAtomically(config, R"({"resume": "auto", "change": ["lr", "speed"]})");
  const std::vector<std::string> sft = {
      "sft", "--model", model, "--config", config, "--output-dir", (dir / "sft").string()};
  CHECK(Swarr(sft).Says("speed"));
  CHECK_FALSE(Swarr(sft + std::vector<std::string>{"--change", "eps"}).Says("speed"));
}

TEST_CASE("bench names the processor, the threads and a median for every row") {
  const TempDirectory dir;
  const std::string out = (dir / "ops.json").string();
  const Outcome outcome =
      Swarr({"bench", "--suite", "ops", "--seconds-per-row", "0.001", "--threads", "1", "--json", out});
  REQUIRE(outcome.status == 0);
  const json results = json::parse(ReadFile(out));
  CHECK(results["threads"] == 1);
  CHECK(!results["processor"].get<std::string>().empty());
  CHECK(results["rows"].size() == 114);
  for (const json& row : results["rows"]) CHECK_MESSAGE(row["ms"] > 0.0, row.dump());
}

TEST_CASE("without --threads there is one for every processor that the program may use") {
  const TempDirectory dir;
  const std::string out = (dir / "bench.json").string();
  const auto one_processor = [] {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return false;
    for (int i = 0, kept = 0; i < CPU_SETSIZE; ++i) {
      if (CPU_ISSET(i, &set) && ++kept > 1) CPU_CLR(i, &set);
    }
    return sched_setaffinity(0, sizeof set, &set) == 0;
  };
  const std::vector<std::string> bench = {"bench", "--suite", "ops", "--rows", "D add", "--seconds-per-row",
                                          "0.001", "--json",  out};
  const Outcome outcome = Program(bench, one_processor).Wait();
  REQUIRE_MESSAGE(outcome.status == 0, outcome.err);
  CHECK(nlohmann::json::parse(ReadFile(out))["threads"] == 1);
}

TEST_CASE("--cpu picks the kernels: all of them write like logits, and each the same ones whatever the threads") {
  const TempDirectory dir;
  const auto logits = [&](const std::string& cpu, const std::string& threads) {
    const std::string out = (dir / "logits").string();
    const Outcome outcome = Swarr({"logits", "--model", TinyModel(), "--prompt", "a7b3n02x5?", "--cpu", cpu,
                                   "--threads", threads, "--out", out, "--overwrite"});
    CHECK_MESSAGE(outcome.status == 0, outcome.err);
    OwnedTensor held(DType::kF32, {10, 24});
    SafetensorsFile(out).CopyTo("logits", held.view());
    return held;
  };
  const OwnedTensor best = logits("auto", "1");
  for (Cpu cpu : SupportedCpus()) {
    INFO(Name(cpu));
    const OwnedTensor one = logits(Name(cpu), "1"), three = logits(Name(cpu), "3");
    CHECK(std::memcmp(one.view().raw(), three.view().raw(), one.view().bytes()) == 0);
    if (cpu == BestCpu()) CHECK(std::memcmp(one.view().raw(), best.view().raw(), one.view().bytes()) == 0);
    for (std::int64_t i = 0; i < 240; ++i) {  // of size 1 at most, through two layers of sums of 24 terms in f32
      CHECK(std::fabs(one.view().data<float>()[i] - best.view().data<float>()[i]) <= 1e-5F);
    }
  }
}
