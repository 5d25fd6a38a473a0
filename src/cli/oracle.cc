// SPDX-License-Identifier: Apache-2.0
// swarr oracle: golden tensors for other implementations, and the judge of theirs.
#include <filesystem>
#include <iostream>

#include "cli/commands.h"
#include "oracle/export.h"
#include "oracle/verdict_text.h"

namespace swarr {
namespace {

struct OracleExportCommand {
  explicit OracleExportCommand(OptionSet& options) {
    options.Group("Suite");
    options.Add("suite", suite, "what to export")->type_name(OneOf(oracle::SuiteNames()))->required();
    options.Add("output-dir", output_dir, "gets <suite>/ with manifest, inputs and expected outputs")
        ->type_name("DIR")
        ->required();
    options.AddUnrecorded("overwrite", overwrite, "replace an earlier export of the suite");
    options.Add("threads", threads, "threads, 0 for one per processor; they change nothing but the pace", kThreadRange);
  }

  void Run() const {
    if (output_dir.empty()) throw UsageError("--output-dir is empty; name a directory");
    const oracle::Suite made = oracle::MakeSuite(suite);
    RequireFree(std::filesystem::path(output_dir) / suite, overwrite);
    oracle::Expectations expectations(made, ResolveThreads(threads));
    oracle::Export(expectations, output_dir, overwrite ? Existing::kReplaced : Existing::kKept);
    std::size_t cases = 0;
    for (const oracle::Family& family : made.families) cases += family.cases.size();
    std::cout << "wrote manifest.json, inputs.safetensors and expected.safetensors of " << cases << " cases to "
              << (std::filesystem::path(output_dir) / suite).string() << '\n';
  }

  std::string suite, output_dir;
  bool overwrite = false;
  int threads = 1;
};

struct OracleCheckCommand {
  explicit OracleCheckCommand(OptionSet& options) {
    options.Group("Suite");
    options.Add("suite", suite, "what the candidate has computed")->type_name(OneOf(oracle::SuiteNames()))->required();
    options.Add("candidate", candidate_dir, "holds <suite>.safetensors: the outputs, as <case>.<tensor>")
        ->type_name("DIR")
        ->required();
    options.Group("What is judged");
    options.Add("cases", asked.cases, "judge these cases alone: names, or patterns like 'window_*'")->delimiter(',');
    options.Add("skip", asked.skip, "leave these cases out: names or patterns")->delimiter(',');
    options.Add("outputs", asked.outputs, "judge these outputs alone: names like out,dq,dk,dv")->delimiter(',');
    options.Add("accept", accepted, "take this known mistake for right, since it is meant; may be given several times")
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    options.Add("forward-only", asked.forward_only, "judge values alone, no gradients");
    options.Group("Output");
    options.Add("json", json, "print one JSON object");
  }

  void Run() const {
    const oracle::Suite made = oracle::MakeSuite(suite);
    const oracle::Candidate candidate = oracle::ReadCandidate(candidate_dir, suite);
    oracle::Expectations expectations(made, /*threads=*/1, accepted);
    const oracle::Verdict verdict = oracle::Judge(expectations, candidate, asked);
    if (accepted.size() > 1 && verdict.bent == 0) {
      throw UsageError(
          "the conventions of --accept cancel each other: together they change none of the cases judged; "
          "leave them out");
    }
    const std::vector<oracle::Diagnosis> diagnoses = oracle::Diagnose(expectations, candidate, verdict);
    if (json) {
      PrintJson(oracle::ToJson(verdict, diagnoses, asked.forward_only));
    } else {
      std::cout << oracle::Text(verdict, diagnoses, asked.forward_only);
    }
    SWARR_CHECK(oracle::Accepted(verdict, asked.forward_only), "the candidate is not accepted");
  }

  std::string suite, candidate_dir;
  oracle::JudgeOptions asked;
  std::vector<std::string> accepted;
  bool json = false;
};

}  // namespace

void AddOracle(const CommandGroup& program) {
  const CommandGroup oracle = program.AddGroup("oracle", "Judge other implementations by golden tensors");
  oracle.Add<OracleExportCommand>("export", "Write inputs, outputs and gradients in f64, with a manifest",
                                  "  swarr oracle export --suite attention --output-dir golden");
  oracle.Add<OracleCheckCommand>("check", "Judge tensors computed elsewhere, and name the mistake",
                                 "  swarr oracle check --suite attention --candidate mine --cases 'window_*'");
}

}  // namespace swarr
