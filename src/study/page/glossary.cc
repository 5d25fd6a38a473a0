// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <set>

#include "page/html.h"
#include "study/page/sections.h"

namespace swarr {
namespace {

struct GlossaryEntry {
  std::string_view head, meaning;
};

constexpr std::array kEntries = {
    GlossaryEntry{"arm",
                  "A model that was trained and measured in one way: SA has full attention, SWA a sliding window."},
    GlossaryEntry{"way", "An arm under the window that goes on from SWA after its SFT, or takes its place."},
    GlossaryEntry{"seed",
                  "Of the set of arms: it sets the order of the data, the restatements in them and all sampling. It "
                  "links to the record of the run."},
    GlossaryEntry{"problems", "Evaluation problems, the same for all arms; none is in the data of SFT or RL."},
    GlossaryEntry{
        "accuracy [95% CI]",
        "Share of right answers in one sample a problem at temperature 1, with its 95% interval: "
        "Student's t over several seeds, Wilson's over the problems of one, or of all seeds where these agree."},
    GlossaryEntry{"accuracy", "The same without its interval."},
    GlossaryEntry{"greedy accuracy", "Share of right answers where the likeliest token is always taken."},
    GlossaryEntry{"greedy", "Share of right answers where the likeliest token is always taken."},
    GlossaryEntry{"restatements per step", "How often a trace repeats the facts, by the steps that it writes."},
    GlossaryEntry{"mean length", "Of a sampled trace, in tokens."},
    GlossaryEntry{"truncated", "Share of sampled traces that did not end within the limit of tokens."},
    GlossaryEntry{"distance", "Tokens from where a fact is used to where it was last stated, on average."},
    GlossaryEntry{"facts in window",
                  "Share of the used facts that were last stated less than W tokens before: one layer sees "
                  "them directly."},
    GlossaryEntry{"brackets per line", "How often a solution repeats values and statements in brackets, by its lines."},
    GlossaryEntry{"needs in window", "Share of what the lines need that was last mentioned less than W tokens before."},
    GlossaryEntry{"local lines", "Share of the lines that name the operands and their values."},
    GlossaryEntry{"carried per line", "Values and statements that brackets repeat, by the lines."},
    GlossaryEntry{"traces in reach",
                  "g: share of the sampled traces in which whatever can't be inferred was last stated within the "
                  "reach of all layers together."},
    GlossaryEntry{"in reach, g",
                  "Share of the sampled traces in which whatever can't be inferred was last stated within the reach of "
                  "all layers together. Placement."},
    GlossaryEntry{"accuracy in reach", "Right answers among the traces in reach. Competence."},
    GlossaryEntry{"accuracy in reach (traces)",
                  "Right answers among the traces in reach, and how many these are. Competence."},
    GlossaryEntry{"accuracy out of reach (traces)", "Right answers among the other traces, and how many these are."},
    GlossaryEntry{"reach bound", "What the traces allow: right on all of them in reach, the best guess on the others."},
    GlossaryEntry{"above it", "Whether the accuracy is above the reach bound."},
    GlossaryEntry{"memoryless ceiling",
                  "The reach bound of a policy that restates at random, as often as this arm does."},
    GlossaryEntry{"accuracy on longer problems", "On problems of more steps than any in training."},
    GlossaryEntry{"RL - it [95% CI]",
                  "Accuracy of SWA after RL less this arm's, over the seeds and problems that both have."},
    GlossaryEntry{"trained tokens", "Tokens that the arm's own stage was trained on, mean over seeds."},
    GlossaryEntry{"sampled", "Tokens drawn by the arm's own policy for its training."},
    GlossaryEntry{"by another's model", "Tokens that another arm's model drew or scored for it."},
};

}  // namespace

std::string GlossaryOf(const std::vector<TextTable>& tables) {
  std::string out;
  std::set<std::string> seen;
  for (const TextTable& table : tables) {
    for (const std::string& head : table[0]) {
      const auto entry = std::ranges::find(kEntries, head, &GlossaryEntry::head);
      if (entry == kEntries.end() || !seen.insert(head).second) continue;
      out += Tag("dt", head) + Tag("dd", entry->meaning);
    }
  }
  return "<dl>\n" + out + "</dl>\n";
}

}  // namespace swarr
