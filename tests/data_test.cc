// SPDX-License-Identifier: Apache-2.0
#include "train/data.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "autograd/gradient_check.h"
#include "base/files.h"
#include "cuda_report.h"
#include "task/registry.h"
#include "test_models.h"

namespace swarr {
namespace {

using doctest::Contains;
namespace fs = std::filesystem;

// The problems of one epoch in their order.
std::vector<std::int64_t> Epoch(ProblemOrder& order, std::int64_t size, std::int64_t epoch) {
  std::vector<std::int64_t> problems;
  for (std::int64_t k = epoch * size; k < (epoch + 1) * size; ++k) {
    const ProblemOrder::Item item = order.At(k);
    CHECK(item.epoch == static_cast<std::uint64_t>(epoch));
    problems.push_back(item.problem);
  }
  return problems;
}

TEST_CASE("a document is prompt, completion and end of text, and knows where the completion begins") {
  const Document d = EncodeDocument(TextTokenizer(), {"ab?", "dc", ""}, 0);
  CHECK(d.tokens == Tokens{1, 2, 5, 4, 3, 0});
  CHECK(d.prompt_length == 3);
  const Document empty = EncodeDocument(TextTokenizer(), {"ab?", "", ""}, 0);
  CHECK(empty.tokens == Tokens{1, 2, 5, 0});
  CHECK(empty.prompt_length == 3);
}

TEST_CASE("tokens begin where their texts do, those of a template where the problem begins or ends") {
  const fs::path file = fs::path(SWARR_TEST_DATA) / "tokenizers/smollm2.json";
  const Tokenizer tokenizer(nlohmann::ordered_json::parse(ReadFile(file)), file.string());
  const std::string problem = "Given 15 \u20ac; how many?", text = " 23 \u20ac.";
  std::vector<std::int32_t> drawn = tokenizer.Encode(text);
  // Each token's text by itself, which holds where tokens are whole characters; the euro sign has three bytes.
  const std::vector<std::size_t> starts = TokenStarts(tokenizer, problem, problem, drawn);
  const std::vector<std::int32_t> prompt = tokenizer.EncodePrompt(problem);
  REQUIRE(starts.size() == prompt.size() + drawn.size());
  const std::string all = problem + text;
  for (std::size_t i = 0; i < starts.size(); ++i) {
    const std::int32_t id = i < prompt.size() ? prompt[i] : drawn[i - prompt.size()];
    const std::string piece = tokenizer.Decode({id}, /*skip_special=*/true);
    if (piece.find("\ufffd") == std::string::npos) CHECK(all.substr(starts[i], piece.size()) == piece);
    if (i > 0) CHECK(starts[i] >= starts[i - 1]);
  }
  CHECK(starts[0] == 0);
  CHECK(starts[prompt.size()] == problem.size());

  // The end of a turn is not shown; a template's tokens lie at the edges of the problem.
  const std::string turn = "<|im_start|>user\n" + problem + "<|im_end|>\n";
  drawn.push_back(tokenizer.IdOf("<|im_end|>"));
  const std::vector<std::size_t> templated = TokenStarts(tokenizer, turn, problem, drawn);
  CHECK(templated.back() == all.size());
  CHECK(std::ranges::count(templated, 0) > 2);
  CHECK(std::ranges::count(templated, problem.size()) == 3);  // end of turn, newline, and the answer's first
  CHECK(std::ranges::is_sorted(templated));

  // A problem that a template has trimmed stands nowhere in the prompt, and begins with it.
  const std::vector<std::size_t> trimmed = TokenStarts(tokenizer, problem, problem + "\n", drawn);
  CHECK(std::equal(trimmed.begin(), trimmed.begin() + static_cast<std::ptrdiff_t>(prompt.size()), starts.begin()));
}

TEST_CASE("a trace is counted by the model's tokens: of its own as the task does, of another's by where they begin") {
  const std::vector<BuiltInTask> tasks = BuiltInTasks();
  const BuiltInTask& words = *std::ranges::find(tasks, "words", &BuiltInTask::name);
  const std::unique_ptr<Task> task = words.make(Split::kEval, 0);
  const TraceRule& rule = words.reward.traces;
  constexpr std::int64_t kReach = 100;
  const auto count = [&](const Tokenizer& tokenizer, std::int64_t i) {
    const std::string text = task->Get(i, 0).completion;
    return CountTrace(rule, *task, tokenizer, i, text, tokenizer.Encode(text), /*window=*/48, kReach).value().counts;
  };
  const Tokenizer own(words.tokenizer(), "own");
  const fs::path file = fs::path(SWARR_TEST_DATA) / "tokenizers/smollm2.json";
  const Tokenizer other(nlohmann::ordered_json::parse(ReadFile(file)), file.string());
  for (std::int64_t i = 0; i < 20; ++i) {
    const std::string text = task->Get(i, 0).completion;
    const std::vector<std::int64_t> expected = rule.count(task->Row(i, 0), text, 48, kReach, {}).value().counts;
    CHECK(count(own, i) == expected);
    const std::vector<std::int64_t> longer = count(other, i);
    CHECK(std::equal(longer.begin(), longer.begin() + 6, expected.begin()));  // lines, brackets, needs
    CHECK(longer[6] <= expected[6]);                                          // fewer lie in the window
    CHECK(longer[7] > expected[7]);                                           // and all lie farther away
  }
}

// The problems of another task, behind what a template says first.
class TemplatedTask : public Task {
 public:
  TemplatedTask(const Task& task, std::string beginning) : task_(task), beginning_(std::move(beginning)) {}
  std::int64_t size() const override { return task_.size(); }
  Example Get(std::int64_t index, std::uint64_t draw) const override {
    Example example = task_.Get(index, draw);
    example.prompt = beginning_ + example.prompt;
    return example;
  }
  double Reward(const Example&, std::string_view, bool) const override { return 0; }
  std::string Extract(std::string_view) const override { return ""; }
  nlohmann::ordered_json Row(std::int64_t index, std::uint64_t draw) const override { return task_.Row(index, draw); }

