// SPDX-License-Identifier: Apache-2.0
#include "oracle/verdict_text.h"

#include <algorithm>
#include <iomanip>
#include <set>
#include <sstream>

namespace swarr::oracle {
namespace {

using nlohmann::ordered_json;

constexpr std::size_t kRows = 20, kShownNames = 5;

std::string Scientific(double x) {
  std::ostringstream out;
  out << std::scientific << std::setprecision(1) << x;
  return out.str();
}

// "1 failing case", "25 failing cases".
std::string Counted(std::size_t n, const char* which) { return Concat(n, ' ', which, n == 1 ? " case" : " cases"); }

// What has a problem or fails in the same way stands together, in the order of its first.
using Groups = std::vector<std::pair<std::string, std::vector<std::string>>>;

void Add(Groups& groups, const std::string& common, const std::string& member) {
  auto known = std::ranges::find(groups, common, &Groups::value_type::first);
  if (known == groups.end()) known = groups.insert(known, {common, {}});
  known->second.push_back(member);
}

// The first output with a wrong number, in the family's order with values before gradients: later outputs follow from
// it and say little about where the mistake is. Then the problems, each once, with the tensors that have it.
std::string FailureOf(const CaseVerdict& verdict) {
  std::ostringstream text;
  const auto first = std::ranges::find_if(
      verdict.tensors, [](const TensorVerdict& t) { return t.finding == Finding::kWrong && t.problem.empty(); });
  if (first != verdict.tensors.end()) {
    text << std::left << std::setw(8) << first->tensor << " error " << Scientific(first->error) << ", tolerance "
         << Scientific(first->tolerance) << " (" << first->precision->name << ")";
  }
  Groups problems;
  for (const TensorVerdict& t : verdict.tensors) {
    if (!t.problem.empty()) Add(problems, t.problem, t.tensor);
  }
  constexpr std::size_t kProblems = 3;
  for (std::size_t i = 0; i < std::min(problems.size(), kProblems); ++i) {
    text << (text.tellp() > 0 ? "; " : "") << Some(problems[i].second, kShownNames) << ": " << problems[i].first;
  }
  if (problems.size() > kProblems) text << "; and " << problems.size() - kProblems << " more";
  return text.str();
}

// One row for each failing case. Cases that fail in the same way share a row, with a count.
void WriteFailures(std::ostream& out, const Verdict& verdict) {
  Groups rows;
  for (const CaseVerdict& c : verdict.cases) {
    if (!c.passes()) Add(rows, FailureOf(c), c.c->name);
  }
  std::size_t rest = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto& [failure, names] = rows[i];
    if (i >= kRows) {
      rest += names.size();
      continue;
    }
    out << "  " << std::left << std::setw(24) << Some(names, 1) << ' ' << failure << '\n';
  }
  if (rest > 0) out << "  and " << rest << " more\n";
}

// Which of several mistakes explains which cases.
void WriteShares(std::ostream& out, const Explanation& e) {
  std::set<std::string> alone;
  for (std::size_t i = 0; i < e.alone.size(); ++i) {
    out << "    \"" << e.mistakes[i] << "\" alone: " << e.alone[i].size();
    if (!e.alone[i].empty()) out << " (" << Some(e.alone[i], 3) << ")";
    out << '\n';
    alone.insert(e.alone[i].begin(), e.alone[i].end());
  }
  if (!e.alone.empty() && e.explained > alone.size()) {
    out << "    only together: " << e.explained - alone.size() << '\n';
  }
}

void WriteNearest(std::ostream& out, const Explanation& e, const std::string& of) {
  out << "    " << NameOf(e) << ": " << e.explained << of;
  // Where a mistake explains little, a list of all the rest says nothing.
  if (!e.unexplained.empty() && e.unexplained.size() < e.explained) out << ", not " << Some(e.unexplained, 3);
  if (e.contradicted > 0) {
    out << ", but " << Counted(e.contradicted, "passing") << (e.contradicted == 1 ? " speaks" : " speak")
        << " against it";
  }
  out << '\n';
  WriteShares(out, e);
}

void Write(std::ostream& out, const Diagnosis& d) {
  out << "  " << d.family << ": ";
  const std::string of = " of " + Counted(d.failing, "failing");
  if (d.complete()) {
    const bool is_one = d.explanations.size() == 1 && d.explanations[0].mistakes.size() == 1;
    out << "matches " << (is_one ? d.explanations[0].mistakes[0] : NamesOf(d.explanations)) << ": " << d.failing << of
        << '\n';
    WriteShares(out, d.explanations.front());
  } else if (d.explanations.empty()) {
    out << "no known mistake gives these results (" << Counted(d.failing, "failing") << ")\n";
  } else {
    out << "no known mistake explains everything; the nearest\n";
    for (const Explanation& e : d.explanations) WriteNearest(out, e, of);
  }
  for (const std::string& hint : d.hints) out << "    " << hint << '\n';
}

// {"f32": 36, "bf16": 2}: in how many cases a dtype was the coarsest that something was judged in.
ordered_json DtypeCounts(const Verdict& verdict) {
  ordered_json counts = ordered_json::object();
  for (const Precision& precision : kPrecisions) {
    const auto judged_in = [&](const CaseVerdict& c) { return c.precision() == &precision; };
    const auto count = std::ranges::count_if(verdict.cases, judged_in);
    if (count > 0) counts[std::string(precision.name)] = count;
  }
  return counts;
}

// "in f32", "36 in f32, 2 in bf16"; empty if nothing was.
std::string Dtypes(const Verdict& verdict) {
  const ordered_json counts = DtypeCounts(verdict);
  if (counts.size() == 1) return "in " + counts.begin().key();
  std::string text;
  for (const auto& [name, count] : counts.items()) text += Concat(text.empty() ? "" : ", ", count.dump(), " in ", name);
  return text;
}

std::string Conclusion(const Verdict& verdict, bool forward_only) {
  const std::size_t cases = verdict.cases.size(), failures = verdict.failures();
  const std::string dtypes = Dtypes(verdict);
  std::string text = Concat("all ", cases, " cases pass");
  if (failures > 0) text = Concat(failures, " of ", cases, " cases ", failures == 1 ? "fails" : "fail");
  if (!dtypes.empty()) text += ", judged " + dtypes;
  if (cases < verdict.suite_cases) {
    text += Concat("; ", cases, " of the suite's ", verdict.suite_cases, " were asked for");
  }
  if (!verdict.outputs.empty()) text += "; of the outputs only " + Some(verdict.outputs, verdict.outputs.size());
  for (const std::string& name : verdict.accepted) text += "; accepted: " + name;
  if (!verdict.accepted.empty()) text += Concat(" (", verdict.bent, " cases differ by it)");
  if (verdict.values_alone) text += "; gradients were not judged";
  if (verdict.values_alone && !forward_only) text += ", for there are none (--forward-only accepts that)";
  return text;
}

// Where outputs are in no case, says so and how to judge the others alone; else, or if there are no others, empty.
std::string NeverGiven(const Verdict& verdict) {
  std::vector<std::string> given, never;
  bool is_right = true;  // what was given
  for (const CaseVerdict& c : verdict.cases) {
    for (const TensorVerdict& t : c.tensors) {
      const bool missing = t.finding == Finding::kMissing;
      std::vector<std::string>& names = missing ? never : given;
      if (std::ranges::count(names, t.tensor) == 0) names.push_back(t.tensor);
      is_right = is_right && (missing || t.finding == Finding::kPass);
    }
  }
  std::erase_if(never, [&](const std::string& name) { return std::ranges::count(given, name) > 0; });
  if (never.empty() || given.empty()) return "";
  std::string flag = "--outputs ";
  for (const std::string& name : given) flag += (&name == &given.front() ? "" : ",") + name;
  return Concat("no case has ", Some(never, never.size()), is_right ? ", and all else is right" : "",
                "; hand it in, or judge what there is: ", flag, "\n");
}

ordered_json TensorEntry(const TensorVerdict& t) {
  if (!t.problem.empty()) return {{"tensor", t.tensor}, {"problem", t.problem}};
  return {{"tensor", t.tensor}, {"dtype", t.precision->name}, {"error", t.error}, {"tolerance", t.tolerance}};
}

ordered_json CaseEntry(const CaseVerdict& verdict) {
  ordered_json entry = {{"case", verdict.c->name},
                        {"dtype", verdict.precision() ? ordered_json(verdict.precision()->name) : nullptr},
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
    entry["explanations"].push_back({{"mistakes", e.mistakes},
                                     {"at_once", e.at_once},
                                     {"alone", e.alone},
                                     {"explained", e.explained},
                                     {"contradicted", e.contradicted},
                                     {"unexplained", e.unexplained}});
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
  WriteFailures(out, verdict);
  if (!diagnoses.empty()) out << "diagnosis\n";
  for (const Diagnosis& d : diagnoses) Write(out, d);
  if (!verdict.unknown.empty()) out << "not of this suite: " << Some(verdict.unknown, kShownNames) << '\n';
  out << NeverGiven(verdict) << "suite " << verdict.suite << ": " << Conclusion(verdict, forward_only) << '\n';
  return out.str();
}

ordered_json ToJson(const Verdict& verdict, const std::vector<Diagnosis>& diagnoses, bool forward_only) {
  ordered_json json = {{"suite", verdict.suite},
                       {"accepted", Accepted(verdict, forward_only)},
                       {"values_alone", verdict.values_alone},
                       {"cases", verdict.cases.size()},
                       {"suite_cases", verdict.suite_cases},
                       {"outputs", verdict.outputs},
                       {"accepted_mistakes", verdict.accepted},
                       {"bent_cases", verdict.bent},
                       {"dtypes", DtypeCounts(verdict)},
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
