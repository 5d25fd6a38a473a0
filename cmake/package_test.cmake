# SPDX-License-Identifier: Apache-2.0
# Strangers' projects find, compile against, link and run with the installed library (run by ctest with cmake -P).
set(root ${BUILD_DIR}/package-test)
file(REMOVE_RECURSE ${root})
function(run)
  execute_process(COMMAND ${ARGV} COMMAND_ERROR_IS_FATAL ANY)
endfunction()
run(${CMAKE_COMMAND} --install ${BUILD_DIR} --prefix ${root}/prefix)
foreach(project cmake/consumer examples/oracle_candidate)
  get_filename_component(name ${project} NAME)
  run(${CMAKE_COMMAND} -S ${SOURCE_DIR}/${project} -B ${root}/${name} -G ${GENERATOR}
      -D CMAKE_PREFIX_PATH=${root}/prefix -D CMAKE_CXX_COMPILER=${CXX} -D CMAKE_CXX_FLAGS=${FLAGS})
  run(${CMAKE_COMMAND} --build ${root}/${name})
  run(${root}/${name}/${name})
endforeach()
