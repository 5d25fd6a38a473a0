// SPDX-License-Identifier: Apache-2.0
// The library against PyTorch, on files written by tools/make_torch_fixtures.py (its head says what they hold).
#include <doctest/doctest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "autograd/gradient_check.h"
#include "model/hf_config.h"
#include "tensor/safetensors.h"
#include "test_models.h"

namespace swarr {
namespace {

// Both sides compute in f64, where a sum of some hundred terms rounds to about 1e-14; a wrong formula shows at 1e-3.
// The project asks for this bound.
constexpr double kBound = 1e-10;

Tensor Read(Arena& arena, const SafetensorsFile& file, const std::string& name) {
  const std::vector<std::int64_t>& shape = file.shape(name);
  REQUIRE((shape.size() == 1 || shape.size() == 2));
  const Tensor t =
      shape.size() == 1 ? arena.New(file.dtype(name), {shape[0]}) : arena.New(file.dtype(name), {shape[0], shape[1]});
  file.CopyTo(name, t);
  return t;
}

std::vector<Tokens> Documents(const Tensor& tokens, const Tensor& first_row) {
  std::vector<Tokens> documents;
  const std::int32_t* first = first_row.data<std::int32_t>();
  for (std::int64_t d = 0; d + 1 < first_row.dim(0); ++d) {
    documents.emplace_back(tokens.data<std::int32_t>() + first[d], tokens.data<std::int32_t>() + first[d + 1]);
  }
  return documents;
}

// Forward and backward of our model on a fixture's weights, tokens and dL/dlogp; compares every result.
void CheckFixture(const std::filesystem::path& path, bool checkpoint) {
  TestContext t;
  const SafetensorsFile file(path);
  const auto fixture = nlohmann::ordered_json::parse(file.metadata().at("fixture"));
  CHECK(fixture.at("script") == "tools/make_torch_fixtures.py");
  CHECK(fixture.at("torch").get<std::string>().starts_with("2."));
  Transformer model(ParseModelConfig(fixture.at("config"), path.string()), DType::kF64, /*with_gradients=*/true);
  std::set<std::string> unused;
  for (const std::string& name : file.names()) unused.insert(name);
  const auto read = [&](const std::string& name) {
    unused.erase(name);
    return Read(t.arena, file, name);
  };
  for (const Parameter& p : model.parameters().all()) Copy(p.var.value, read("weight." + p.name));

  Tape tape;
  const TapeScope recording(t.ctx, &tape);
  const Batch batch = PackDocuments(t.arena, Documents(read("tokens"), read("documents")));
  const Var logp = model.Logprob(t.ctx, model.Forward(t.ctx, batch, checkpoint), read("targets")).logp;
  Copy(logp.grad, read("dlogp"));
  tape.Backward(t.ctx);

  CHECK(RelativeError(logp.value, read("logp")) <= kBound);
  for (const Parameter& p : model.parameters().all()) {
    INFO(p.name);
    CHECK(RelativeError(p.var.grad, read("grad." + p.name)) <= kBound);
  }
  CHECK(unused.empty());
}

TEST_CASE("log-probabilities and all gradients of small models agree with PyTorch") {
  int fixtures = 0;
  for (const auto& entry : std::filesystem::directory_iterator(SWARR_TEST_DATA)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("torch_")) continue;
    INFO(name);
    for (bool checkpoint : {false, true}) CheckFixture(entry.path(), checkpoint);
    ++fixtures;
  }
  CHECK(fixtures == 4);
}

}  // namespace
}  // namespace swarr
