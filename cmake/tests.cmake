# SPDX-License-Identifier: Apache-2.0
# One test program, one ctest test per tests/*_test.cc. Time limits are in CMakePresets.json: a sanitizer needs longer.
find_package(doctest 2.4 REQUIRED)

file(GLOB test_sources CONFIGURE_DEPENDS tests/*.cc)
add_executable(swarr-tests ${test_sources})
add_dependencies(swarr-tests swarr-cli)
target_include_directories(swarr-tests PRIVATE tests)
target_link_libraries(swarr-tests PRIVATE swarr::swarr doctest::doctest Eigen3::Eigen swarr-flags)
target_compile_definitions(swarr-tests PRIVATE
  SWARR_TEST_DATA="${PROJECT_SOURCE_DIR}/tests/data" SWARR_PROGRAM="$<TARGET_FILE:swarr-cli>")

list(FILTER test_sources INCLUDE REGEX _test\\.cc$)
foreach(source IN LISTS test_sources)
  cmake_path(GET source STEM name)
  add_test(NAME ${name} COMMAND swarr-tests --source-file=*/tests/${name}.cc)
  # Several tests share the cores, so that waiting threads must sleep, not spin. A file whose cases are all skipped
  # reports success to doctest; here it fails.
  set_tests_properties(${name} PROPERTIES ENVIRONMENT OMP_WAIT_POLICY=passive
                       FAIL_REGULAR_EXPRESSION "test cases: +0 ")
endforeach()

add_test(NAME installed_package
  COMMAND ${CMAKE_COMMAND} -D BUILD_DIR=${PROJECT_BINARY_DIR} -D SOURCE_DIR=${PROJECT_SOURCE_DIR}
          -D GENERATOR=${CMAKE_GENERATOR} -D CXX=${CMAKE_CXX_COMPILER} -D FLAGS=${CMAKE_CXX_FLAGS}
          -P ${PROJECT_SOURCE_DIR}/cmake/package_test.cmake)
