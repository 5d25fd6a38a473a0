// SPDX-License-Identifier: Apache-2.0
#include "study/write_samples.h"

#include "base/files.h"
#include "study/seed_study.h"
#include "train/evaluate.h"

namespace swarr {

std::int64_t WriteSamples(Context& ctx, const StudyOptions& options, const StudySettings& settings, const ArmPlan& arm,
                          const Transformer& model, const Tokenizer& tokenizer, const Task& problems,
                          const std::filesystem::path& file) {
  const std::vector<EvaluatedCompletion> completions =
      Evaluate(ctx, model, tokenizer, problems,
               {.problems = arm.sample_problems,
                .samples = arm.samples,
                .max_completion_length = settings.rl.max_completion_length,
                .seed = settings.seed,
                .purpose = Purpose::kSample,
                .on_progress = CompletionsOf(options)});
  const SampledRows rows = RowsToLearn(completions,
                                       {.task = problems,
                                        .tokenizer = tokenizer,
                                        .format = {},
                                        .eos_id = model.config().eos_id,
                                        .model = arm.samples_of,
                                        .seed = settings.seed,
                                        .samples = arm.samples},
                                       arm.keep);
  SWARR_CHECK(rows.rows > 0, "arm '", arm.name, "': none of the ", completions.size(), " samples of '", arm.samples_of,
              "' is to be kept; take another arm or more samples");
  std::filesystem::create_directories(file.parent_path());
  WriteFileAtomically(file, rows.lines);
  std::int64_t tokens = 0;
  for (const EvaluatedCompletion& c : completions) tokens += c.tokens();
  return tokens;
}

}  // namespace swarr
