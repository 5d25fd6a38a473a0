// SPDX-License-Identifier: Apache-2.0
// The method in one file (examples/) against the library: the same weights and documents, in f64.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>
#include <vector>

#include "autograd/gradient_check.h"
#include "test_models.h"
#include "train/data.h"

#define ONE_FILE_REAL double
#define main OneFileMain
#include "../examples/swarr_in_one_file.cc"
#undef main

namespace swarr {
namespace {

// Both sides compute in f64, where sums of some hundred terms round to about 1e-14; a wrong formula shows at 1e-3.
constexpr double kOneFileBound = 1e-12;

ModelConfig OneFileConfig(int window) {
  return {.layers = one_file::L,
          .hidden = one_file::C,
          .heads = one_file::H,
          .kv_heads = one_file::H,
          .head_dim = one_file::D,
          .ffn = one_file::F,
          .vocab = one_file::V,
          .max_positions = one_file::kMaxT,
          .tied = true,
          .attention = std::vector<AttentionSpec>(one_file::L, {.window = window, .sinks = 0})};
}

// Where the one file holds element (row, column) of the library's parameter `name`. Its matrices are transposed.
double& ElementOf(one_file::Model& model, const std::string& name, std::int64_t row, std::int64_t column) {
  using one_file::C, one_file::F, one_file::L;
  if (name == "model.embed_tokens.weight") return model.embedding[row][column];
  if (name == "model.norm.weight") return model.norms[2 * L][row];
  const std::string prefix = "model.layers.";
  REQUIRE(name.starts_with(prefix));
  const int l = name[prefix.size()] - '0';
  one_file::Model::Layer& layer = model.layers[l];
  const auto is = [&](const char* part) { return name.find(part) != std::string::npos; };
  if (is("input_layernorm")) return model.norms[2 * l][row];
  if (is("post_attention_layernorm")) return model.norms[2 * l + 1][row];
  if (is("q_proj")) return layer.qkv[column][row];
  if (is("k_proj")) return layer.qkv[column][C + row];
  if (is("v_proj")) return layer.qkv[column][2 * C + row];
  if (is("o_proj")) return layer.o[column][row];
  if (is("gate_proj")) return layer.gate_up[column][row];
  if (is("up_proj")) return layer.gate_up[column][F + row];
  REQUIRE(is("down_proj"));
  return layer.down[column][row];
}

// A parameter of the one file, or its gradient, laid out as the library's.
Tensor AsInLibrary(Arena& arena, one_file::Model& model, const Parameter& p) {
  const Tensor t = ZeroLike(arena, DType::kF64, p.var.value);
  const std::int64_t columns = t.rank() == 2 ? t.dim(1) : 1;
  for (std::int64_t i = 0; i < t.size(); ++i) {
    t.data<double>()[i] = ElementOf(model, p.name, i / columns, i % columns);
  }
  return t;
}

one_file::Model WithWeightsOf(const Transformer& library, int window) {
  one_file::Model model{};
  std::fill_n(model.window, one_file::L, window);
  for (const Parameter& p : library.parameters().all()) {
    const std::int64_t columns = p.var.value.rank() == 2 ? p.var.value.dim(1) : 1;
    for (std::int64_t i = 0; i < p.var.value.size(); ++i) {
      ElementOf(model, p.name, i / columns, i % columns) = ValueAt(p.var.value, i);
    }
  }
  return model;
}

}  // namespace

TEST_CASE("the method in one file computes what the library computes, forward and backward") {
  for (int window :
       {0, 2, one_file::W}) {  // with a window of 1 gradients of queries are 0 by the maths, but for rounding
    INFO("window " << window);
    TestContext t;
    const Transformer library(OneFileConfig(window), DType::kF64, /*with_gradients=*/true);
    Randomize(library);
    const std::vector<one_file::Problem> problems = one_file::Problems(0, 1);
    std::vector<std::string> texts;
    std::vector<Document> documents;
    for (std::size_t i : {std::size_t{3}, problems.size() / 2, problems.size() - 1}) {
      texts.push_back(one_file::Prompt(problems[i]) + one_file::Trace(problems[i], i));
      Document& document = documents.emplace_back();
      document.prompt_length = one_file::kPromptLength;
      for (char c : texts.back()) document.tokens.push_back(one_file::Id(c));
    }

    Tape tape;
    const TapeScope recording(t.ctx, &tape);
    const PackedPass pass = ForwardPacked(t.ctx, library, documents, /*checkpoint_blocks=*/false);
    one_file::Model model = WithWeightsOf(library, window), gradient{};
    const Tensor logp = ZeroLike(t.arena, DType::kF64, pass.result.logp.value);
    for (std::size_t d = 0; d < texts.size(); ++d) {
      const int length = static_cast<int>(texts[d].size()) - 1;
      const double dlogp = 0.3 - 0.5 * static_cast<double>(d);
      one_file::Pass one;
      one_file::Forward(model, texts[d], 0, length, one);
      one_file::Backward(model, texts[d], dlogp, one, gradient);
      for (int n = 0; n < length; ++n) {
        const std::int64_t row = pass.packed.first_row(d) + n;
        logp.data<double>()[row] = one.logp[static_cast<std::size_t>(n * one_file::V + documents[d].tokens[n + 1])];
        if (n + 1 >= one_file::kPromptLength) pass.result.logp.grad.data<double>()[row] = dlogp;
      }
    }
    CHECK(RelativeError(logp, pass.result.logp.value) <= kOneFileBound);
    tape.Backward(t.ctx);
    for (const Parameter& p : library.parameters().all()) {
      INFO(p.name);
      CHECK(RelativeError(AsInLibrary(t.arena, gradient, p), p.var.grad) <= kOneFileBound);
    }
  }
}

TEST_CASE("in one file, too, the sampler's log-probabilities from a ring cache are the training pass's bit for bit") {
  for (int window : {0, 1, 5, one_file::W}) {
    const Transformer library(OneFileConfig(window), DType::kF64, /*with_gradients=*/false);
    Randomize(library);
    const one_file::Model model = WithWeightsOf(library, window);
    const one_file::Document d = one_file::Sample(model, one_file::Problems(0, 1)[5], window);
    one_file::Pass pass;
    one_file::Forward(model, d.text, 0, static_cast<int>(d.text.size()) - 1, pass);
    REQUIRE(d.logp.size() > 2 * static_cast<std::size_t>(one_file::W));
    for (std::size_t t = 0; t < d.logp.size(); ++t) {
      CHECK(d.logp[t] == pass.logp[t * one_file::V + static_cast<std::size_t>(one_file::Id(d.text[t + 1]))]);
    }
  }
}

TEST_CASE("the method fits in one file of 400 lines") {
  std::ifstream file(SWARR_TEST_DATA "/../../examples/swarr_in_one_file.cc");
  REQUIRE(file.good());
  int lines = 0;
  for (std::string line; std::getline(file, line);) ++lines;
  CHECK(lines > 100);
  CHECK(lines <= 400);
}

}  // namespace swarr
