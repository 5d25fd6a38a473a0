// SPDX-License-Identifier: Apache-2.0
// The objectives against formulas in PyTorch and against the code of TRL, on files written by
// tools/make_objective_fixtures.py (its head says what they hold) and tools/make_trl_objective_fixtures.py.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "rl/objective.h"
#include "rl/objective_names.h"
#include "tensor/safetensors.h"
#include "tensors.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;
using Values = std::vector<double>;

// Both sides compute in f64: some hundred roundings of 1e-16 each, enlarged by at most the 1e-4 to which a standard
// deviation near 0 is raised, and by what cancels in r - mean. A wrong formula shows at 1e-3.
constexpr double kBound = 1e-12;

// max |value - reference| / scale, where `scale` is the largest |reference| unless given.
double LargestError(const Values& value, const Values& reference, double scale = 0) {
  REQUIRE(value.size() == reference.size());
  double difference = 0;
  for (std::size_t i = 0; i < value.size(); ++i) {
    if (!std::isfinite(value[i])) return INFINITY;
    difference = std::max(difference, std::fabs(value[i] - reference[i]));
    scale = std::max(scale, std::fabs(reference[i]));
  }
  return difference == 0 ? 0 : difference / scale;
}

// A fixture, and which of its tensors no one has read yet.
class Fixture {
 public:
  explicit Fixture(const std::string& name) : file_(std::string(SWARR_TEST_DATA "/") + name) {
    for (const std::string& tensor : file_.names()) unread_.insert(tensor);
    description = ordered_json::parse(file_.metadata().at("fixture"));
  }
  bool Contains(const std::string& name) const { return file_.Contains(name); }
  Values Read(const std::string& name) { return ReadAs<double>(name); }
  std::vector<std::int32_t> ReadMask(const std::string& name) { return ReadAs<std::int32_t>(name); }
  const std::set<std::string>& unread() const { return unread_; }

  ordered_json description;

 private:
  template <class T>
  std::vector<T> ReadAs(const std::string& name) {
    unread_.erase(name);
    const std::vector<std::int64_t>& shape = file_.shape(name);
    REQUIRE((shape.size() == 1 || shape.size() == 2));
    Arena arena;
    const Tensor t = shape.size() == 1 ? arena.New(file_.dtype(name), {shape[0]})
                                       : arena.New(file_.dtype(name), {shape[0], shape[1]});
    file_.CopyTo(name, t);
    return {t.data<T>(), t.data<T>() + t.size()};
  }

  SafetensorsFile file_;
  std::set<std::string> unread_;
};

// Completions as the library takes them: of the rectangle, the tokens that the mask has.
struct SampledBatch {
  SampledBatch(Fixture& fixture, const std::string& name, int size) : group_size(size) {
    rewards = fixture.Read(name + ".rewards");
    const std::vector<std::int32_t> mask = fixture.ReadMask(name + ".mask");
    const auto counted = [&](const char* field) {
      const Values all = fixture.Read(name + field);
      REQUIRE(all.size() == mask.size());
      Values kept;
      for (std::size_t i = 0; i < all.size(); ++i) {
        if (mask[i] != 0) kept.push_back(all[i]);
      }
      return kept;
    };
    logp = counted(".logp"), old_logp = counted(".old_logp"), ref_logp = counted(".ref_logp");
    entropy = counted(".entropy");
    const std::ptrdiff_t width = static_cast<std::ptrdiff_t>(mask.size() / rewards.size());
    for (auto row = mask.begin(); row != mask.end(); row += width) {
      lengths.push_back(static_cast<int>(std::count(row, row + width, 1)));
    }
  }
  SampledTokens sampled() const { return {lengths, group_size, rewards, old_logp, ref_logp}; }

  int group_size;
  std::vector<int> lengths;
  Values rewards, logp, old_logp, ref_logp, entropy;
};

// What the library makes of a batch, by the names of the fixtures.
struct Result {
  std::map<std::string, Values> tensors;
  double loss = 0, kl = 0;
  std::int64_t clipped = 0;
  double largest_share = 0;  // of a token in the loss
};

