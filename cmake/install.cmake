# SPDX-License-Identifier: Apache-2.0
# Program, library, headers, and the package files that make find_package(swarr) work wherever the tree is moved to.
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/swarr)
install(TARGETS swarr-cli RUNTIME)
install(TARGETS swarr EXPORT swarrTargets ARCHIVE
        FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/swarr)
install(EXPORT swarrTargets NAMESPACE swarr:: DESTINATION ${package_dir})
configure_package_config_file(cmake/swarrConfig.cmake.in swarrConfig.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(swarrConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/swarrConfig.cmake ${PROJECT_BINARY_DIR}/swarrConfigVersion.cmake
        DESTINATION ${package_dir})
install(DIRECTORY data/ DESTINATION ${CMAKE_INSTALL_DATADIR}/swarr)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
