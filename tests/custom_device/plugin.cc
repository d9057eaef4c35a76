// A device for Paddle that has no hardware: the type "pretend", of which there are two, in the memory of the host.
//
// It has no kernels of its own, so that Paddle copies to the CPU what a kernel needs, and the results back. What it does
// have is a place that is not the CPU: everything that asks what the device is gets another answer.
//
// As on a GPU, each thread has a current device, at first device 0, and memory that was allocated holds no zeros.

#include <stdlib.h>
#include <string.h>

#include <atomic>

#include "paddle/phi/backends/device_ext.h"

namespace {

constexpr int kDevices = 2;
constexpr size_t kMemory = size_t(1) << 33;  // bytes that a device claims to have

thread_local int current = 0;
std::atomic<size_t> used[kDevices];
std::atomic<long> copies_to_host{0};
std::atomic<unsigned long> touched{0};  // a bit for each device whose memory was asked for by a thread that had it

// A GPU would take memory for a context on the current device of the thread that asks, whatever it asks for.
void Touch() { touched |= 1ul << current; }

C_Status Nothing() { return C_SUCCESS; }

C_Status SetDevice(const C_Device device) {
  current = device->id;
  return C_SUCCESS;
}

C_Status GetDevice(const C_Device device) {
  device->id = current;
  return C_SUCCESS;
}

C_Status OfDevice(const C_Device) { return C_SUCCESS; }

// Streams and events: all work is done when the call that asks for it returns, so there is nothing to wait for.

C_Status CreateStream(const C_Device, C_Stream *stream) {
  *stream = reinterpret_cast<C_Stream>(malloc(1));
  return C_SUCCESS;
}

C_Status DestroyStream(const C_Device, C_Stream stream) {
  free(stream);
  return C_SUCCESS;
}

C_Status OfStream(const C_Device, C_Stream) { return C_SUCCESS; }

C_Status AddCallback(const C_Device device, C_Stream stream, C_Callback callback, void *data) {
  C_Status status = C_SUCCESS;
  callback(device, stream, data, &status);
  return status;
}

C_Status CreateEvent(const C_Device, C_Event *event) {
  *event = reinterpret_cast<C_Event>(malloc(1));
  return C_SUCCESS;
}

C_Status DestroyEvent(const C_Device, C_Event event) {
  free(event);
  return C_SUCCESS;
}

C_Status OfEvent(const C_Device, C_Event) { return C_SUCCESS; }

C_Status OfStreamAndEvent(const C_Device, C_Stream, C_Event) { return C_SUCCESS; }

// Memory.

C_Status Allocate(const C_Device device, void **pointer, size_t size) {
  Touch();
  if (posix_memalign(pointer, 256, size ? size : 1)) return C_FAILED;
  memset(*pointer, 0xff, size);  // not a number, in every type of them
  if (device->id >= 0 && device->id < kDevices) used[device->id] += size;
  return C_SUCCESS;
}

C_Status Free(const C_Device device, void *pointer, size_t size) {
  free(pointer);
  if (device->id >= 0 && device->id < kDevices) used[device->id] -= size;
  return C_SUCCESS;
}

C_Status Fill(const C_Device, void *pointer, unsigned char value, size_t size) {
  memset(pointer, value, size);
  return C_SUCCESS;
}

C_Status Copy(const C_Device, void *target, const void *source, size_t size) {
  Touch();
  memmove(target, source, size);
  return C_SUCCESS;
}

C_Status CopyToHost(const C_Device device, void *target, const void *source, size_t size) {
  ++copies_to_host;
  return Copy(device, target, source, size);
}

C_Status CopyInStream(const C_Device device, C_Stream, void *target, const void *source, size_t size) {
  return Copy(device, target, source, size);
}

C_Status CopyToHostInStream(const C_Device device, C_Stream, void *target, const void *source, size_t size) {
  return CopyToHost(device, target, source, size);
}

C_Status CopyBetween(const C_Device device, const C_Device, void *target, const void *source, size_t size) {
  return Copy(device, target, source, size);
}

C_Status CopyBetweenInStream(
    const C_Device device, const C_Device, C_Stream, void *target, const void *source, size_t size) {
  return Copy(device, target, source, size);
}

// What there is.

C_Status Count(size_t *count) {
  *count = kDevices;
  return C_SUCCESS;
}

C_Status List(size_t *devices) {
  for (int i = 0; i < kDevices; ++i) devices[i] = i;
  return C_SUCCESS;
}

C_Status MemoryStatistics(const C_Device device, size_t *total, size_t *available) {
  *total = kMemory;
  *available = kMemory - used[device->id];
  return C_SUCCESS;
}

#ifdef MAX_HOOKS  // the header of Paddle 3
C_Status Yes(const C_Device, bool *answer) {
  *answer = true;
  return C_SUCCESS;
}
#endif

C_Status ChunkSize(const C_Device, size_t *size) {
  *size = 256;
  return C_SUCCESS;
}

}  // namespace

extern "C" {

void InitPlugin(CustomRuntimeParams *params) {
  PADDLE_CUSTOM_RUNTIME_CHECK_VERSION(params);
  params->device_type = const_cast<char *>("pretend");
  params->sub_device_type = const_cast<char *>("1");
  C_DeviceInterface *interface = params->interface;
  memset(reinterpret_cast<char *>(interface) + sizeof(size_t), 0, sizeof(C_DeviceInterface) - sizeof(size_t));

  interface->initialize = Nothing;
  interface->finalize = Nothing;
  interface->init_device = OfDevice;
  interface->set_device = SetDevice;
  interface->get_device = GetDevice;
  interface->deinit_device = OfDevice;
  interface->create_stream = CreateStream;
  interface->destroy_stream = DestroyStream;
  interface->query_stream = OfStream;
  interface->stream_add_callback = AddCallback;
  interface->create_event = CreateEvent;
  interface->record_event = OfStreamAndEvent;
  interface->destroy_event = DestroyEvent;
  interface->query_event = OfEvent;
  interface->synchronize_device = OfDevice;
  interface->synchronize_stream = OfStream;
  interface->synchronize_event = OfEvent;
  interface->stream_wait_event = OfStreamAndEvent;

  interface->device_memory_allocate = Allocate;
  interface->device_memory_deallocate = Free;
  interface->device_memory_set = Fill;
  interface->host_memory_allocate = Allocate;
  interface->host_memory_deallocate = Free;
  interface->unified_memory_allocate = Allocate;
  interface->unified_memory_deallocate = Free;
  interface->memory_copy_h2d = Copy;
  interface->memory_copy_d2h = CopyToHost;
  interface->memory_copy_d2d = Copy;
  interface->memory_copy_p2p = CopyBetween;
  interface->async_memory_copy_h2d = CopyInStream;
  interface->async_memory_copy_d2h = CopyToHostInStream;
  interface->async_memory_copy_d2d = CopyInStream;
  interface->async_memory_copy_p2p = CopyBetweenInStream;

  interface->get_device_count = Count;
  interface->get_device_list = List;
  interface->device_memory_stats = MemoryStatistics;
  interface->device_min_chunk_size = ChunkSize;
#ifdef MAX_HOOKS
  interface->is_float16_supported = Yes;
  interface->is_bfloat16_supported = Yes;
#endif
}

// For tests, through ctypes: the current device of the calling thread; since the last call, which devices were touched,
// as bits, and the copies from a device to the host.
int pretend_current_device() { return current; }
unsigned long pretend_touched() { return touched.exchange(0); }
long pretend_copies_to_host() { return copies_to_host.exchange(0); }

}  // extern "C"