Result Evaluate(const SampledBatch& batch, const ObjectiveOptions& options) {
  CheckObjective(options);
  Result result;
  Values advantages = Advantages(batch.sampled(), options);
  const Values of_sequence = SequenceWeights(batch.lengths, options);
  Values terms(advantages.size()), dlogp(advantages.size()), weights, dentropy;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < batch.lengths.size(); ++i) {
    const auto length = static_cast<std::size_t>(batch.lengths[i]);
    const auto part = [&](auto& values) { return std::span(values).subspan(begin, length); };
    const CompletionLoss loss = EvaluateCompletion({.logp = part(batch.logp),
                                                    .old_logp = part(batch.old_logp),
                                                    .ref_logp = part(batch.ref_logp),
                                                    .entropy = part(batch.entropy),
                                                    .advantage = part(advantages),
                                                    .weight = of_sequence[i],
                                                    .term = part(terms),
                                                    .dlogp = part(dlogp)},
                                                   options);
    result.loss += loss.loss, result.kl += loss.kl, result.clipped += loss.clipped;
    weights.insert(weights.end(), length, of_sequence[i]);
    dentropy.insert(dentropy.end(), length, -options.entropy_coef * of_sequence[i]);
    begin += length;
  }
  for (std::size_t t = 0; t < terms.size(); ++t) {
    result.largest_share = std::max(result.largest_share, std::fabs(weights[t] * terms[t]));
  }
  result.tensors = {{"advantages", std::move(advantages)},
                    {"terms", std::move(terms)},
                    {"weights", std::move(weights)},
                    {"dlogp", std::move(dlogp)},
                    {"dentropy", std::move(dentropy)}};
  return result;
}

// Compares all that the fixture has of one case. Returns what was clipped.
void CheckCase(Fixture& fixture, std::size_t index, const ordered_json& expected, const Result& result) {
  std::size_t compared = 0;
  for (const auto& [name, values] : result.tensors) {
    const std::string tensor = std::to_string(index) + "." + name;
    if (!fixture.Contains(tensor)) continue;
    INFO(name);
    CHECK(LargestError(values, fixture.Read(tensor)) <= kBound);
    ++compared;
  }
  CHECK(compared >= 2);
  // A loss is a sum that may all but cancel: its rounding is that of the largest share.
  CHECK(LargestError({result.loss}, {expected.at("loss").get<double>()}, result.largest_share) <= kBound);
}

// Calls f(index, case, result) for every case of the file, then sees that nothing in it was left out.
template <class F>
std::size_t ForCases(Fixture& fixture, F&& f) {
  std::map<std::string, SampledBatch> batches;
  for (const auto& [name, group_size] : fixture.description.at("batches").items()) {
    batches.emplace(name, SampledBatch(fixture, name, group_size));
  }
  const ordered_json& cases = fixture.description.at("cases");
  for (std::size_t i = 0; i < cases.size(); ++i) {
    INFO(cases[i].at("name").get<std::string>());
    f(i, cases[i], Evaluate(batches.at(cases[i].at("batch")), ObjectiveFromJson(cases[i].at("switches"))));
  }
  CHECK(fixture.unread().empty());
  return cases.size();
}

TEST_CASE("advantages, terms, weights, losses and gradients of every objective agree with PyTorch") {
  Fixture fixture("objectives.safetensors");
  CHECK(fixture.description.at("script") == "tools/make_objective_fixtures.py");
  CHECK(fixture.description.at("versions").at("torch").get<std::string>().starts_with("2."));
  std::map<std::string, std::int64_t> clipped;
  std::size_t with_kl = 0;
  const std::size_t cases = ForCases(fixture, [&](std::size_t index, const ordered_json& expected, const Result& r) {
    CheckCase(fixture, index, expected, r);
    CHECK(r.clipped == expected.at("clipped").get<std::int64_t>());
    CHECK(LargestError({r.kl}, {expected.at("kl").get<double>()}) <= kBound);
    clipped[expected.at("switches").at("objective")] += r.clipped;
    with_kl += r.kl != 0;
  });
  CHECK(cases == 144);
  CHECK(with_kl > 10);
  for (const auto& [name, switches] : NamedObjectives()) {
    INFO(name);
    REQUIRE(clipped.contains(name));
    CHECK((clipped[name] > 0) == (switches.clip != ClipKind::kNone));
  }
}

TEST_CASE("advantages, losses and gradients agree with TRL's own code for every objective that TRL has") {
  Fixture fixture("objectives_trl.safetensors");
  CHECK(fixture.description.at("script") == "tools/make_trl_objective_fixtures.py");
  CHECK(fixture.description.at("versions").at("trl").get<std::string>().starts_with("1."));
  std::map<std::string, std::int64_t> clipped;
  const std::size_t cases = ForCases(fixture, [&](std::size_t index, const ordered_json& expected, const Result& r) {
    CheckCase(fixture, index, expected, r);
    clipped[expected.at("switches").at("objective")] += r.clipped;
  });
  CHECK(cases == 45);
  for (const std::string name : {"rloo", "grpo", "dr_grpo", "dapo", "gspo", "cispo"}) CHECK(clipped[name] > 0);
}

}  // namespace
}  // namespace swarr
