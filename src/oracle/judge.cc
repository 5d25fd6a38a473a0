// SPDX-License-Identifier: Apache-2.0
#include "oracle/judge.h"

#include <fnmatch.h>

#include <algorithm>
#include <cmath>

#include "tensor/safetensors.h"

namespace swarr::oracle {
namespace {

void Read(const SafetensorsFile& file, const std::string& name, Value& value) {
  const std::int64_t size = SizeOf(value.shape);
  value.data.resize(static_cast<std::size_t>(size));
  if (size == 0) return;
  if (value.integer) {
    const std::vector<std::int64_t> integers = file.Integers(name);
    value.data.assign(integers.begin(), integers.end());
  } else {
    file.ReadAs(name, 0, Tensor(value.data.data(), DType::kF64, {size}));
  }
}

bool IsInteger(std::string_view stored) { return stored == "I32" || stored == "I64"; }

std::string NameOf(const Case& c, const std::string& tensor) { return c.name + "." + tensor; }

// Why the tensor can't be compared with the truth; empty if it can.
std::string ProblemOf(const CandidateTensor& tensor, const Value& truth) {
  if (tensor.value.shape != truth.shape) {
    return Concat("expected ", ShapeString(truth.shape), ", got ", ShapeString(tensor.value.shape));
  }
  const std::string stored = tensor.stored.empty() ? "nothing" : tensor.stored;
  if (truth.integer && !IsInteger(stored)) {
    return Concat("expected I32 or I64, got ", stored, "; in PyTorch .to(torch.int32)");
  }
  if (!truth.integer && !FindPrecision(stored)) return Concat("expected F64, F32, BF16 or F16, got ", stored);
  if (tensor.value.size() == truth.size()) return "";
  return Concat("shape ", ShapeString(truth.shape), " has ", truth.size(), " elements, got ", tensor.value.size());
}

// What an element is: as what is expected, and as one or many that were given.
struct Kind {
  const char *expected, *one, *many;
};

const Kind& KindOf(double x) {
  static constexpr Kind kNumber{"numbers are", "number", "numbers"}, kNan{"NaN is", "NaN", "NaN"},
      kPlus{"infinity is", "infinity", "infinities"}, kMinus{"-infinity is", "-infinity", "-infinities"};
  if (std::isnan(x)) return kNan;
  if (std::isfinite(x)) return kNumber;
  return x > 0 ? kPlus : kMinus;
}

// "[3, 0, 2]": where the element stands, row-major.
std::string PlaceOf(std::size_t element, const std::vector<std::int64_t>& shape) {
  std::vector<std::int64_t> index(shape.size());
  auto rest = static_cast<std::int64_t>(element);
  for (std::size_t d = shape.size(); d-- > 0; rest /= shape[d]) index[d] = rest % shape[d];
  return ShapeString(index);
}

// Says which elements are of another kind than the truth's, of those that are like the first such one; empty if there
// is none.
std::string MixedUpKinds(const Value& given, const Value& truth) {
  const auto kinds = [&](std::size_t i) { return std::pair(&KindOf(given.data[i]), &KindOf(truth.data[i])); };
  std::size_t count = 0, first = 0;
  for (std::size_t i = 0; i < truth.data.size(); ++i) {
    if (kinds(i).first == kinds(i).second) continue;
    if (count == 0) first = i;
    count += kinds(i) == kinds(first);
  }
  if (count == 0) return "";
  const auto [is, expected] = kinds(first);
  return Concat(count, " ", count == 1 ? is->one : is->many, " where ", expected->expected, " expected, ",
                count == 1 ? "at " : "the first at ", PlaceOf(first, truth.shape));
}

// "3 of 9 differ, the first at [4]: 17, not 12".
std::string DifferingIntegers(const Value& given, const Value& truth) {
  std::size_t count = 0, first = 0;
  for (std::size_t i = truth.data.size(); i-- > 0;) {
    if (given.data[i] == truth.data[i]) continue;
    ++count;
    first = i;
  }
  const auto integer = [](double x) { return static_cast<std::int64_t>(x); };
  return Concat(count, " of ", truth.size(), count == 1 ? " differs, at " : " differ, the first at ",
                PlaceOf(first, truth.shape), ": ", integer(given.data[first]), ", not ", integer(truth.data[first]));
}

// The coarsest dtype among the case's tensors, or among its values alone: see TensorVerdict.
const Precision* CoarsestOf(const Family& family, const Case& c, const Values& truth, const Candidate& candidate,
                            bool gradients_too) {
  const Precision* coarsest = nullptr;
  for (const auto& item : truth) {
    if (family.Output(item.first).gradient && !gradients_too) continue;
    const auto tensor = candidate.find(NameOf(c, item.first));
    const Precision* precision = tensor == candidate.end() ? nullptr : FindPrecision(tensor->second.stored);
    if (precision && (!coarsest || precision->u > coarsest->u)) coarsest = precision;
  }
  return coarsest;
}

TensorVerdict JudgeTensor(Expectations& expectations, const CaseVerdict& verdict, const TensorInfo& output,
                          const Values& truth, const Candidate& candidate) {
  const Value& exact = truth.at(output.name);
  const auto given = candidate.find(NameOf(*verdict.c, output.name));
  if (given == candidate.end()) return {output.name, Finding::kMissing, "missing"};
  const std::string problem = ProblemOf(given->second, exact);
  if (!problem.empty()) return {output.name, Finding::kUnusable, problem};
  const Value& value = given->second.value;
  const double error = Distance(value, exact);
  if (exact.integer) {
    if (error == 0) return {.tensor = output.name};
    const std::string mixed_up = MixedUpKinds(value, exact);
    return {output.name, Finding::kWrong, mixed_up.empty() ? DifferingIntegers(value, exact) : mixed_up, error};
  }
  const Precision* precision = CoarsestOf(*verdict.family, *verdict.c, truth, candidate, output.gradient || output.sum);
  const double tolerance = expectations.Tolerance(*verdict.family, *verdict.c, "", output.name, *precision);
  if (error <= tolerance) return {output.name, Finding::kPass, "", error, tolerance, precision};
  return {output.name, Finding::kWrong, MixedUpKinds(value, exact), error, tolerance, precision};
}

CaseVerdict JudgeCase(Expectations& expectations, const Family& family, const Case& c, const Candidate& candidate,
                      const std::function<bool(const TensorInfo&)>& asked) {
  const Values& truth = expectations.Outputs(family, c, "");
  CaseVerdict verdict{&family, &c, {}};
  for (const TensorInfo& output : family.outputs) {
    if (!truth.contains(output.name) || !asked(output)) continue;
    verdict.tensors.push_back(JudgeTensor(expectations, verdict, output, truth, candidate));
  }
  return verdict;
}

// Whether one of the patterns fits.
bool Fits(const std::vector<std::string>& patterns, const std::string& name) {
  return std::ranges::any_of(patterns,
                             [&](const std::string& p) { return ::fnmatch(p.c_str(), name.c_str(), 0) == 0; });
}

bool IsAsked(const JudgeOptions& options, const std::string& output) {
  return options.outputs.empty() || std::ranges::count(options.outputs, output) > 0;
}

void CheckOptions(const Suite& suite, const JudgeOptions& options) {
  for (const std::string& pattern : Joined(options.cases, options.skip)) {
    const auto fits = [&](const Case& c) { return Fits({pattern}, c.name); };
    if (std::ranges::any_of(suite.families, [&](const Family& f) { return std::ranges::any_of(f.cases, fits); })) {
      continue;
    }
    throw UsageError(Concat("no case of the suite ", suite.name, " fits '", pattern, "'; its manifest lists them"));
  }
  for (const std::string& name : options.outputs) {
    const auto has = [&](const Family& f) { return std::ranges::count(f.outputs, name, &TensorInfo::name) > 0; };
    if (std::ranges::any_of(suite.families, has)) continue;
    throw UsageError(Concat("no output of the suite ", suite.name, " is called '", name, "'; its manifest lists them"));
  }
}

// The candidate's tensors, without a leading dimension of 1 that outputs don't have: libraries keep one for the batch.
Candidate WithoutBatchDimension(Expectations& expectations, Candidate candidate) {
  for (const Family& family : expectations.suite().families) {
    for (const Case& c : family.cases) {
      for (const auto& [name, exact] : expectations.Outputs(family, c, "")) {
        const auto tensor = candidate.find(NameOf(c, name));
        if (tensor == candidate.end()) continue;
        std::vector<std::int64_t>& shape = tensor->second.value.shape;
        if (shape.size() == exact.shape.size() + 1 && shape[0] == 1) shape.erase(shape.begin());
      }
    }
  }
  return candidate;
}

// Whether the candidate has values where gradients are asked for too, but no gradient. A candidate without values too
// has simply everything missing.
bool HasValuesAlone(const std::map<std::string, const TensorInfo*>& outputs, const Candidate& candidate,
                    const JudgeOptions& options) {
  bool wanted = false, values = false, gradients = false;
  for (const auto& [name, output] : outputs) {
    if (!IsAsked(options, output->name)) continue;
    wanted = wanted || output->gradient;
    if (candidate.contains(name)) (output->gradient ? gradients : values) = true;
  }
  return wanted && values && !gradients;
}

}  // namespace

std::string CandidateFile(const std::string& suite) { return suite + ".safetensors"; }

Candidate ReadCandidate(const std::filesystem::path& directory, const std::string& suite) {
  SWARR_CHECK(!std::filesystem::is_regular_file(directory), directory.string(),
              " is a file; a candidate for the suite ", suite, " is the directory that holds ", CandidateFile(suite));
  const std::filesystem::path path = directory / CandidateFile(suite);
  SWARR_CHECK(std::filesystem::is_regular_file(path), "there is no ", path.string(), "; a candidate for the suite ",
              suite, " is a directory with this file");
  const SafetensorsFile file(path);
  Candidate candidate;
  for (const std::string& name : file.names()) {
    CandidateTensor& tensor = candidate[name];
    tensor.stored = file.stored_dtype(name);
    tensor.value.shape = file.shape(name);
    if (tensor.value.shape.empty()) tensor.value.shape = {1};
    tensor.value.integer = IsInteger(tensor.stored);
    if (tensor.value.integer || file.IsFloating(name)) Read(file, name, tensor.value);
  }
  return candidate;
}

bool CaseVerdict::passes() const {
  return std::ranges::count(tensors, Finding::kPass, &TensorVerdict::finding) == std::ssize(tensors);
}

bool CaseVerdict::wrong() const { return std::ranges::count(tensors, Finding::kWrong, &TensorVerdict::finding) > 0; }

const Precision* CaseVerdict::precision() const {
  const Precision* coarsest = nullptr;
  for (const TensorVerdict& t : tensors) {
    if (t.precision && (!coarsest || t.precision->u > coarsest->u)) coarsest = t.precision;
  }
  return coarsest;
}

std::size_t Verdict::failures() const {
  return static_cast<std::size_t>(std::ranges::count(cases, false, &CaseVerdict::passes));
}

Verdict Judge(Expectations& expectations, const Candidate& given, const JudgeOptions& options) {
  const Suite& suite = expectations.suite();
  CheckOptions(suite, options);
  std::map<std::string, const TensorInfo*> outputs;  // by full names
  for (const Family& family : suite.families) {
    for (const Case& c : family.cases) {
      for (const auto& item : expectations.Outputs(family, c, "")) {
        outputs[NameOf(c, item.first)] = &family.Output(item.first);
      }
    }
  }
  const Candidate candidate = WithoutBatchDimension(expectations, given);
  Verdict verdict{.suite = suite.name,
                  .values_alone = options.forward_only || HasValuesAlone(outputs, candidate, options),
                  .outputs = options.outputs,
                  .accepted = expectations.accepted()};
  const auto asked = [&](const TensorInfo& output) {
    return IsAsked(options, output.name) && !(verdict.values_alone && output.gradient);
  };
  for (const Family& family : suite.families) {
    for (const Case& c : family.cases) {
      ++verdict.suite_cases;
      if ((!options.cases.empty() && !Fits(options.cases, c.name)) || Fits(options.skip, c.name)) continue;
      CaseVerdict judged = JudgeCase(expectations, family, c, candidate, asked);
      if (judged.tensors.empty()) continue;
      verdict.bent += expectations.IsBent(family, c);
      verdict.cases.push_back(std::move(judged));
    }
  }
  if (verdict.cases.empty()) {
    throw UsageError("nothing of the suite is left to judge; ask for a case with such outputs");
  }
  for (const auto& item : candidate) {
    if (!outputs.contains(item.first)) verdict.unknown.push_back(item.first);
  }
  return verdict;
}

}  // namespace swarr::oracle
