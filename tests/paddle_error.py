"""What Paddle prints when it ends with an error of its C++ code."""

PADDLES_ERROR = """

--------------------------------------
C++ Traceback (most recent call last):
--------------------------------------
0   paddle::platform::TensorRTEngine::FreezeNetwork()

----------------------
Error Message Summary:
----------------------
ResourceExhaustedError: Out of memory error on GPU 0. Cannot allocate 1.0GB memory on GPU 0.

Please check whether there is any other process using GPU 0.
 (at ../paddle/fluid/memory/allocation/cuda_allocator.cc:86)
"""
