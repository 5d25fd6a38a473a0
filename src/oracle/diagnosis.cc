// SPDX-License-Identifier: Apache-2.0
#include "oracle/diagnosis.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "oracle/hints.h"

namespace swarr::oracle {
namespace {

bool IsComplete(const Explanation& e) { return e.unexplained.empty() && e.contradicted == 0; }

// The search for what explains the failing cases of one family.
class Search {
 public:
  Search(Expectations& expectations, const Candidate& candidate, const Family& family, const CaseVerdicts& failing,
         const CaseVerdicts& passing)
      : expectations_(expectations), candidate_(candidate), family_(family), failing_(failing), passing_(passing) {
    const auto size = [](const CaseVerdict* c) {
      std::int64_t numbers = 0;
      for (const auto& item : c->c->inputs) numbers += item.second.size();
      return numbers;
    };
    small_first_ = failing;
    std::ranges::stable_sort(small_first_, {}, size);
  }

  // Each that explains everything and contradicts nothing. Most mistakes are refuted by one case, so that this costs
  // little beside counting all that they explain.
  std::vector<Explanation> Complete() const {
    std::vector<Explanation> found;
    for (const std::string& mistake : Known()) {
      if (MatchesAll(small_first_, mistake) && MatchesAll(passing_, mistake)) {
        found.push_back({.mistakes = {mistake}, .explained = failing_.size()});
      }
    }
    return found;
  }

  // Those, or else each that explains a failing case, the best first.
  std::vector<Explanation> BySingles() const {
    std::vector<Explanation> found = Complete();
    if (!found.empty()) return found;
    for (const std::string& mistake : Known()) {
      const Explanation e = Explain(mistake);
      if (e.explained > 0) found.push_back(e);
    }
    // explained - contradicted, without a sign that could be lost
    std::ranges::stable_sort(found, [](const Explanation& a, const Explanation& b) {
      return a.explained + b.contradicted > b.explained + a.contradicted;
    });
    return found;
  }

  // Several mistakes, in the header's order. Those in cases of their own may contradict passing cases.
  std::optional<Explanation> BySeveral(const std::vector<Explanation>& singles) const {
    std::vector<std::string> likely;
    for (const Explanation& e : singles) likely.push_back(e.mistakes.front());
    const auto first = [&](std::size_t count) {
      return std::vector<std::string>(likely.begin(),
                                      likely.begin() + std::min(std::ssize(likely), std::ptrdiff_t(count)));
    };
    // Few mistakes make few pairs: then one need not show itself alone.
    constexpr std::size_t kFew = 20, kOfTwo = 12, kOfThree = 4;
    const std::vector<std::string> known = Known();
    if (auto two = AtOnceFrom(likely.empty() && known.size() <= kFew ? known : first(kOfTwo), 2)) return two;
    if (auto two = InOwnCases(singles, 2); two && IsComplete(*two)) return two;
    if (auto three = AtOnceFrom(first(kOfThree), 3)) return three;
    return InOwnCases(singles, kMostInOwnCases);
  }

 private:
  // Those that are no accepted conventions.
  std::vector<std::string> Known() const {
    std::vector<std::string> known = family_.mistakes;
    std::erase_if(known, [&](const std::string& m) { return std::ranges::count(expectations_.accepted(), m) > 0; });
    return known;
  }

  // Whether two mistakes give the same results in a case. Most change nothing in most cases.
  bool SameResults(const CaseVerdict& verdict, const std::string& a, const std::string& b) const {
    const Values& other = expectations_.Outputs(family_, *verdict.c, b);
    return std::ranges::all_of(expectations_.Outputs(family_, *verdict.c, a),
                               [&](const auto& item) { return Distance(item.second, other.at(item.first)) == 0; });
  }

  bool Matches(const CaseVerdict& verdict, const std::string& mistake) const {
    const auto [known, is_new] = matches_.try_emplace({&verdict, mistake}, false);
    if (is_new) known->second = Compare(verdict, mistake);
    return known->second;
  }

  bool Compare(const CaseVerdict& verdict, const std::string& mistake) const {
    if (SameResults(verdict, mistake, kNoMistake)) return !verdict.wrong();
    const Values& mistaken = expectations_.Outputs(family_, *verdict.c, mistake);
    return std::ranges::all_of(verdict.tensors, [&](const TensorVerdict& t) {
      if (t.finding == Finding::kMissing || t.finding == Finding::kUnusable) return true;
      const CandidateTensor& given = candidate_.at(verdict.c->name + "." + t.tensor);
      const Value& expected = mistaken.at(t.tensor);
      const double error =
          given.stored == "F16" ? Distance(given.value, OverflownInF16(expected)) : Distance(given.value, expected);
      if (error == 0 || expected.integer) return error == 0;
      return expectations_.Tolerates(error, family_, *verdict.c, mistake, t.tensor, *t.precision);
    });
  }

