# SPDX-License-Identifier: Apache-2.0
# A stranger's project finds, compiles against and links the installed library (run by ctest with cmake -P).
set(root ${BUILD_DIR}/package-test)
file(REMOVE_RECURSE ${root})
function(run)
  execute_process(COMMAND ${ARGV} COMMAND_ERROR_IS_FATAL ANY)
endfunction()
run(${CMAKE_COMMAND} --install ${BUILD_DIR} --prefix ${root}/prefix)
run(${CMAKE_COMMAND} -S ${SOURCE_DIR}/cmake/consumer -B ${root}/build -G ${GENERATOR}
    -D CMAKE_PREFIX_PATH=${root}/prefix -D CMAKE_CXX_COMPILER=${CXX} -D CMAKE_CXX_FLAGS=${FLAGS})
run(${CMAKE_COMMAND} --build ${root}/build)
run(${root}/build/consumer)
