// SPDX-License-Identifier: Apache-2.0
#include <iostream>

#include "tensor/version.h"

int main() { std::cout << "swarr " << swarr::Version() << " (" << swarr::BuildRevision() << ")\n"; }
