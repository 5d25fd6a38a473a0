// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "study/report.h"
#include "study/statistics.h"

namespace swarr {
namespace {

// From this accuracy on, SA has so little room to gain that this alone may hide or shrink a gap.
constexpr double kSaturated = 0.97;

bool Above(const Interval& interval) { return interval.low > 0; }
bool Below(const Interval& interval) { return interval.high < 0; }

// The t interval of few seeds that happen to agree may be narrower than what other problems would change. So no
// difference is claimed that the interval over problems does not have too.
bool Above(const Estimate& e) { return Above(e.Claimed()) && Above(e.ci95); }
bool Below(const Estimate& e) { return Below(e.Claimed()) && Below(e.ci95); }
bool OnlyOverSeeds(const Estimate& e) { return (Above(e.Claimed()) || Below(e.Claimed())) && !Above(e) && !Below(e); }

std::string FormatInterval(const Interval& interval) {
  return Concat("[", FormatNumber(interval.low), ", ", FormatNumber(interval.high), "]");
}

// How sentences show a value: numbers with three decimals, estimates with their interval, or with both where these
// disagree.
std::string Shown(double value) { return FormatNumber(value); }
std::string Shown(const Estimate& e) {
  if (!OnlyOverSeeds(e)) return FormatEstimate(e);
  return Concat(FormatNumber(e.mean), ", ", FormatInterval(e.Claimed()), " over ", e.seeds, " seeds but ",
                FormatInterval(e.ci95), " over problems");
}
template <class T>
const T& Shown(const T& part) {
  return part;
}

template <class... Parts>
std::string Sentence(const Parts&... parts) {
  return Concat(Shown(parts)...);
}

std::string Signed(const Estimate& change) { return Sentence(change.mean >= 0 ? "+" : "", change); }

std::string Percent(double share) { return FormatNumber(100 * share, 0) + "%"; }

Estimate Accuracy(const ArmMeans& m) { return {.mean = m.accuracy, .ci95 = m.accuracy_ci95}; }

// "SWA, RL" as part of a sentence: "SWA after RL".
std::string InSentence(std::string name) {
  for (const std::string_view stage : {"SFT", "RL"}) {
    const std::size_t comma = name.find(Concat(", ", stage));
    if (comma != std::string::npos) name.replace(comma, 2, " after ");
  }
  return name;
}

// A change of less than a tenth is called none: it is within what a few sampled traces move it by. So is one that not
// all seeds have.
std::string RateChange(const std::string& name, const std::string& step, double before, double after, bool agreed) {
  const bool more = agreed && after > 1.1 * before, less = agreed && after < 0.9 * before;
  const std::string times = (more || less) && before > 0 ? Concat(", ", FormatNumber(after / before, 2), " times") : "";
  const char* change = more ? "more" : less ? "less" : agreed ? "as often as before" : "more or less, by seed";
  return Concat("the ", name, " policy restates ", change, " (", FormatNumber(before, 2), " to ",
                FormatNumber(after, 2), " per ", step, times, ")");
}

// The sentences in order. One whose arms were not run is left out.
class Story {
 public:
  explicit Story(const StudyResults& results)
      : results_(results), summary_(results.summary), arms_(MeansByArm(results.runs)) {}

  std::vector<std::string> Tell() {
    TellConversion();
    TellSft();
    TellCeiling();
    TellRl();
    TellOtherWays();
    TellSaChange();
    TellRecovery();
    TellPlacement();
    TellBound();
    TellInference();
    TellRestatements();
    TellDistances();
    TellSaturation();
    for (const TrainingWarning& w : results_.checks.warnings) {
      Say("Warning, ", ArmName(results_.looks, w.arm), ", seed ", w.seed, ", step ", w.step, ": ", w.text, ".");
    }
    const std::size_t seeds = SeedsOf(results_.runs).size();
    Say(seeds == 1
            ? "One seed: the intervals cover the choice of problems, not what another training run would give."
            : Concat("Intervals are t intervals over ", seeds, " seeds, means over seeds: what another seed would give",
                     seeds <= 3 ? "; of so few they are wide, and may pass what an accuracy can be." : ".",
                     " Where all seeds have one value the interval is over their problems."));
    return std::move(sentences_);
  }

 private:
  template <class... Parts>
  void Say(const Parts&... parts) {
    sentences_.push_back(Sentence(parts...));
  }

  std::string Phrase(const ArmMeans& m) const { return InSentence(ArmName(results_.looks, m.arm)); }

  // Null for an arm that was not run.
  const ArmMeans* Find(const std::string& arm) const {
    const auto found = std::ranges::find(arms_, arm, &ArmMeans::arm);
    return found == arms_.end() ? nullptr : &*found;
  }

