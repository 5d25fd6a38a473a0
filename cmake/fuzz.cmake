# SPDX-License-Identifier: Apache-2.0
# A program of libFuzzer for every harness in tests/fuzz (make fuzz). The target fuzz builds them all. Of the kernels the
# portable ones alone are compiled for it.
set(shared tests/fuzz/fuzzer.cc tests/fuzz/harnesses.cc)
file(GLOB harnesses CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR} tests/fuzz/*.cc)
list(REMOVE_ITEM harnesses ${shared})
add_custom_target(fuzz)
foreach(harness IN LISTS harnesses)
  cmake_path(GET harness STEM name)
  string(SUBSTRING ${name} 0 1 initial)
  string(TOUPPER ${initial} initial)
  string(SUBSTRING ${name} 1 -1 rest)
  add_executable(fuzz-${name} ${shared} ${harness})
  target_include_directories(fuzz-${name} PRIVATE tests)
  target_compile_definitions(fuzz-${name} PRIVATE SWARR_HARNESS=Fuzz${initial}${rest})
  target_link_libraries(fuzz-${name} PRIVATE swarr::swarr swarr-flags)
  target_link_options(fuzz-${name} PRIVATE -fsanitize=fuzzer)
  add_dependencies(fuzz fuzz-${name})
endforeach()