  bool MatchesAll(const CaseVerdicts& cases, const std::string& mistake) const {
    return std::ranges::all_of(cases, [&](const CaseVerdict* c) { return Matches(*c, mistake); });
  }

  Explanation Explain(const std::string& mistake) const {
    const auto matches = [&](const CaseVerdict* c) { return Matches(*c, mistake); };
    Explanation e{{mistake}};
    for (const CaseVerdict* c : failing_) {
      if (!matches(c)) e.unexplained.push_back(c->c->name);
    }
    e.explained = failing_.size() - e.unexplained.size();
    // Where nothing is explained, what is contradicted is of no interest.
    if (e.explained > 0) {
      e.contradicted = passing_.size() - static_cast<std::size_t>(std::ranges::count_if(passing_, matches));
    }
    return e;
  }

  // The failing cases that a mistake explains by itself.
  std::vector<std::string> ExplainedBy(const std::string& mistake) const {
    std::vector<std::string> names;
    for (const CaseVerdict* c : failing_) {
      if (Matches(*c, mistake)) names.push_back(c->c->name);
    }
    return names;
  }

  // --- mistakes at once ---

  // The failing cases, those first that the mistake does not explain alone: most that is tried beside it fails there.
  CaseVerdicts UnexplainedFirst(const std::string& mistake) const {
    CaseVerdicts cases = small_first_;
    std::stable_partition(cases.begin(), cases.end(), [&](const CaseVerdict* c) { return !Matches(*c, mistake); });
    return cases;
  }

  std::optional<Explanation> AtOnce(const CaseVerdicts& cases, const std::vector<std::string>& mistakes) const {
    const std::string all = Together(mistakes);
    if (!MatchesAll(cases, all) || !MatchesAll(passing_, all)) return std::nullopt;
    Explanation e{.mistakes = mistakes, .explained = failing_.size()};
    for (const std::string& mistake : mistakes) e.alone.push_back(ExplainedBy(mistake));
    return e;
  }

  // Whether `more`, mistakes beside those of `made`, explains a case that `made` does not, and loses none. The smallest
  // cases are asked alone.
  bool ShowsMore(const CaseVerdicts& unexplained_first, const std::string& made, const std::string& more) const {
    constexpr std::size_t kAsked = 8;
    const std::size_t asked = std::min(unexplained_first.size(), kAsked);
    const auto is_new = [&](const CaseVerdict* c) { return Matches(*c, more) && !Matches(*c, made); };
    const auto is_kept = [&](const CaseVerdict* c) { return Matches(*c, more) || !Matches(*c, made); };
    return std::any_of(unexplained_first.begin(), unexplained_first.begin() + static_cast<std::ptrdiff_t>(asked),
                       is_new) &&
           std::ranges::all_of(unexplained_first, is_kept) && MatchesAll(passing_, more);
  }

  // Adds `count` mistakes to those made, so that all at once explain everything. Each but the last must show itself in
  // a case where the later ones change nothing.
  std::optional<Explanation> Grow(const std::vector<std::string>& made, std::size_t count) const {
    const std::string before = Together(made);
    const CaseVerdicts cases = UnexplainedFirst(before);
    for (const std::string& mistake : Known()) {
      if (std::ranges::count(made, mistake) > 0) continue;
      const std::vector<std::string> next = Joined(made, {mistake});
      // In the first of the cases those made before do not do.
      if (count == 1 && SameResults(*cases.front(), Together(next), before)) continue;
      if (count > 1 && !ShowsMore(cases, before, Together(next))) continue;
      if (auto e = count == 1 ? AtOnce(cases, next) : Grow(next, count - 1)) return e;
    }
    return std::nullopt;
  }

  std::optional<Explanation> AtOnceFrom(const std::vector<std::string>& likely, std::size_t count) const {
    for (const std::string& first : likely) {
      if (auto e = Grow({first}, count - 1)) return e;
    }
    return std::nullopt;
  }

  // --- mistakes in cases of their own ---

  static bool Explains(const Explanation& single, const CaseVerdict* c) {
    return std::ranges::count(single.unexplained, c->c->name) == 0;
  }

