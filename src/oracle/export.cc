// SPDX-License-Identifier: Apache-2.0
#include "oracle/export.h"

#include "base/directories.h"
#include "base/files.h"
#include "oracle/judge.h"
#include "tensor/safetensors.h"

namespace swarr::oracle {
namespace {

using nlohmann::ordered_json;

ordered_json Infos(const std::vector<TensorInfo>& infos, bool outputs) {
  ordered_json list = ordered_json::array();
  for (const TensorInfo& info : infos) {
    ordered_json entry = {{"name", info.name}, {"shape", info.shape}, {"meaning", info.meaning}};
    if (outputs) entry.update({{"gradient", info.gradient}, {"sum", info.sum}});
    list.push_back(entry);
  }
  return list;
}

ordered_json ShapeAndType(const Value& value) {
  return {{"shape", value.shape}, {"dtype", value.integer ? "i32" : "f64"}};
}

ordered_json CaseEntry(Expectations& expectations, const Family& family, const Case& c) {
  ordered_json entry = {{"name", c.name},
                        {"meaning", c.meaning},
                        {"parameters", c.parameters},
                        {"longest_sum", c.longest_sum},
                        {"inputs", ordered_json::object()},
                        {"outputs", ordered_json::object()}};
  for (const auto& [name, value] : c.inputs) entry["inputs"][name] = ShapeAndType(value);
  for (const auto& [name, value] : expectations.Outputs(family, c, "")) {
    ordered_json& output = entry["outputs"][name] = ShapeAndType(value);
    if (value.integer) continue;
    for (const Precision& p : kPrecisions) {
      output["tolerance"][std::string(p.name)] = expectations.Tolerance(family, c, "", name, p);
    }
  }
  return entry;
}

ordered_json FamilyEntry(Expectations& expectations, const Family& family) {
  ordered_json entry = {{"name", family.name},
                        {"semantics", family.semantics},
                        {"inputs", Infos(family.inputs, false)},
                        {"outputs", Infos(family.outputs, true)},
                        {"roundings", {{"forward", family.roundings.forward}, {"backward", family.roundings.backward}}},
                        {"known_mistakes", family.mistakes},
                        {"cases", ordered_json::array()}};
  for (const Case& c : family.cases) entry["cases"].push_back(CaseEntry(expectations, family, c));
  return entry;
}

ordered_json ToleranceRule() {
  ordered_json units = ordered_json::object();
  for (const Precision& p : kPrecisions) units[std::string(p.name)] = p.u;
  return {{"measure", "largest |candidate - expected| over the tensor; what is not finite must be the same"},
          {"rule", "(K + n) S(u) + max(u max|expected|, least)"},
          {"unit_roundoff", units},
          {"least", Concat(FindPrecision("F16")->least, " in f16, half the spacing of its smallest numbers; else 0")},
          {"S", Concat("largest change of the output in ", kPatterns,
                       " exact evaluations with every input element, and what the evaluator stores, times 1 + u or "
                       "1 - u at random")},
          {"K",
           "1 + the family's roundings.forward; of a gradient also + roundings.backward: what a plain "
           "implementation stores on the way"},
          {"n", "the case's longest_sum in f32 and f64, whose sums are taken in the dtype itself; 0 in bf16 and f16"},
          {"dtype",
           "of a value: the coarsest among the candidate's values of the case; of a gradient, and of a value that is a "
           "`sum`, the coarsest among all of its tensors"},
          {"integers", "must be equal"}};
}

}  // namespace

ordered_json Manifest(Expectations& expectations) {
  const Suite& suite = expectations.suite();
  ordered_json manifest = {
      {"format", "swarr oracle"},
      {"version", kManifestVersion},
      {"suite", suite.name},
      {"summary", suite.summary},
      {"files",
       {{"inputs.safetensors", "the inputs of all cases, as <case>.<tensor>"},
        {"expected.safetensors", "the right outputs, computed in f64"}}},
      {"inputs", "floating inputs have at most 8 significant bits: f64, f32, bf16 and f16 hold them exactly"},
      {"candidate", Concat("a directory with ", CandidateFile(suite.name),
                           ": the outputs under the names of expected.safetensors in F64, F32, BF16 or F16 (integers "
                           "in I32), each in the dtype in which it was computed")},
      {"tolerance", ToleranceRule()},
      {"families", ordered_json::array()}};
  for (const Family& family : suite.families) manifest["families"].push_back(FamilyEntry(expectations, family));
  return manifest;
}

void WriteValues(const std::filesystem::path& path, const std::map<std::string, const Value*>& values) {
  Arena arena;
  const Context ctx{.arena = &arena};
  std::vector<NamedTensor> tensors;
  for (const auto& [name, value] : values) tensors.push_back({name, InArena(ctx, *value)});
  WriteSafetensors(path, tensors);
}

void Export(Expectations& expectations, const std::filesystem::path& directory, Existing existing) {
  const Suite& suite = expectations.suite();
  std::map<std::string, const Value*> inputs, outputs;
  for (const Family& family : suite.families) {
    for (const Case& c : family.cases) {
      for (const auto& [name, value] : c.inputs) inputs[c.name + "." + name] = &value;
      for (const auto& [name, value] : expectations.Outputs(family, c, "")) outputs[c.name + "." + name] = &value;
    }
  }
  AtomicDirectory target(directory / suite.name, {"manifest.json", "inputs.safetensors", "expected.safetensors"},
                         existing);
  WriteFileAtomically(target.path() / "manifest.json", Manifest(expectations).dump(2) + "\n");
  WriteValues(target.path() / "inputs.safetensors", inputs);
  WriteValues(target.path() / "expected.safetensors", outputs);
  target.Commit();
}

}  // namespace swarr::oracle
