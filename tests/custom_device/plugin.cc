// A device for Paddle that has no hardware: the type "pretend", of which there are two, in the memory of the host.
//
// It has no kernels of its own, so that Paddle copies to the CPU what a kernel needs, and the results back. What it does
// have is a place that is not the CPU: everything that asks what the device is gets another answer.
//
// As on a GPU, each thread has a current device, at first device 0, and memory that was allocated holds no zeros.

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
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
C_Status NameOfGroup(C_CCLComm, char *name) {
  strcpy(name, "pretend");
  return C_SUCCESS;
}

C_Status Yes(const C_Device, bool *answer) {
  *answer = true;
  return C_SUCCESS;
}
#endif

C_Status ChunkSize(const C_Device, size_t *size) {
  *size = 256;
  return C_SUCCESS;
}

// Processes talk through a file in memory that they share: each has a part of it, writes what it has to say there, and
// reads the others' when all have written.

constexpr size_t kPart = size_t(1) << 20;  // bytes of each process; more is said in several pieces
constexpr int kRanks = 8;

struct Board {
  std::atomic<int> arrived, round;
  alignas(64) char parts[kRanks][kPart];
};

struct Group {
  int rank, ranks;
  Board *board;

  void Meet() {
    int round = board->round;
    if (++board->arrived == ranks) {
      board->arrived = 0;
      ++board->round;
    } else {
      while (board->round == round) usleep(20);
    }
  }
};

Group *Of(C_CCLComm comm) { return reinterpret_cast<Group *>(comm); }

size_t SizeOf(C_DataType type) {
  switch (type) {
    case BOOL:
    case UINT8:
    case INT8:
      return 1;
    case UINT16:
    case INT16:
    case FLOAT16:
    case BFLOAT16:
      return 2;
    case UINT32:
    case INT32:
    case FLOAT32:
      return 4;
    default:
      return 8;
  }
}

// Calls use(offset, size) for the pieces of `bytes`, after every process has written its own piece.
template <typename Use>
C_Status Exchange(Group *group, const void *mine, size_t bytes, bool writes, Use use) {
  for (size_t offset = 0; offset < bytes; offset += kPart) {
    size_t size = std::min(kPart, bytes - offset);
    if (writes) memcpy(group->board->parts[group->rank], static_cast<const char *>(mine) + offset, size);
    group->Meet();
    use(offset, size);
    group->Meet();
  }
  return C_SUCCESS;
}

template <typename T>
void Reduce(Group *group, void *result, size_t size, C_CCLReduceOp op) {
  T *values = static_cast<T *>(result);
  for (size_t i = 0; i < size / sizeof(T); ++i) {
    T total = reinterpret_cast<T *>(group->board->parts[0])[i];
    for (int rank = 1; rank < group->ranks; ++rank) {
      T value = reinterpret_cast<T *>(group->board->parts[rank])[i];
      if (op == MAX) total = std::max(total, value);
      if (op == MIN) total = std::min(total, value);
      if (op == PRODUCT) total *= value;
      if (op == SUM || op == AVG) total += value;
    }
    values[i] = op == AVG ? total / static_cast<T>(group->ranks) : total;
  }
}

C_Status IdSize(size_t *size) {
  *size = 64;
  return C_SUCCESS;
}

C_Status MakeId(C_CCLRootId *id) {
  static int made = 0;
  snprintf(static_cast<char *>(id->data), 64, "/dev/shm/pretend_%d_%d", getpid(), made++);
  id->sz = 64;
  int file = open(static_cast<char *>(id->data), O_CREAT | O_EXCL | O_RDWR, 0600);
  if (file < 0 || ftruncate(file, sizeof(Board))) return C_FAILED;
  close(file);
  return C_SUCCESS;
}

C_Status Join(size_t ranks, C_CCLRootId *id, size_t rank, C_CCLComm *comm) {
  const char *path = static_cast<const char *>(id->data);
  int file = open(path, O_RDWR);
  if (file < 0 || ranks > kRanks) return C_FAILED;
  void *memory = mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (memory == MAP_FAILED) return C_FAILED;
  auto *group = new Group{static_cast<int>(rank), static_cast<int>(ranks), static_cast<Board *>(memory)};
  group->Meet();
  if (rank == 0) unlink(path);
  *comm = reinterpret_cast<C_CCLComm>(group);
  return C_SUCCESS;
}

C_Status Leave(C_CCLComm comm) {
  munmap(Of(comm)->board, sizeof(Board));
  delete Of(comm);
  return C_SUCCESS;
}

C_Status AllReduce(
    void *mine, void *result, size_t count, C_DataType type, C_CCLReduceOp op, C_CCLComm comm, C_Stream) {
  Touch();
  Group *group = Of(comm);
  return Exchange(group, mine, count * SizeOf(type), true, [&](size_t offset, size_t size) {
    char *target = static_cast<char *>(result) + offset;
    if (type == FLOAT32) Reduce<float>(group, target, size, op);
    if (type == FLOAT64) Reduce<double>(group, target, size, op);
    if (type == INT32) Reduce<int32_t>(group, target, size, op);
    if (type == INT64) Reduce<int64_t>(group, target, size, op);
    if (type == UINT8 || type == BOOL) Reduce<uint8_t>(group, target, size, op);
  });
}

C_Status Broadcast(void *values, size_t count, C_DataType type, size_t root, C_CCLComm comm, C_Stream) {
  Touch();
  Group *group = Of(comm);
  bool writes = group->rank == static_cast<int>(root);
  return Exchange(group, values, count * SizeOf(type), writes, [&](size_t offset, size_t size) {
    if (!writes) memcpy(static_cast<char *>(values) + offset, group->board->parts[root], size);
  });
}

C_Status AllGather(void *mine, void *result, size_t count, C_DataType type, C_CCLComm comm, C_Stream) {
  Touch();
  Group *group = Of(comm);
  size_t bytes = count * SizeOf(type);
  return Exchange(group, mine, bytes, true, [&](size_t offset, size_t size) {
    for (int rank = 0; rank < group->ranks; ++rank) {
      memcpy(static_cast<char *>(result) + rank * bytes + offset, group->board->parts[rank], size);
    }
  });
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

  interface->xccl_get_unique_id_size = IdSize;
  interface->xccl_get_unique_id = MakeId;
  interface->xccl_comm_init_rank = Join;
  interface->xccl_destroy_comm = Leave;
  interface->xccl_all_reduce = AllReduce;
  interface->xccl_broadcast = Broadcast;
  interface->xccl_all_gather = AllGather;
  interface->xccl_group_start = Nothing;
  interface->xccl_group_end = Nothing;
#ifdef MAX_HOOKS
  interface->xccl_get_comm_name = NameOfGroup;
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
