// SPDX-License-Identifier: Apache-2.0
#include "train/evaluate.h"

#include <doctest/doctest.h>

#include <cmath>

#include "base/check.h"
#include "test_models.h"

namespace swarr {
namespace {

EvaluatedCompletion Row(std::int64_t problem, const char* answer, int tokens, bool finished, double reward) {
  const Completion drawn{.tokens = Tokens(static_cast<std::size_t>(tokens)), .logp = {}};
  return {problem, answer, answer, drawn, finished, reward};
}

TEST_CASE("a summary counts right answers over completions and majorities, and those that give one") {
  const AccuracySummary s = Summarize({Row(0, "a", 2, true, 0), Row(0, "b", 4, true, 1), Row(0, "b", 6, true, 1),
                                       Row(1, "c", 8, true, 1), Row(1, "d", 2, true, 0), Row(1, "d", 2, true, 0),
                                       Row(2, "", 9, false, 0), Row(2, "", 9, false, 0), Row(2, "c", 3, true, 1)},
                                      3);
  CHECK(s.accuracy == doctest::Approx(4.0 / 9));
  CHECK(s.majority_at_k == doctest::Approx(2.0 / 3));  // problem 1 votes wrong; no answer is no vote
  CHECK(s.mean_length == doctest::Approx(5.0));
  CHECK(s.truncated == doctest::Approx(2.0 / 9));
  CHECK(s.extracted == doctest::Approx(7.0 / 9));
}

// The share of the subsets of k samples, of which the first c are correct, that hold a correct one: by counting.
double ByCounting(int n, int c, int k) {
  int all = 0, hit = 0;
  for (unsigned subset = 0; subset < 1U << n; ++subset) {
    if (__builtin_popcount(subset) != k) continue;
    ++all;
    hit += (subset & ((1U << c) - 1)) != 0;
  }
  return static_cast<double>(hit) / all;
}

TEST_CASE("pass@k is the share of all draws of k samples that hold a correct one") {
  for (int n = 1; n <= 8; ++n) {
    for (int c = 0; c <= n; ++c) {
      for (int k = 1; k <= n; ++k) {
        CAPTURE(n);
        CAPTURE(c);
        CAPTURE(k);
        CHECK(std::abs(PassAtK(n, c, k) - ByCounting(n, c, k)) < 1e-14);  // a few roundings of numbers up to 1
      }
    }
  }
  CHECK(PassAtK(10000, 1, 100) == doctest::Approx(0.01));  // C(10000, 100) is no double
  CHECK_THROWS_AS(PassAtK(4, 5, 1), Error);
  CHECK_THROWS_AS(PassAtK(4, 1, 5), Error);
  CHECK_THROWS_AS(PassAtK(4, 1, 0), Error);
}

TEST_CASE("pass@k of completions is the mean over problems") {
  const std::vector<EvaluatedCompletion> completions = {Row(0, "a", 1, true, 1), Row(0, "b", 1, true, 0),
                                                        Row(0, "b", 1, true, 0), Row(1, "c", 1, true, 0),
                                                        Row(1, "d", 1, true, 0), Row(1, "d", 1, true, 0)};
  CHECK(PassAtK(completions, 3, 1) == doctest::Approx(1.0 / 6));
  CHECK(PassAtK(completions, 3, 2) == doctest::Approx((2.0 / 3) / 2));
  CHECK(PassAtK(completions, 3, 3) == doctest::Approx(0.5));
}

TEST_CASE("scores like the harness's judge a cut text as it stands, where the strict reward is 0") {
  const RewardRule same = {"same", [](std::string_view) {},
                           [](std::string_view gold, std::string_view text, bool finished) {
                             return Score{finished && text == gold ? 1.0 : 0.0, "equal"};
                           },
                           [](std::string_view text) { return std::string(text); }};
  const TableTask task({{"p", "", "7"}, {"q", "", "8"}});
  const std::vector<EvaluatedCompletion> completions = {Row(0, "7", 1, false, 0), Row(1, "7", 1, true, 0)};
  CHECK(Summarize(completions, 1).accuracy == 0.0);
  CHECK(ShareRight(completions, task, same) == 0.5);
}

TEST_CASE("the training pass repeats the sampler's log-probabilities under its attention and under no other") {
  Transformer model(TextConfig(), DType::kF32, /*with_gradients=*/false);
  Randomize(model);
  TestContext t;
  const TableTask task({{"ab?", "", ""}, {"ba?", "", ""}, {"d?", "", ""}});
  const auto completions =
      Evaluate(t.ctx, model, TextTokenizer(), task, {.samples = 24, .max_completion_length = 12});  // several passes
  const LogprobGap same = CompareWithTraining(t.ctx, model, TextTokenizer(), task, completions);
  CHECK(same.largest == 0);
  CHECK(same.mean == 0);
  std::int64_t tokens = 0;
  for (const EvaluatedCompletion& c : completions) tokens += c.tokens();
  CHECK(same.tokens == tokens);
  model.SetAttention(std::vector<AttentionSpec>(model.config().attention.size(), {.window = 2, .sinks = 0}));
  const LogprobGap other = CompareWithTraining(t.ctx, model, TextTokenizer(), task, completions);
  CHECK(other.mean > 0);
  CHECK(other.largest > other.mean);
}

TEST_CASE("an evaluation that is asked to stop gives the first problems, whole and with the bits of all") {
  Transformer model(TextConfig(), DType::kF32, /*with_gradients=*/false);
  Randomize(model);
  TestContext t;
  const TableTask task({{"ab?", "", ""}, {"ba?", "", ""}, {"d?", "", ""}, {"c?", "", ""}, {"bb?", "", ""}});
  EvaluateOptions options{.samples = 3, .max_completion_length = 12, .slots = 4};
  const auto all = Evaluate(t.ctx, model, TextTokenizer(), task, options);
  std::int64_t ended = 0;
  options.on_progress = [&](std::int64_t done, std::int64_t) { ended = done; };
  bool some = false, some_left_out = false;  // completions of a problem that has others which are not complete
  for (int steps = 1; steps < 30; ++steps) {
    int asked = 0;
    options.stop = [&] { return ++asked >= steps; };
    const auto first = Evaluate(t.ctx, model, TextTokenizer(), task, options);
    CHECK(first.size() % 3 == 0);
    CHECK(std::ssize(first) <= ended);
    some |= !first.empty() && first.size() < all.size();
    some_left_out |= std::ssize(first) < ended;
    for (std::size_t i = 0; i < first.size(); ++i) {
      CHECK(first[i].problem == all[i].problem);
      CHECK(first[i].drawn.tokens == all[i].drawn.tokens);
      CHECK(first[i].drawn.logp == all[i].drawn.logp);
    }
  }
  CHECK(some);
  CHECK(some_left_out);
}

TEST_CASE("a stop text ends a completion before itself, and the earliest counts") {
  Transformer model(TextConfig(), DType::kF32, /*with_gradients=*/false);
  Randomize(model);
  TestContext t;
  const TableTask task({{"ab?", "", ""}, {"ba?", "", ""}, {"d?", "", ""}});
  EvaluateOptions options{.samples = 8, .max_completion_length = 12};
  const auto plain = Evaluate(t.ctx, model, TextTokenizer(), task, options);
  options.stop_texts = {"c", "b"};
  const auto stopped = Evaluate(t.ctx, model, TextTokenizer(), task, options);
  REQUIRE(stopped.size() == plain.size());
  int cut = 0, whole = 0;
  for (std::size_t i = 0; i < plain.size(); ++i) {
    const std::size_t end = plain[i].text.find_first_of("bc");
    CHECK(stopped[i].text == plain[i].text.substr(0, end));
    CHECK(stopped[i].finished == (plain[i].finished || end != std::string::npos));
    cut += end != std::string::npos && !plain[i].finished;
    whole += end == std::string::npos;
  }
  CHECK(cut > 0);
  CHECK(whole > 0);
}

TEST_CASE("a stop text that is a special token but not the model's end of text ends a completion, too") {
  ModelConfig config = TextConfig();
  config.eos_id = -1;
  Transformer model(config, DType::kF32, /*with_gradients=*/false);
  Randomize(model);
  TestContext t;
  const TableTask task({{"ab?", "", ""}, {"ba?", "", ""}});
  EvaluateOptions options{.samples = 8, .max_completion_length = 12};
  const auto plain = Evaluate(t.ctx, model, TextTokenizer(), task, options);
  options.stop_texts = {"<|end|>"};
  const auto stopped = Evaluate(t.ctx, model, TextTokenizer(), task, options);
  REQUIRE(stopped.size() == plain.size());
  int cut = 0;
  for (std::size_t i = 0; i < plain.size(); ++i) {
    CHECK_FALSE(plain[i].finished);
    CHECK(plain[i].text.starts_with(stopped[i].text));
    // Every character is a token: a shorter text has lost the special ones, and with stops what follows the first.
    CHECK(stopped[i].finished == (plain[i].text.size() < 12));
    cut += stopped[i].text.size() < plain[i].text.size();
  }
  CHECK(cut > 0);
}

}  // namespace
}  // namespace swarr