  // Adds the fewest of the singles to `chosen`, `most` at most, that explain the cases that it leaves. False where none
  // do.
  bool Cover(const std::vector<Explanation>& singles, std::size_t most, std::vector<const Explanation*>& chosen) const {
    const auto left = std::ranges::find_if(failing_, [&](const CaseVerdict* c) {
      return std::ranges::none_of(chosen, [&](const Explanation* e) { return Explains(*e, c); });
    });
    if (left == failing_.end()) return true;
    for (const Explanation& e : singles) {
      if (most == 0 || !Explains(e, *left)) continue;
      chosen.push_back(&e);
      if (Cover(singles, most - 1, chosen)) return true;
      chosen.pop_back();
    }
    return false;
  }

  std::optional<Explanation> InOwnCases(const std::vector<Explanation>& singles, std::size_t most) const {
    std::vector<const Explanation*> chosen;
    for (std::size_t count = 2; count <= most && chosen.empty(); ++count) Cover(singles, count, chosen);
    // A mistake for every case explains nothing.
    if (chosen.size() < 2 || chosen.size() >= failing_.size()) return std::nullopt;
    Explanation several{.mistakes = {}, .at_once = false, .explained = failing_.size()};
    for (const Explanation* e : chosen) {
      several.mistakes.push_back(e->mistakes.front());
      several.alone.push_back(ExplainedBy(e->mistakes.front()));
    }
    const auto speaks_against = [&](const CaseVerdict* c) {
      return !std::ranges::all_of(several.mistakes, [&](const std::string& m) { return Matches(*c, m); });
    };
    several.contradicted = static_cast<std::size_t>(std::ranges::count_if(passing_, speaks_against));
    return several;
  }

