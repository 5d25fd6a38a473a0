# SPDX-License-Identifier: Apache-2.0
# One test program, one ctest test per tests/*_test.cc. Time limits are in CMakePresets.json: a sanitizer needs longer.
find_headers(doctest 2.4 doctest::doctest doctest/doctest.h)

file(GLOB test_sources CONFIGURE_DEPENDS tests/*.cc)
if(CMAKE_CXX_COMPILER_ID MATCHES Clang AND CMAKE_CXX_FLAGS MATCHES -fsanitize)
  # It replaces operator new, and so does the runtime that clang links into the program.
  list(FILTER test_sources EXCLUDE REGEX /steady_state_test\\.cc$)
endif()
file(GLOB harnesses CONFIGURE_DEPENDS tests/fuzz/*.cc)
list(FILTER harnesses EXCLUDE REGEX /fuzzer\\.cc$)  # libFuzzer's entry
add_executable(swarr-tests ${test_sources} ${harnesses})
add_dependencies(swarr-tests swarr-cli)
target_include_directories(swarr-tests PRIVATE tests)
target_link_libraries(swarr-tests PRIVATE swarr::swarr doctest::doctest Eigen3::Eigen swarr-flags)
target_compile_options(swarr-tests PRIVATE -O1)  # cold code, compiled for build time
# main.cc defines doctest's main, and so includes doctest.h in another way than the others.
set_source_files_properties(tests/main.cc PROPERTIES SKIP_PRECOMPILE_HEADERS ON SKIP_UNITY_BUILD_INCLUSION ON)
# A group for each first letter, so that all cores have work. Tests of the oracle use its names for everything: one more.
foreach(source IN LISTS test_sources)
  cmake_path(GET source STEM name)
  string(REGEX MATCH "^(oracle_|.)" group ${name})
  set_source_files_properties(${source} PROPERTIES UNITY_GROUP tests_${group})
endforeach()
save_build_time(swarr-tests "<doctest/doctest.h>;<nlohmann/json.hpp>")
target_compile_definitions(swarr-tests PRIVATE
  SWARR_TEST_DATA="${PROJECT_SOURCE_DIR}/tests/data" SWARR_PROGRAM="$<TARGET_FILE:swarr-cli>")

# Built on request (`make digests`).
add_executable(swarr-op-digest EXCLUDE_FROM_ALL tests/digest/op_digest.cc tests/op_cases.cc tests/op_inputs.cc
               tests/plain_ops.cc)
target_include_directories(swarr-op-digest PRIVATE tests)
target_link_libraries(swarr-op-digest PRIVATE swarr::swarr doctest::doctest swarr-flags)

list(FILTER test_sources INCLUDE REGEX _test\\.cc$)
foreach(source IN LISTS test_sources)
  cmake_path(GET source STEM name)
  if(name STREQUAL tokenizer_fixture_test AND NOT SWARR_HAS_UNICODE)
    continue()  # no tokenizer that it could read; byte_level_test sees to the refusal
  endif()
  add_test(NAME ${name} COMMAND swarr-tests --source-file=*/tests/${name}.cc)
  # A file whose cases are all skipped reports success to doctest; here it fails.
  set_tests_properties(${name} PROPERTIES FAIL_REGULAR_EXPRESSION "test cases: +0 ")
  if(name MATCHES "^cuda_")  # every case needs a device
    set_tests_properties(${name} PROPERTIES SKIP_REGULAR_EXPRESSION "skipped: no CUDA device")
  elseif(name STREQUAL progress_test)
    set_tests_properties(${name} PROPERTIES SKIP_REGULAR_EXPRESSION "skipped: no pseudo-terminals")
  endif()
endforeach()

# What pages and comments say of the tree (tools/check_docs.py), and its limits. Building and testing need no Python.
add_test(NAME docs
  COMMAND sh -c "command -v python3 >/dev/null || exit 77; python3 tools/check_docs.py && python3 tools/check_limits.py && python3 tools/check_figures.py && python3 tools/check_scale.py"
  WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
set_tests_properties(docs PROPERTIES SKIP_RETURN_CODE 77)

# The scripts that measure other programs beside this one, with stand-ins for those.
add_test(NAME peers
  COMMAND sh -c "command -v python3 >/dev/null || exit 77; exec python3 -B -m unittest discover -s tests/peers -p '*_test.py'"
  WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
set_tests_properties(peers PROPERTIES SKIP_RETURN_CODE 77 ENVIRONMENT "SWARR_PROGRAM=$<TARGET_FILE:swarr-cli>")

# Kills and full disks at file operations: a share here, every operation with `make torture`. A sanitizer's runtime must
# be loaded first, which leaves no place for the library that makes the faults.
if(UNIX AND NOT CMAKE_CXX_FLAGS MATCHES -fsanitize)
  add_library(swarr-file-faults MODULE tests/torture/file_faults.cc)
  target_link_libraries(swarr-file-faults PRIVATE swarr-flags ${CMAKE_DL_LIBS})
  set(torture $<TARGET_FILE:swarr-cli> $<TARGET_FILE:swarr-file-faults>)
  add_test(NAME torture
    COMMAND sh -c "command -v python3 >/dev/null || exit 77; exec python3 tests/torture/torture.py \"$@\"" sh ${torture} --every 293
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(torture PROPERTIES SKIP_RETURN_CODE 77 PROCESSORS 2)
endif()

# Without optimisation and under a sanitizer little is inlined; such a program runs where it is built.
if(SWARR_X86_KERNELS AND CMAKE_NM AND NOT CMAKE_BUILD_TYPE STREQUAL Debug AND NOT CMAKE_CXX_FLAGS MATCHES -fsanitize)
  set(objects)
  foreach(pair swarr-avx2:Avx2 swarr-avx512:Avx512 swarr-tile_dot:Avx512 swarr-tile_amx:Avx512 swarr-short_panels_amx:Avx512)
    string(REPLACE ":" ";" pair ${pair})
    list(GET pair 0 target)
    list(GET pair 1 tag)
    list(APPEND objects "${tag}=$<JOIN:$<TARGET_OBJECTS:${target}>,|${tag}=>")
  endforeach()
  list(JOIN objects "|" objects)
  add_test(NAME kernel_symbols
    COMMAND ${CMAKE_COMMAND} -D NM=${CMAKE_NM} -D "OBJECTS=${objects}" -P ${PROJECT_SOURCE_DIR}/cmake/kernel_symbols_test.cmake)
endif()

# Headers that were handed in are not installed, and a stranger's project would not find them.
if(SWARR_DEPS_DIR)
  return()
endif()
add_test(NAME installed_package
  COMMAND ${CMAKE_COMMAND} -D BUILD_DIR=${PROJECT_BINARY_DIR} -D SOURCE_DIR=${PROJECT_SOURCE_DIR}
          -D GENERATOR=${CMAKE_GENERATOR} -D CXX=${CMAKE_CXX_COMPILER} -D FLAGS=${CMAKE_CXX_FLAGS}
          -P ${PROJECT_SOURCE_DIR}/cmake/package_test.cmake)
