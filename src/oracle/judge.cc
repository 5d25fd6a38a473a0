// SPDX-License-Identifier: Apache-2.0
#include "oracle/judge.h"

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
    std::vector<std::int32_t> integers(value.data.size());
    file.CopyTo(name, ViewOf(integers.data(), DType::kI32, file.shape(name)));
    value.data.assign(integers.begin(), integers.end());
  } else {
    file.ReadAs(name, 0, Tensor(value.data.data(), DType::kF64, {size}));
  }
}

std::string NameOf(const Case& c, const std::string& tensor) { return c.name + "." + tensor; }

// Why the tensor can't be compared with the truth; empty if it can.
std::string ProblemOf(const CandidateTensor& tensor, const Value& truth) {
  if (tensor.value.shape != truth.shape) {
    return Concat("expected ", ShapeString(truth.shape), ", got ", ShapeString(tensor.value.shape));
  }
  if (truth.integer) {
    return tensor.value.integer ? "" : Concat("expected I32, got ", tensor.stored, "; in PyTorch .to(torch.int32)");
  }
  if (!FindPrecision(tensor.stored)) return Concat("expected F64, F32, BF16 or F16, got ", tensor.stored);
  return "";
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

// The precision of the case: see CaseVerdict.
const Precision* CoarsestOf(const Case& c, const Values& truth, const Candidate& candidate) {
  const Precision* coarsest = nullptr;
  for (const auto& item : truth) {
    const auto tensor = candidate.find(NameOf(c, item.first));
    const Precision* precision = tensor == candidate.end() ? nullptr : FindPrecision(tensor->second.stored);
    if (precision && (!coarsest || precision->u > coarsest->u)) coarsest = precision;
  }
  return coarsest;
}

TensorVerdict JudgeTensor(Expectations& expectations, const CaseVerdict& verdict, const std::string& output,
                          const Value& exact, const Candidate& candidate) {
  const auto given = candidate.find(NameOf(*verdict.c, output));
  if (given == candidate.end()) return {output, Finding::kMissing, "missing"};
  const std::string problem = ProblemOf(given->second, exact);
  if (!problem.empty()) return {output, Finding::kUnusable, problem};
  const double error = Distance(given->second.value, exact);
  const double tolerance =
      exact.integer ? 0 : expectations.Tolerance(*verdict.family, *verdict.c, "", output, *verdict.precision);
  if (error <= tolerance) return {output, Finding::kPass, "", error, tolerance};
  return {output, Finding::kWrong, MixedUpKinds(given->second.value, exact), error, tolerance};
}

CaseVerdict JudgeCase(Expectations& expectations, const Family& family, const Case& c, const Candidate& candidate,
                      bool values_alone) {
  const Values& truth = expectations.Outputs(family, c, "");
  CaseVerdict verdict{&family, &c, CoarsestOf(c, truth, candidate), {}};
  for (const TensorInfo& output : family.outputs) {
    const auto exact = truth.find(output.name);
    if (exact == truth.end() || (values_alone && output.gradient)) continue;
    verdict.tensors.push_back(JudgeTensor(expectations, verdict, output.name, exact->second, candidate));
  }
  return verdict;
}

// Whether the candidate has values of a suite that wants gradients, but no gradient. A candidate without values too has
// simply everything missing.
bool HasValuesAlone(const std::map<std::string, const TensorInfo*>& outputs, const Candidate& candidate) {
  bool wanted = false, values = false, gradients = false;
  for (const auto& [name, output] : outputs) {
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
    tensor.value.integer = tensor.stored == "I32";
    constexpr std::size_t kMaxRank = Tensor::kMaxRank;
    const bool readable = (tensor.value.integer || file.IsFloating(name)) && tensor.value.shape.size() <= kMaxRank;
    if (readable) Read(file, name, tensor.value);
  }
  return candidate;
}

bool CaseVerdict::passes() const {
  return std::ranges::count(tensors, Finding::kPass, &TensorVerdict::finding) == std::ssize(tensors);
}

bool CaseVerdict::wrong() const { return std::ranges::count(tensors, Finding::kWrong, &TensorVerdict::finding) > 0; }

std::size_t Verdict::failures() const {
  return static_cast<std::size_t>(std::ranges::count(cases, false, &CaseVerdict::passes));
}

Verdict Judge(Expectations& expectations, const Candidate& candidate, bool forward_only) {
  const Suite& suite = expectations.suite();
  std::map<std::string, const TensorInfo*> outputs;  // by full names
  for (const Family& family : suite.families) {
    for (const Case& c : family.cases) {
      for (const auto& item : expectations.Outputs(family, c, "")) {
        outputs[NameOf(c, item.first)] = &family.Output(item.first);
      }
    }
  }
  Verdict verdict{suite.name, forward_only || HasValuesAlone(outputs, candidate), {}, {}};
  for (const Family& family : suite.families) {
    for (const Case& c : family.cases) {
      verdict.cases.push_back(JudgeCase(expectations, family, c, candidate, verdict.values_alone));
    }
  }
  for (const auto& item : candidate) {
    if (!outputs.contains(item.first)) verdict.unknown.push_back(item.first);
  }
  return verdict;
}

}  // namespace swarr::oracle