  Expectations& expectations_;
  const Candidate& candidate_;
  const Family& family_;
  const CaseVerdicts &failing_, &passing_;
  CaseVerdicts small_first_;  // the failing cases, those first that cost least
  mutable std::map<std::pair<const CaseVerdict*, std::string>, bool> matches_;
};

struct Split {
  CaseVerdicts failing, passing;
};

Split SplitOf(const std::vector<CaseVerdict>& cases) {
  Split split;
  for (const CaseVerdict& c : cases) {
    if (c.wrong()) split.failing.push_back(&c);
    if (c.passes()) split.passing.push_back(&c);
  }
  return split;
}

// --- a coarser dtype ---

// The cases as they would be judged, had what is finer been stored in this dtype.
std::vector<CaseVerdict> JudgedIn(const Precision& precision, Expectations& expectations,
                                  std::vector<CaseVerdict> cases) {
  for (CaseVerdict& c : cases) {
    for (TensorVerdict& t : c.tensors) {
      if (!t.precision || t.precision->u >= precision.u) continue;
      t.precision = &precision;
      t.tolerance = expectations.Tolerance(*c.family, *c.c, "", t.tensor, precision);
      if (t.finding == Finding::kWrong && t.error <= t.tolerance) t.finding = Finding::kPass;
    }
  }
  return cases;
}

// The dtypes coarser than that of every failing case, from fine to coarse. Results computed in one of them fail nearly
// everywhere in a finer one. There are none where most cases pass: errors in a few come from something else.
std::vector<const Precision*> CoarserThanStored(const Split& split) {
  std::vector<const Precision*> coarser;
  if (split.failing.size() <= split.passing.size()) return coarser;
  for (const Precision& precision : kPrecisions) {
    const auto is_finer = [&](const CaseVerdict* c) { return c->precision() && c->precision()->u < precision.u; };
    if (std::ranges::all_of(split.failing, is_finer)) coarser.push_back(&precision);
  }
  return coarser;
}

// A sentence on the first dtype in whose tolerance everything is, or else on the first in whose tolerance a mistake
// explains everything that is not; empty if there is neither.
std::string CoarserHint(Expectations& expectations, const Candidate& candidate, const std::vector<CaseVerdict>& cases) {
  const std::vector<const Precision*> coarser = CoarserThanStored(SplitOf(cases));
  const auto within = [](const Precision& p) {
    return Concat(" within the tolerance of ", p.name, ": if that is what you computed in, store ", p.stored);
  };
  for (const Precision* precision : coarser) {
    if (SplitOf(JudgedIn(*precision, expectations, cases)).failing.empty()) return "all is" + within(*precision);
  }
  // Whoever makes a mistake in a coarser dtype has values that show the dtype.
  if (AreGradientsAloneWrong(SplitOf(cases).failing)) return "";
  for (const Precision* precision : coarser) {
    const std::vector<CaseVerdict> judged = JudgedIn(*precision, expectations, cases);
    const Split split = SplitOf(judged);
    const Search search(expectations, candidate, *cases.front().family, split.failing, split.passing);
    const std::vector<Explanation> found = search.Complete();
    if (!found.empty()) return NamesOf(found) + (found.size() == 1 ? " gives" : " give") + " them" + within(*precision);
  }
  return "";
}

// --- a family ---

// Takes what is not finite where numbers are expected, or the other way round, for something that can't be compared.
// Returns these tensors' full names.
std::vector<std::string> PassOverWhatIsNotFinite(std::vector<CaseVerdict>& cases) {
  std::vector<std::string> names;
  for (CaseVerdict& c : cases) {
    for (TensorVerdict& t : c.tensors) {
      if (t.finding != Finding::kWrong || std::isfinite(t.error)) continue;
      t.finding = Finding::kUnusable;
      names.push_back(c.c->name + "." + t.tensor);
    }
  }
  return names;
}

Diagnosis DiagnoseCases(Expectations& expectations, const Candidate& candidate, const std::vector<CaseVerdict>& cases) {
  const auto [failing, passing] = SplitOf(cases);
  const Family& family = *cases.front().family;
  const Search search(expectations, candidate, family, failing, passing);
  Diagnosis diagnosis{family.name, failing.size(), search.BySingles(), {}};
  std::vector<Explanation>& found = diagnosis.explanations;
  if (diagnosis.complete()) return diagnosis;
  if (const auto several = search.BySeveral(found)) {
    if (IsComplete(*several)) found.clear();
    found.insert(found.begin(), *several);
  }
  if (diagnosis.complete()) return diagnosis;
  constexpr std::size_t kShown = 3;
  found.resize(std::min(found.size(), kShown));
  const std::string coarser = CoarserHint(expectations, candidate, cases);
  if (coarser.empty()) {
    diagnosis.hints = HintsOf(failing, passing);
  } else {
    // Mistakes that come near in a dtype that is not the candidate's say nothing beside it.
    found.clear();
    diagnosis.hints = {coarser};
    if (AreGradientsAloneWrong(failing)) diagnosis.hints.emplace_back(kGradientsAloneAreWrong);
  }
  return diagnosis;
}

// A mistake may give what is not finite, and is named by it. If none explains it, it is passed over, for the rest not
// to be hidden by it.
Diagnosis DiagnoseFamily(Expectations& expectations, const Candidate& candidate, std::vector<CaseVerdict> cases) {
  Diagnosis all = DiagnoseCases(expectations, candidate, cases);
  if (all.complete()) return all;
  const std::vector<std::string> passed_over = PassOverWhatIsNotFinite(cases);
  if (passed_over.empty() || SplitOf(cases).failing.empty()) return all;
  Diagnosis rest = DiagnoseCases(expectations, candidate, cases);
  rest.hints.push_back("passed over, for it is not finite: " + Some(passed_over, 3));
  return rest;
}

}  // namespace

bool Diagnosis::complete() const { return !explanations.empty() && IsComplete(explanations.front()); }

std::string NameOf(const Explanation& explanation) {
  std::string text;
  for (const std::string& mistake : explanation.mistakes) {
    const bool first = text.empty();
    if (explanation.at_once) text += Concat(first ? "" : " together with ", '"', mistake, '"');
    if (!explanation.at_once) {
      text += Concat(first ? "" : ", ", '"', mistake, first ? "\" in some cases" : "\" in others");
    }
  }
  return text;
}

std::string NamesOf(const std::vector<Explanation>& explanations) {
  std::string text;
  for (const Explanation& e : explanations) text += (text.empty() ? "" : ", or ") + NameOf(e);
  return text;
}

std::vector<Diagnosis> Diagnose(Expectations& expectations, const Candidate& candidate, const Verdict& verdict) {
  std::vector<Diagnosis> diagnoses;
  for (const Family& family : expectations.suite().families) {
    std::vector<CaseVerdict> cases = verdict.cases;
    std::erase_if(cases, [&](const CaseVerdict& c) { return c.family != &family; });
    if (SplitOf(cases).failing.empty()) continue;
    diagnoses.push_back(DiagnoseFamily(expectations, candidate, std::move(cases)));
  }
  return diagnoses;
}

}  // namespace swarr::oracle
