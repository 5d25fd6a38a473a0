// SPDX-License-Identifier: Apache-2.0
// Which swarr this is. Defined in a file that the build writes (cmake/version.cc.in).
#pragma once

namespace swarr {

// The release, "major.minor.patch".
const char* Version();

// `git describe --always --dirty` of the source tree when the library was built, or, from a release archive, when the
// archive was made; "unknown" from any other copy without git.
const char* BuildRevision();

}  // namespace swarr