 private:
  const Task& task_;
  std::string beginning_;
};

TEST_CASE("what a template says before a problem changes nothing in the count of a trace") {
  const std::vector<BuiltInTask> tasks = BuiltInTasks();
  const BuiltInTask& words = *std::ranges::find(tasks, "words", &BuiltInTask::name);
  const std::unique_ptr<Task> plain = words.make(Split::kEval, 0);
  const TemplatedTask templated(*plain, "<|im_start|>user\n");
  const fs::path file = fs::path(SWARR_TEST_DATA) / "tokenizers/smollm2.json";
  const Tokenizer tokenizer(nlohmann::ordered_json::parse(ReadFile(file)), file.string());
  for (std::int64_t i = 0; i < 20; ++i) {
    const std::string text = plain->Get(i, 0).completion;
    const std::vector<std::int32_t> drawn = tokenizer.Encode(text);
    const auto count = [&](const Task& task) {
      return CountTrace(words.reward.traces, task, tokenizer, i, text, drawn, /*window=*/48, /*reach=*/100)
          .value()
          .counts;
    };
    CHECK(count(templated) == count(*plain));
  }
}

TEST_CASE("prompts are as long as their tokens; of no problems the longest and the shortest have none") {
  const TableTask some({{"ab?", "dc", ""}, {"", "a", ""}, {"abcd?", "", ""}, {"b?", "", ""}}), none({});
  CHECK(LongestPrompt(some, TextTokenizer()) == 5);
  CHECK(ShortestPrompt(some, TextTokenizer()) == 0);
  CHECK(ShortestPrompt(TableTask({{"ab?", "dc", ""}, {"b?", "", ""}}), TextTokenizer()) == 2);
  CHECK(LongestPrompt(none, TextTokenizer()) == 0);
  CHECK(ShortestPrompt(none, TextTokenizer()) == 0);
}

TEST_CASE("a document without a prompt is plain text") {
  const Document d = EncodeDocument(TextTokenizer(), {"", "dc", ""}, 0);
  CHECK(d.tokens == Tokens{4, 3, 0});
  CHECK(d.prompt_length == 0);
}

TEST_CASE("packed rows predict the next token of their own document, and last tokens are only predicted") {
  TestContext t;
  const PackedBatch row = Pack(t.arena, std::vector<Document>{{{1, 2, 3, 0}, 2}, {{4, 0}, 1}, {{5, 1, 0}, 1}});
  CHECK(SameBits(row.batch.ids, Ints(t.arena, {1, 2, 3, 4, 5, 1})));
  CHECK(SameBits(row.targets, Ints(t.arena, {2, 3, 0, 0, 1, 0})));
  CHECK(SameBits(row.batch.positions, Ints(t.arena, {0, 1, 2, 0, 0, 1})));
  CHECK(SameBits(row.batch.documents, Ints(t.arena, {0, 3, 4, 6})));
  CHECK(row.rows() == 6);
  for (std::size_t d = 0; d < 4; ++d) CHECK(row.first_row(d) == std::vector<std::int64_t>{0, 3, 4, 6}[d]);
}

TEST_CASE(
    "packing loses no token: the rows of a document are its tokens but the last, and its targets all but the first") {
  for (std::uint32_t stream = 0; stream < 50; ++stream) {
    TestContext t;
    std::vector<Document> documents;
    for (const std::int32_t length : RandomTokens(1 + static_cast<int>(stream % 7), 40, stream)) {
      documents.push_back({RandomTokens(length + 2, 100, stream + 1000 * static_cast<std::uint32_t>(length)), 1});
    }
    const PackedBatch packed = Pack(t.arena, documents);
    const auto at = [](const Tensor& values, std::int64_t n) { return values.data<std::int32_t>()[n]; };
    for (std::size_t d = 0; d < documents.size(); ++d) {
      const Tokens& tokens = documents[d].tokens;
      const std::int64_t first = packed.first_row(d);
      REQUIRE(packed.first_row(d + 1) - first == static_cast<std::int64_t>(tokens.size()) - 1);
      for (std::int64_t p = 0; p + 1 < static_cast<std::int64_t>(tokens.size()); ++p) {
        REQUIRE(at(packed.batch.ids, first + p) == tokens[static_cast<std::size_t>(p)]);
        REQUIRE(at(packed.targets, first + p) == tokens[static_cast<std::size_t>(p) + 1]);
        REQUIRE(at(packed.batch.positions, first + p) == p);
      }
    }
    CHECK(packed.rows() == packed.first_row(documents.size()));
  }
}

TEST_CASE("of packed completions the rows that predict them are scored, in order") {
  TestContext t;
  const PackedBatch packed =
      PackCompletions(t.arena, std::vector<Document>{{{1, 2, 3, 0}, 2}, {{4, 0}, 1}, {{5, 1, 0}, 0}});
  CHECK(packed.rows() == 6);
  CHECK(SameBits(packed.scored, Ints(t.arena, {1, 2, 3, 4, 5})));
  CHECK(SameBits(packed.targets, Ints(t.arena, {3, 0, 0, 1, 0})));
  CHECK(SameBits(packed.places, Ints(t.arena, {5, 0, 1, 2, 3, 4})));
}

// Log p of the completions, and the gradients of all weights, of minus their sum.
struct Scores {
  std::vector<double> logp;
  Tensor gradients;
};
Scores ScoreOf(TestContext& t, const Transformer& model, const std::vector<Document>& documents, bool alone) {
  FillZero(t.ctx, model.parameters().flat_gradients());
  Tape tape;
  const TapeScope recording(t.ctx, &tape);
  Arena& host = t.ctx.HostArena();
  const PackedPass pass = ForwardPacked(t.ctx, model, alone ? PackCompletions(host, documents) : Pack(host, documents),
                                        /*checkpoint_blocks=*/false);
  Wait(t.ctx);
  Scores scores;
  for (std::size_t d = 0; d < documents.size(); ++d) {
    for (std::int64_t n = pass.packed.first_row(d) + documents[d].first_predicting_row();
         n < pass.packed.first_row(d + 1); ++n) {
      const std::int64_t at = alone ? pass.packed.places.data<std::int32_t>()[n] : n;
      scores.logp.push_back(ValueAt(pass.result.logp.value, at));
      DispatchSum(pass.result.logp.grad.dtype(), [&]<class T>() { pass.result.logp.grad.data<T>()[at] = T(-1); });
    }
  }
  tape.Backward(t.ctx);
  scores.gradients = OnHost(t.ctx, model.parameters().flat_gradients());
  return scores;
}

// The gradients agree within `bound` of the largest in f64. An f32 has 29 bits less, so there it is 1e9 times as much.
void CheckScoredAlone(Device device, double bound) {
  for (const DType dtype : {DType::kF64, DType::kF32}) {
    INFO(Name(dtype));
    TestContext t(device);
    const Transformer model(TinyConfig(), dtype, /*with_gradients=*/true, MemoryOf(device));
    Randomize(model);
    std::vector<Document> documents;
    for (const int length : {9, 2, 14}) {
      documents.push_back({RandomTokens(length, model.config().vocab, 1), length / 2});
    }
    const Scores all = ScoreOf(t, model, documents, false), alone = ScoreOf(t, model, documents, true);
    CHECK(all.logp == alone.logp);
    CHECK(RelativeError(all.gradients, alone.gradients) <= (dtype == DType::kF64 ? bound : 1e9 * bound));
  }
}

TEST_CASE("completions scored alone have the log p and the gradients that they have among all rows") {
  CheckScoredAlone(Device::kCpu, 0);  // rows of a gradient of zero add nothing
}

TEST_CASE("CUDA: training: completions scored alone have the log p that they have among all rows, and the gradients") {
  if (SkippedWithoutCuda()) return;
  // The head's 22 rows become 13, and a device cuts a weight's sum over rows into parts by their number. Another order
  // of so few terms costs some units of 2^-53 in the head, and a few times that by the time they reach the embedding.
  CheckScoredAlone(Device::kCuda, 1e-13);
}

TEST_CASE("a document with nothing to predict is refused") {
  TestContext t;
  CHECK_THROWS_WITH_AS(Pack(t.arena, std::vector<Document>{{{1, 2}, 1}, {{3}, 1}}), Contains("document of 1 tokens"),
                       Error);
}

TEST_CASE("every epoch is another shuffle of all problems") {
  const std::int64_t size = 50;
  ProblemOrder order(size, 7);
  std::set<std::vector<std::int64_t>> shuffles;
  for (std::int64_t epoch = 0; epoch < 5; ++epoch) {
    std::vector<std::int64_t> problems = Epoch(order, size, epoch);
    shuffles.insert(problems);
    std::sort(problems.begin(), problems.end());
    for (std::int64_t i = 0; i < size; ++i) CHECK(problems[static_cast<std::size_t>(i)] == i);
  }
  CHECK(shuffles.size() == 5);
}

TEST_CASE("every order of the problems comes equally often") {
  constexpr int kEpochs = 6000;
  ProblemOrder order(3, 7);
  std::map<std::vector<std::int64_t>, int> times;
  for (std::int64_t epoch = 0; epoch < kEpochs; ++epoch) ++times[Epoch(order, 3, epoch)];
  CHECK(times.size() == 6);
  // How often one comes has a standard deviation of sqrt(6000 * 1/6 * 5/6) = 29.
  for (const auto& [problems, count] : times) CHECK(std::abs(count - kEpochs / 6) < 4 * 29);
}

TEST_CASE("the k-th problem depends on the seed and k alone, not on what was asked before") {
  ProblemOrder forward(11, 3), jumping(11, 3), other(11, 4);
  int differ = 0;
  for (std::int64_t k = 0; k < 44; ++k) {
    const std::int64_t problem = forward.At(k).problem;
    jumping.At(43 - k);
    CHECK(jumping.At(k).problem == problem);
    CHECK(ProblemOrder(11, 3).At(k).problem == problem);
    differ += other.At(k).problem != problem;
  }
  CHECK(differ > 20);
}

TEST_CASE("one problem comes again in every epoch, and no problems are refused") {
  ProblemOrder one(1, 3);
  CHECK(one.At(5).problem == 0);
  CHECK(one.At(5).epoch == 5);
  CHECK_THROWS_WITH_AS(ProblemOrder(0, 3), Contains("data set is empty"), Error);
}

}  // namespace
}  // namespace swarr
