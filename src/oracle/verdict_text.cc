// SPDX-License-Identifier: Apache-2.0
#include "oracle/verdict_text.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <sstream>

namespace swarr::oracle {
namespace {

using nlohmann::ordered_json;

constexpr std::size_t kRows = 20, kNames = 5;

double Excess(const TensorVerdict& t) { return t.tolerance > 0 ? t.error / t.tolerance : t.error > 0 ? HUGE_VAL : 0; }

std::string Scientific(double x) {
  std::ostringstream out;
  out << std::scientific << std::setprecision(1) << x;
  return out.str();
}

// One line: the worst tensor that could be compared, or else what is wrong with those that could not.
std::string RowOf(const CaseVerdict& verdict) {
  const auto worst =
      std::max_element(verdict.tensors.begin(), verdict.tensors.end(),
                       [](const TensorVerdict& a, const TensorVerdict& b) { return Excess(a) < Excess(b); });
  std::ostringstream row;
  row << "  " << std::left << std::setw(24) << verdict.c->name << ' ';
  if (worst->finding == Finding::kWrong) {
    row << std::setw(8) << worst->tensor << " error " << Scientific(worst->error) << ", tolerance "
        << Scientific(worst->tolerance);
    if (verdict.precision) row << " (" << verdict.precision->name << ")";
  }
  std::string separator = worst->finding == Finding::kWrong ? "; " : "";
  for (const TensorVerdict& t : verdict.tensors) {
    if (t.finding != Finding::kMissing && t.finding != Finding::kUnusable) continue;
    row << separator << t.tensor << ": " << t.problem;
    separator = "; ";
  }
  return row.str();
}

// "a, b, c and 4 more"
std::string Some(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kNames); ++i) text += (i == 0 ? "" : ", ") + names[i];
  return names.size() > kNames ? Concat(text, " and ", names.size() - kNames, " more") : text;
}

void Write(std::ostream& out, const Diagnosis& d) {
  out << "  " << d.family << ": ";
  const std::string of = Concat(" of ", d.failing, " failing cases");
  if (d.complete()) {
    out << "matches ";
    for (std::size_t i = 0; i < d.explanations.size(); ++i) out << (i == 0 ? "" : ", or ") << d.explanations[i].mistake;
    out << ": " << d.failing << of << '\n';
  } else if (d.explanations.empty()) {
    out << "no known mistake gives these results (" << d.failing << " failing cases)\n";
  } else {
    out << "no known mistake explains everything; the nearest\n";
    for (const Explanation& e : d.explanations) {
      out << "    " << e.mistake << ": " << e.explained << of;
      if (e.contradicted > 0) out << ", but " << e.contradicted << " passing cases speak against it";
      out << '\n';
    }
  }
  for (const std::string& hint : d.hints) out << "    " << hint << '\n';
}

std::string Conclusion(const Verdict& verdict, bool forward_only) {
  const std::size_t cases = verdict.cases.size(), failures = verdict.failures();
  std::string text =
      failures > 0 ? Concat(failures, " of ", cases, " cases fail") : Concat("all ", cases, " cases pass");
  if (verdict.values_alone) text += "; gradients were not judged";
  if (verdict.values_alone && !forward_only) text += ", for there are none (--forward-only accepts that)";
  return text;
}

ordered_json TensorEntry(const TensorVerdict& t) {
  if (t.finding != Finding::kWrong) return {{"tensor", t.tensor}, {"problem", t.problem}};
  return {{"tensor", t.tensor},
          {"error", std::isfinite(t.error) ? ordered_json(t.error) : nullptr},
          {"tolerance", t.tolerance}};
}

ordered_json CaseEntry(const CaseVerdict& verdict) {
  ordered_json entry = {{"case", verdict.c->name},
                        {"dtype", verdict.precision ? ordered_json(verdict.precision->name) : nullptr},
                        {"tensors", ordered_json::array()}};
  for (const TensorVerdict& t : verdict.tensors) {
    if (t.finding != Finding::kPass) entry["tensors"].push_back(TensorEntry(t));
  }
  return entry;
}

ordered_json DiagnosisEntry(const Diagnosis& d) {
  ordered_json entry = {{"family", d.family},
                        {"failing", d.failing},
                        {"complete", d.complete()},
                        {"explanations", ordered_json::array()},
                        {"hints", d.hints}};
  for (const Explanation& e : d.explanations) {
    entry["explanations"].push_back(
        {{"mistake", e.mistake}, {"explained", e.explained}, {"contradicted", e.contradicted}});
  }
  return entry;
}

}  // namespace

bool Accepted(const Verdict& verdict, bool forward_only) {
  return verdict.failures() == 0 && (forward_only || !verdict.values_alone);
}

std::string Text(const Verdict& verdict, const std::vector<Diagnosis>& diagnoses, bool forward_only) {
  std::ostringstream out;
  if (verdict.failures() > 0) out << "failing cases\n";
  std::size_t shown = 0;
  for (const CaseVerdict& c : verdict.cases) {
    if (!c.passes() && shown++ < kRows) out << RowOf(c) << '\n';
  }
  if (shown > kRows) out << "  and " << shown - kRows << " more\n";
  if (!diagnoses.empty()) out << "diagnosis\n";
  for (const Diagnosis& d : diagnoses) Write(out, d);
  if (!verdict.unknown.empty()) out << "not of this suite: " << Some(verdict.unknown) << '\n';
  out << "suite " << verdict.suite << ": " << Conclusion(verdict, forward_only) << '\n';
  return out.str();
}

ordered_json ToJson(const Verdict& verdict, const std::vector<Diagnosis>& diagnoses, bool forward_only) {
  ordered_json json = {{"suite", verdict.suite},
                       {"accepted", Accepted(verdict, forward_only)},
                       {"values_alone", verdict.values_alone},
                       {"cases", verdict.cases.size()},
                       {"failing", ordered_json::array()},
                       {"diagnosis", ordered_json::array()},
                       {"unknown", verdict.unknown}};
  for (const CaseVerdict& c : verdict.cases) {
    if (!c.passes()) json["failing"].push_back(CaseEntry(c));
  }
  for (const Diagnosis& d : diagnoses) json["diagnosis"].push_back(DiagnosisEntry(d));
  return json;
}

}  // namespace swarr::oracle
