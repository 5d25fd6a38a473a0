// SPDX-License-Identifier: Apache-2.0
#include "base/check.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "base/utf8.h"

namespace swarr {
namespace {

// The bytes of a sentence beside its paths, and how many of these are kept for its end, which says what to do. The
// program puts its name in front: 300 bytes in all.
constexpr std::size_t kMost = 280, kTail = 100;
constexpr std::string_view kOmission = " ... ";
// What a system takes as a path and as a name in it. Shorter paths count like other words, and so do those of a
// sentence that has very many.
constexpr std::size_t kMostPath = 4096, kMostName = 255, kLeastPath = 16, kMostPaths = 6;

// Whether a word may be a path: it has slashes, and between them what a system takes as names.
bool IsPath(std::string_view word) {
  if (word.find('/') == word.npos || word.size() < kLeastPath || word.size() > kMostPath) return false;
  std::size_t longest = 0;
  for (std::size_t at = 0; at <= word.size();) {
    const std::size_t end = std::min(word.find('/', at), word.size());
    longest = std::max(longest, end - at);
    at = end + 1;
  }
  return longest <= kMostName;
}

// Whether a word ends what `quote` began: "name'", "name':", "name',".
bool Closes(std::string_view word, char quote) {
  const std::size_t last = word.find_last_not_of(",:;.)");
  return last != word.npos && word[last] == quote;
}

// For each byte, whether it belongs to a path. What stands in quotes is a name or value from a file, and no path.
std::vector<bool> BytesOfPaths(std::string_view sentence) {
  std::vector<bool> bytes(sentence.size());
  char quote = 0;  // 0: outside quotes
  std::size_t paths = 0;
  for (std::size_t begin = 0; begin < sentence.size();) {
    const std::size_t end = std::min(sentence.find(' ', begin), sentence.size());
    std::string_view word = sentence.substr(begin, end - begin);
    const bool opens = quote == 0 && !word.empty() && (word[0] == '\'' || word[0] == '"');
    if (opens) quote = word[0];
    if (quote == 0 && IsPath(word) && paths++ < kMostPaths) {
      std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(begin), word.size(), true);
    }
    if (opens) word.remove_prefix(1);
    if (quote != 0 && Closes(word, quote)) quote = 0;
    begin = end + 1;
  }
  return bytes;
}

// Leaves out the middle of a sentence that is too long. It opens with what was wrong and ends with what to do.
std::string Shortened(std::string sentence) {
  const std::vector<bool> path = BytesOfPaths(sentence);
  if (std::ranges::count(path, false) <= static_cast<std::ptrdiff_t>(kMost)) return sentence;
  std::size_t head = 0, tail = sentence.size();
  for (std::size_t left = kMost - kTail - kOmission.size(); left > 0; ++head) left -= !path[head];
  for (std::size_t left = kTail; left > 0; --tail) left -= !path[tail - 1];
  while (ContinuesCharacter(sentence[head])) --head;
  while (ContinuesCharacter(sentence[tail])) ++tail;
  return sentence.replace(head, tail - head, kOmission);
}

// A sentence can quote a whole file. Only as much of it is looked at as may be kept.
std::string LimitedTo(std::size_t most, std::string sentence) {
  if (sentence.size() > most) sentence.erase(most / 2, sentence.size() - most);
  return sentence;
}

}  // namespace

Error::Error(const std::string& sentence)
    : std::runtime_error(Shortened(Printable(LimitedTo(8 * kMostPath, sentence)))) {}

}  // namespace swarr
