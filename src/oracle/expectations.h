// SPDX-License-Identifier: Apache-2.0
// What a right candidate, or one with a known mistake, must give, and how near it must come.
//
// The tolerance of an output f of a case in a dtype of unit roundoff u (half the spacing of numbers at 1):
//
//   tolerance = (K + n) * S(u) + max(u * max |f|, least)
//
//   S(u) = max |f~ - f| over the output's elements and kPatterns evaluations f~ in f64, in which every element of the
//          inputs, and of the intermediate results that the evaluator has in hand, is multiplied by 1 + u or 1 - u at
//          random. It is what rounding everything once to the dtype costs, however exactly one computes.
//   K      1 + the roundings that a plain implementation makes on the way (Family::roundings); each may cost as much.
//   n      terms of the longest sum (Case::longest_sum), in f32 and f64: adding n numbers one by one errs by up to
//          n - 1 roundings of the sum (Higham, Accuracy and Stability of Numerical Algorithms, 4.2). In bf16 and f16 it
//          is 0: nobody adds up in these, and in f32 the n roundings are 2^-13 and less of one of theirs.
//   u max |f|  the rounding of the result itself.
//   least  half the spacing of the dtype's smallest numbers, 2^-25 in f16: numbers below 2^-14 have no smaller one
//   there,
//          and S is measured with it. f32, f64 and bf16 reach down to 2^-126, below anything that is judged here: 0.
//
// S grows in proportion to u. That of f64 is too small to be measured in f64, and is taken as that of f32 times 2^-29.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <tuple>

#include "oracle/suite.h"

namespace swarr::oracle {

// A floating dtype that candidates come in.
struct Precision {
  std::string_view stored;  // the name in safetensors
  std::string_view name;
  double u;
  bool sums;     // whether sums are taken in it, not in f32
  double probe;  // the u of S, which is then scaled to `u`
  double least = 0;
};
inline constexpr Precision kPrecisions[] = {{"F64", "f64", 0x1p-53, true, 0x1p-24},
                                            {"F32", "f32", 0x1p-24, true, 0x1p-24},
                                            {"F16", "f16", 0x1p-11, false, 0x1p-11, 0x1p-25},
                                            {"BF16", "bf16", 0x1p-8, false, 0x1p-8}};
const Precision* FindPrecision(std::string_view stored);  // null where it is none of these

inline constexpr int kPatterns = 8;

// Largest |a - b| over the elements; infinity if one of them is finite and the other is not, or both are not but
// differ. NaN equals NaN: mistakes may give it, truths never do.
double Distance(const Value& other, const Value& truth);
// With infinities for what is beyond the largest number of f16. Mistakes give such numbers; no truth does.
Value OverflownInF16(Value value);
// Largest |x| of those that are finite.
double LargestFinite(const Value& value);

// Truths, mistaken results and their tolerances: computed when first asked for, then kept. The suite must outlive them.
class Expectations {
 public:
  // `accepted` are known mistakes that are conventions here: each is made in every truth and beside every other
  // mistake. Throws UsageError for a name that no family of the suite knows.
  explicit Expectations(const Suite& suite, int threads = 1, std::vector<std::string> accepted = {});

  const Suite& suite() const { return suite_; }
  const std::vector<std::string>& accepted() const { return accepted_; }
  // Whether the accepted conventions change what is right in a case.
  bool IsBent(const Family& family, const Case& c);
  const Values& Outputs(const Family& family, const Case& c, const std::string& mistake);
  // 0 for integers. That of a mistake is at least the truth's: a mistake may pass over what the truth is sensitive to,
  // and who makes it in fewer places than the oracle errs as much there.
  double Tolerance(const Family& family, const Case& c, const std::string& mistake, const std::string& output,
                   const Precision& precision);
  // Whether an error is at most Tolerance(), at a fraction of its cost where the truth's tolerance allows the error
  // already, or where it is far beyond: then fewer than kPatterns evaluations show it.
  bool Tolerates(double error, const Family& family, const Case& c, const std::string& mistake,
                 const std::string& output, const Precision& precision);

 private:
  struct Sensitivity {
    int patterns = 0;                       // evaluated so far
    std::map<std::string, double> largest;  // S of each output, by these
  };
  using Key = std::tuple<const Case*, std::string, double>;

  Values Evaluate(const Family& family, const Case& c, const std::string& mistake, Noise& noise);
  // By at least so many patterns.
  const Sensitivity& SensitivityOf(const Family& family, const Case& c, const std::string& mistake,
                                   const Precision& precision, int patterns);

  double OwnTolerance(const Family& family, const Case& c, const std::string& mistake, const std::string& output,
                      const Precision& precision, int patterns = kPatterns);

  const Suite& suite_;
  std::vector<std::string> accepted_;
  Arena arena_;
  Context ctx_;
  std::map<Key, Values> outputs_;
  std::map<Key, Sensitivity> sensitivities_;
};

}  // namespace swarr::oracle
