// SPDX-License-Identifier: Apache-2.0
// Errors. The library reports every failure as an exception that carries one clear sentence: what, where, what to do.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace swarr {

// Any failure of the library. The program turns it into exit status 1. The sentence is one line, whatever the names in
// it hold: control characters are spelt \n or \u001b, and the middle of a very long one is left out.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& sentence);
};

// A request that can't make sense whatever the data (a bad flag value, a wrong command). Exit status 2.
class UsageError : public Error {
 public:
  using Error::Error;
};

// Joins its arguments with operator<<.
template <class... Parts>
std::string Concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

}  // namespace swarr

// Throws Error with the remaining arguments joined into one sentence unless `condition` holds. The sentence is built
// only on failure.
#define SWARR_CHECK(condition, ...)                                       \
  do {                                                                    \
    if (!(condition)) throw ::swarr::Error(::swarr::Concat(__VA_ARGS__)); \
  } while (false)