  void TellConversion() {
    const ArmMeans* converted = Find("swa_converted");
    const ArmMeans* reference = Find("sa_base") ? Find("sa_base") : Find("sa_sft");
    if (!converted || !reference) return;
    const double lost = reference->accuracy - converted->accuracy;
    Say("Converted to a window of ", results_.task.window, " tokens and not trained, the model answers ",
        Percent(converted->accuracy), " of the problems; ", Phrase(*reference), " answers ",
        Percent(reference->accuracy), ": ",
        lost > 0 ? Concat("conversion loses ", Percent(lost / reference->accuracy), " of the accuracy")
                 : "conversion loses nothing here",
        ".");
  }

  void TellSft() {
    const ArmMeans* swa = Find("swa_sft");
    const Estimate& gap = summary_.gap_sft;
    if (!swa || !Find("sa_sft") || !std::isfinite(gap.mean)) return;
    Say("After SFT SWA reaches ", Accuracy(*swa), "; ",
        Above(gap)   ? Sentence("SWA is below SA by ", gap, ".")
        : Below(gap) ? Sentence("SWA is above SA by ", -gap.mean, ".")
                     : Sentence("no clear gap to SA is left (", gap, ")."));
  }

  void TellCeiling() {
    const ArmMeans* best = Find("swa_sft_more") ? Find("swa_sft_more") : Find("swa_sft");
    if (!best) return;
    const double ceiling = results_.task.data_ceiling, above = best->accuracy - ceiling;
    Say("The ", CeilingName(results_.task), " of the SFT data, ", ceiling, ", was computed beforehand: ",
        results_.task.view().memoryless
            ? "the best accuracy of a policy that restates at random, as often as the data"
            : "the best accuracy of a policy whose traces keep as much in reach as the data's",
        ". ", Phrase(*best), " ends at ", Accuracy(*best), ", ",
        best->accuracy_ci95.low > ceiling
            ? Sentence("above it by ", above, " (it times its restatements, or tells what is lost otherwise)")
        : best->accuracy_ci95.high < ceiling ? Sentence("below it by ", -above)
                                             : "not clearly above or below it",
        ".");
  }

  void TellRl() {
    const ArmMeans* rl = Find("swa_rl");
    if (!rl) return;
    const Estimate& over = summary_.rl_over_more_sft;
    std::string against_more = ".";
    if (std::isfinite(over.mean)) {
      against_more = Concat(", ", Signed(over), " against SFT with equal extra tokens: ",
                            Above(over)   ? "RL did more than more training."
                            : Below(over) ? "RL did worse than more SFT."
                                          : "no clear difference.");
    }
    const double above = rl->accuracy - results_.task.data_ceiling;
    Say("RL takes SWA to ", Accuracy(*rl), against_more, " That is ", std::abs(above), above >= 0 ? " above" : " below",
        " the ", CeilingName(results_.task), " of the SFT data",
        std::isfinite(rl->ceiling) ? Sentence("; at its own restatement rate that ceiling is ", rl->ceiling) : "", ".");
  }

  // Which ways reach what RL reaches; the table has by how much. More SFT has a sentence of its own.
  void TellOtherWays() {
    std::size_t others = 0, below = 0;
    std::string level, above;
    for (const auto& [arm, over] : summary_.ways) {
      if (!std::isfinite(over.mean) || arm == "swa_sft_more") continue;
      ++others;
      if (Above(over)) {
        ++below;
        continue;
      }
      std::string& list = Below(over) ? above : level;
      list += Concat(list.empty() ? "" : "; ", ArmName(results_.looks, arm));
    }
    if (others == 0) return;
    std::string more;
    for (const auto& [list, what] :
         {std::pair(level, "Not clearly apart from it"), std::pair(above, "Better than it")}) {
      if (!list.empty()) more += Concat(" ", what, ": ", list, ".");
    }
    Say("RL is better than ", below, " of ", others, others == 1 ? " other way" : " other ways",
        ", by accuracy (the report's table of ways has all).", more);
  }

  // A gap also shrinks when SA gets worse, which is no recovery.
  void TellSaChange() {
    const Estimate& change = summary_.sa_change;
    if (!std::isfinite(change.mean)) return;
    Say(Below(change)   ? "RL made SA worse ("
        : Above(change) ? "RL makes SA better as well ("
                        : "RL leaves SA where it was (",
        Signed(change), Below(change) ? "): as much of a shrinking gap is SA's loss." : ").");
  }

  void TellRecovery() {
    const StudySummary& s = summary_;
    if (!std::isfinite(s.gap_rl.mean)) return;
    const std::string gaps =
        Sentence("The gap to SA goes from ", s.gap_sft.mean, " after SFT to ", s.gap_rl.mean, " after RL");
    if (!Above(s.gap_sft)) {
      Say(gaps, ". SFT left no clear gap, so there is nothing for RL to recover in this setting.");
    } else if (Above(s.gap_reduction)) {
      const double share = s.recovery.mean;
      const char* amount = share >= 1     ? "all"
                           : share >= 0.9 ? "nearly all"
                           : share >= 0.5 ? "most"
                                          : "part, less than half,";
      Say(gaps, ": RL recovered ", amount, " of it, ", s.recovery, ".");
    } else if (Below(s.gap_reduction)) {
      Say(gaps, ": RL did not recover accuracy, it widened the gap.");
    } else {
      Say(gaps, ": RL did not clearly recover any of it (reduction ", s.gap_reduction, ").");
    }
  }

