// SPDX-License-Identifier: Apache-2.0
#include "task/math/number_words.h"

#include <algorithm>
#include <set>
#include <string>

#include "task/math/words.h"

namespace swarr {
namespace {

constexpr std::string_view kMultipliers =
    "12 dozen | 144 gross | 100 hundred | 1000 thousand | 100000 lakh lac | 1000000 million | 10000000 crore | "
    "1000000000 billion milliard | 1000000000000 trillion | 1000000000000000 quadrillion | "
    "1000000000000000000 quintillion";

// What the names of numbers are made of: "twenty" + "one", "hundred" + "th" + "s", "five" + "fold".
constexpr std::string_view kNumberParts =
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fourty fifty sixty seventy eighty ninety hundred thousand million dozen "
    "half halve third quarter fourth fifth sixth seventh eighth ninth tenth twelfth twentie thirtie fortie fiftie "
    "sixtie seventie eightie ninetie";
constexpr std::string_view kNumberEndings = "s es th ths fold and";

// Other words for numbers and factors, in the singular.
constexpr std::string_view kNumbers =
    "first nil nought naught aught null none nothing score myriad lac lakh crore gross googol milliard grand thou mil "
    "mln mio mn bn tn trn k pi tau phi theta alpha beta gamma delta epsilon zeta eta iota kappa lambda mu nu xi "
    "omicron "
    "rho sigma upsilon chi omega infinity infinite imaginary double doubled triple tripled treble quadruple quadrupled "
    "quintuple sextuple twice thrice once halved";

// Words that deny.
constexpr std::string_view kNegations =
    "no nope not never neither nor non nobody nowhere without except excluding isn isnt ain aint aren arent wasn wasnt "
    "weren "
    "werent don dont doesn doesnt didn didnt won wont wouldn couldn shouldn hasn haven hadn cannot cant unlike "
    "hardly scarcely barely wrong false incorrect untrue invalid incorrectly wrongly impossible undefined unknown "
    "rather instead unless otherwise else";

// Words that change a number: operators, comparisons, shares and doubts.
constexpr std::string_view kChanges =
    "or and than more less fewer greater larger smaller bigger higher lower least most over under above below beyond "
    "within between before about around approximately approx roughly nearly almost circa to from minus plus negative "
    "opposite time multiply multiplied divided added subtracted if when where for all but squared cubed power by is "
    "are "
    "was "
    "were be equal equals maybe perhaps possibly probably unsure base factorial remainder reciprocal inverse conjugate "
    "permille permil mille ppm ppb bps basis fold "
    "repeating recurring repeated periodic";

// Names of functions. Their plurals are other words: logs are wood.
constexpr std::string_view kFunctions =
    "sin cos tan csc sinh cosh tanh arcsin arccos arctan log ln lg exp max gcd lcm det mod modulo sqrt";

// Ordinary words of three letters that things are counted in.
constexpr std::string_view kShortWords =
    "men man boy egg cup car bag box cat dog cow pig hen pen hat toy pie bus ant bee job lap map net nut row set way "
    "kid mug jar tin pot fan bun can age cap fly gem key leg pin pan rug son tie tip top tub van web bat bed arm ear "
    "eye toe bar bin bit bow bug cub dot fin fox gap hut jug lot mat pad peg pet pup ram rat rib rod sip tap tea "
    "wig yak zoo day red big new old hot dry raw";

// Neighbours that no English word has, or next to none.
constexpr std::string_view kNoNeighbours = "bc cd fg hj jk pq qr vw wx xd xy xz yx yz zx zy";

// Lower case, and without the ending of the plural.
std::string Singular(std::string_view word) {
  std::string name = LowerCase(word);
  if (name.size() > 2 && name.back() == 's') name.pop_back();
  return name;
}

// Whether the word is in the table, in the singular or the plural.
bool HasForm(std::string_view words, const std::string& lower) {
  if (HasWord(words, lower) || HasWord(words, Singular(lower))) return true;
  const std::string_view stem = lower.ends_with("es") ? std::string_view(lower).substr(0, lower.size() - 2) : "";
  const bool hisses = stem.ends_with('s') || stem.ends_with('x') || stem.ends_with('h');  // minuses, not pies
  return hisses && HasWord(words, stem);
}

// The longest of `parts` that `text` begins with.
std::string_view LongestPart(std::string_view text, std::string_view parts) {
  std::string_view longest;
  while (!parts.empty()) {
    const std::string_view part = TakeWord(parts);
    if (text.starts_with(part) && part.size() > longest.size()) longest = part;
  }
  return longest;
}

// Whether the word is made of the names of numbers.
bool NamesNumber(std::string_view lower) {
  if (lower.find("illion") != std::string_view::npos) return true;  // of all sizes
  bool any = false;
  while (!lower.empty()) {
    std::string_view part = LongestPart(lower, kNumberParts);
    any |= !part.empty();
    if (any && part.empty()) part = LongestPart(lower, kNumberEndings);
    if (part.empty()) return false;
    lower.remove_prefix(part.size());
  }
  return any;
}

bool IsVowel(char c) { return std::string_view("aeiouy").find(c) != std::string_view::npos; }

}  // namespace

std::string_view MultiplierOf(std::string_view word) {
  return MeaningOf(LowerCase(word), kMultipliers, MeaningOf(Singular(word), kMultipliers));
}

bool IsNegation(std::string_view word) {
  std::string letters = LowerCase(word);
  std::erase_if(letters, [](char c) { return !IsLetter(c); });
  return HasForm(kNegations, letters);
}

bool SaysNumber(std::string_view word) {
  const std::string lower = LowerCase(word);
  return NamesNumber(lower) || HasForm(kNumbers, lower);
}

bool ChangesNumber(std::string_view word) {
  const std::string lower = LowerCase(word);
  return SaysNumber(lower) || IsNegation(lower) || HasWord(kFunctions, lower) || HasForm(kChanges, lower);
}

bool IsAlphabetRun(std::string_view word) {
  const std::string lower = LowerCase(word);
  return lower.size() > 1 &&
         std::ranges::adjacent_find(lower, [](char a, char b) { return b != a + 1; }) == lower.end();
}

bool IsOrdinaryWord(std::string_view word) {
  const std::string lower = LowerCase(word);
  if (lower.size() == 3) return HasWord(kShortWords, lower);
  if (lower.size() < 4 || IsAlphabetRun(lower) || std::ranges::none_of(lower, IsVowel)) return false;
  if (std::set(lower.begin(), lower.end()).size() < 3) return false;  // abab
  // No word of four letters is a vowel and three consonants, but for some in s or h: arms, inch.
  const bool ends_in_consonants = std::none_of(lower.begin() + 1, lower.end(), IsVowel);
  if (lower.size() == 4 && ends_in_consonants && lower.back() != 's' && lower.back() != 'h') return false;
  for (std::string_view pairs = kNoNeighbours; !pairs.empty();) {
    if (lower.find(TakeWord(pairs)) != std::string::npos) return false;
  }
  return true;
}

}  // namespace swarr
