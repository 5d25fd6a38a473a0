// SPDX-License-Identifier: Apache-2.0
#include <iostream>

#include "base/version.h"

int main() { std::cout << "swarr " << swarr::Version() << " (" << swarr::BuildRevision() << ")\n"; }
