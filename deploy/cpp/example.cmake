# What both examples have in common: include it after the engine's headers (ENGINE_INCLUDE_DIR) and library
# (ENGINE_LIBRARY) were found. It builds main.cc beside the CMakeLists.txt as `detect`.
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
find_package(OpenCV REQUIRED COMPONENTS core imgproc imgcodecs)
find_package(yaml-cpp REQUIRED)

add_executable(detect main.cc)
target_compile_options(detect PRIVATE -Wall -Wextra)
target_include_directories(detect PRIVATE ${OpenCV_INCLUDE_DIRS})
# SYSTEM: no warnings from the engine's headers.
target_include_directories(detect SYSTEM PRIVATE ${ENGINE_INCLUDE_DIR})
target_link_libraries(detect PRIVATE ${ENGINE_LIBRARY} ${OpenCV_LIBS} yaml-cpp)
