# SPDX-License-Identifier: Apache-2.0
# Program, library, headers, and the package files that make find_package(swarr) and pkg-config work wherever the tree is
# moved to.
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/swarr)
install(TARGETS swarr-cli RUNTIME)
install(TARGETS swarr EXPORT swarrTargets ARCHIVE)
install(EXPORT swarrTargets NAMESPACE swarr:: DESTINATION ${package_dir})
configure_package_config_file(cmake/swarrConfig.cmake.in swarrConfig.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(swarrConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/swarrConfig.cmake ${PROJECT_BINARY_DIR}/swarrConfigVersion.cmake
        DESTINATION ${package_dir})

# In the source tree headers include one another by room, "tensor/tensor.h". Installed, they say "swarr/tensor/tensor.h":
# consumers then search one folder, and a room of ours can't be taken for a folder of theirs.
install(CODE "
  file(REMOVE_RECURSE \"${PROJECT_BINARY_DIR}/installed-headers\")
  foreach(header ${headers})
    file(RELATIVE_PATH name \"${PROJECT_SOURCE_DIR}/src\" \"\${header}\")
    file(READ \"\${header}\" text)
    string(REGEX REPLACE \"#include \\\"([a-z]+/)\" \"#include \\\"swarr/\\\\1\" text \"\${text}\")
    file(WRITE \"${PROJECT_BINARY_DIR}/installed-headers/swarr/\${name}\" \"\${text}\")
  endforeach()")
install(DIRECTORY ${PROJECT_BINARY_DIR}/installed-headers/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

# pkg-config. The library is static, so whoever links it links what it uses.
set(pc_libraries)
foreach(library IN LISTS unicode_names)
  string(APPEND pc_libraries " -l${library}")
endforeach()
if(SWARR_HAS_CUDA)
  string(APPEND pc_libraries " -lcublas -lcudart_static -ldl -lrt")
endif()
if(SWARR_HAS_NCCL)
  string(APPEND pc_libraries " -lnccl")
endif()
set(pc_definitions)
if(SWARR_X86_KERNELS)
  string(APPEND pc_definitions " -DSWARR_X86_KERNELS")
endif()
if(SWARR_HAS_CUDA)
  string(APPEND pc_definitions " -DSWARR_CUDA")
endif()
file(RELATIVE_PATH pc_to_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" pc_to_prefix "${pc_to_prefix}")
configure_file(cmake/swarr.pc.in swarr.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/swarr.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# The program itself writes its manual page and what shells complete by.
install(CODE "
  foreach(file \"manual;man/man1/swarr.1\" \"completion bash;bash-completion/completions/swarr\"
          \"completion fish;fish/vendor_completions.d/swarr.fish\")
    list(GET file 0 words)
    list(GET file 1 name)
    separate_arguments(words UNIX_COMMAND \"\${words}\")
    execute_process(COMMAND \"$<TARGET_FILE:swarr-cli>\" \${words} OUTPUT_VARIABLE text COMMAND_ERROR_IS_FATAL ANY)
    file(WRITE \"${PROJECT_BINARY_DIR}/installed-share/\${name}\" \"\${text}\")
  endforeach()")
install(DIRECTORY ${PROJECT_BINARY_DIR}/installed-share/ DESTINATION ${CMAKE_INSTALL_DATADIR})

install(DIRECTORY data/ DESTINATION ${CMAKE_INSTALL_DATADIR}/swarr)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY examples DESTINATION ${CMAKE_INSTALL_DOCDIR})