  // Accuracy is placement (traces that keep what they need in reach) times competence (accuracy on those), and a
  // little.
  void TellPlacement() {
    const ArmMeans *sft = Find("swa_sft"), *more = Find("swa_sft_more"), *rl = Find("swa_rl");
    if (!sft || !rl) return;
    const auto from_to = [&](const auto& of) {
      return Sentence(" goes from ", of(*sft), " after SFT", more ? Sentence(" (", of(*more), " with more of it)") : "",
                      " to ", of(*rl), " after RL");
    };
    const Estimate& change = summary_.placement_change;
    Say("Placement: g, the share of SWA's traces that keep what they need in reach,",
        from_to([](const ArmMeans& m) { return m.in_reach; }), ", ",
        Above(change)   ? "up by RL ("
        : Below(change) ? "down by RL ("
                        : "no clear change by RL (",
        Signed(change), "). Competence: the accuracy on those traces",
        from_to([](const ArmMeans& m) { return AccuracyOf(m.within); }), ".");
  }

  void TellBound() {
    bool bounded = false, above = false;
    for (const ArmMeans& m : arms_) {
      bounded |= std::isfinite(m.reach_bound);
      if (!AboveReachBound(m)) continue;
      above = true;
      Say("Above the reach bound, which its own traces set: ", Phrase(m), ", ", Accuracy(m), " against ", m.reach_bound,
          m.accuracy_ci95.low > m.reach_bound ? ", clearly." : ", not clearly.");
    }
    if (bounded && !above) Say("No SWA arm is above the reach bound that its own traces set.");
  }

  void TellInference() {
    std::string arms;
    for (const ArmMeans& m : arms_) {
      const Estimate beyond = AccuracyOf(m.beyond);
      const double guess = (m.reach_bound - m.in_reach) / (1 - m.in_reach);  // its worth after those traces
      if (!std::isfinite(m.reach_bound) || !(beyond.ci95.low > guess)) continue;
      arms += Sentence(arms.empty() ? "" : "; ", Phrase(m), " ", beyond, " against ", guess);
    }
    if (arms.empty()) return;
    Say("On traces out of reach these arms do better than a guess, so they infer what is lost or carry it in another "
        "form: ",
        arms, ".");
  }

  void TellRestatements() {
    std::string changes;
    for (const auto& [name, id] : {std::pair{"SWA", "swa"}, std::pair{"SA", "sa"}}) {
      const ArmMeans *sft = Find(Concat(id, "_sft")), *rl = Find(Concat(id, "_rl"));
      if (!sft || !rl) continue;
      changes +=
          (changes.empty() ? "By RL " : ", ") + RateChange(name, results_.task.view().step, sft->Mechanism(kRepeatRate),
                                                           rl->Mechanism(kRepeatRate), SeedsAgree(sft->arm, rl->arm));
    }
    if (!changes.empty()) Say(changes, ".");
  }

  // Whether the rate of repeating goes the same way from one arm to the other with every seed.
  bool SeedsAgree(const std::string& from, const std::string& to) const {
    bool up = false, down = false;
    for (const ArmRun& a : results_.runs) {
      for (const ArmRun& b : results_.runs) {
        if (a.arm != from || b.arm != to || a.seed != b.seed) continue;
        (b.Mechanism(kRepeatRate) > a.Mechanism(kRepeatRate) ? up : down) = true;
      }
    }
    return !(up && down);
  }

  void TellDistances() {
    const ArmMeans *sft = Find("swa_sft"), *rl = Find("swa_rl");
    if (!sft || !rl) return;
    const auto change = [&](double before, double after, int decimals) {
      return Concat(FormatNumber(before, decimals), " to ", FormatNumber(after, decimals));
    };
    Say("Under SWA the share of needed facts inside the window goes from ",
        change(sft->Mechanism(kInWindow), rl->Mechanism(kInWindow), 3), ", the distance to a needed fact from ",
        change(sft->Mechanism(kDistance), rl->Mechanism(kDistance), 1), " tokens, the length of an answer from ",
        change(sft->mean_length, rl->mean_length, 1), ".");
  }

  void TellSaturation() {
    for (const char* arm : {"sa_sft", "sa_rl"}) {
      const ArmMeans* sa = Find(arm);
      if (!sa || sa->accuracy < kSaturated) continue;
      return Say("SA is at its ceiling here (", Phrase(*sa), ": ", sa->accuracy,
                 "): it has no room to gain, so part of a shrinking gap may be due to that.");
    }
  }

  const StudyResults& results_;
  const StudySummary& summary_;
  const std::vector<ArmMeans> arms_;
  std::vector<std::string> sentences_;
};

}  // namespace

std::vector<std::string> Findings(const StudyResults& results) { return Story(results).Tell(); }

}  // namespace swarr
