// SPDX-License-Identifier: Apache-2.0
// Errors. The library reports every failure as an exception that carries one clear sentence: what, where, what to do.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace swarr {

// Any failure of the library; the program exits with status 1. The sentence is one line, whatever the names in it hold:
// control characters are spelt \n or \u001b, and the middle of a very long sentence is left out.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& sentence);
};

// A request that makes no sense whatever the data, such as a bad flag value; the program exits with status 2.
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
