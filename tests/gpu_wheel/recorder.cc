// Writes down which kernels Paddle 2.6.2 selects. Loaded before Paddle (LD_PRELOAD), so that its calls of the two
// functions below, which are in libphi.so, come here first. Paddle's own log of kernels damages the memory of the build
// for GPUs now and then.
#include <dlfcn.h>

#include <fstream>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>

namespace phi {

// As in paddle/phi/common/backend.h, common/layout.h, common/data_type.h and core/kernel_factory.h.
enum class Backend : unsigned char;
enum class DataLayout : int;
enum class DataType : int;
struct KernelKey {
  Backend backend;
  DataLayout layout;
  DataType dtype;
};
struct Kernel;
struct KernelResult {
  const Kernel* kernel;
  bool has_fallback_cpu;
  bool is_stride_kernel;
};
struct KernelFactory {
  KernelResult SelectKernelOrThrowError(const std::string& name, const KernelKey& key, bool use_strided) const;
  const Kernel& SelectKernel(const std::string& name, const KernelKey& key) const;
};

}  // namespace phi

namespace {

const char* const kOrThrow =
    "_ZNK3phi13KernelFactory24SelectKernelOrThrowErrorERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEERKNS_"
    "9KernelKeyEb";
const char* const kSelect =
    "_ZNK3phi13KernelFactory12SelectKernelERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEERKNS_9KernelKeyE";
using OrThrow = phi::KernelResult (*)(const phi::KernelFactory*, const std::string&, const phi::KernelKey&, bool);
using Select = const phi::Kernel& (*)(const phi::KernelFactory*, const std::string&, const phi::KernelKey&);

void* paddles(const char* name) {
  void* phi = dlopen("libphi.so", RTLD_LAZY | RTLD_NOLOAD);
  void* found = phi ? dlsym(phi, name) : nullptr;
  if (!found) throw std::runtime_error(std::string("libphi.so has no ") + name);
  return found;
}

std::mutex mutex;
std::string section;
std::map<std::string, long> lines;  // and how many times each

void write_down(const std::string& name, phi::DataType dtype, bool use_strided) {
  std::lock_guard<std::mutex> lock(mutex);
  if (section.empty()) return;
  std::string type = std::to_string(static_cast<int>(dtype));
  ++lines[section + "\t" + name + "\t" + type + "\t" + (use_strided ? "1" : "0")];
}

}  // namespace

phi::KernelResult phi::KernelFactory::SelectKernelOrThrowError(
    const std::string& name, const KernelKey& key, bool use_strided) const {
  static const OrThrow select = reinterpret_cast<OrThrow>(paddles(kOrThrow));
  write_down(name, key.dtype, use_strided);
  return select(this, name, key, use_strided);
}

const phi::Kernel& phi::KernelFactory::SelectKernel(const std::string& name, const KernelKey& key) const {
  static const Select select = reinterpret_cast<Select>(paddles(kSelect));
  write_down(name, key.dtype, false);
  return select(this, name, key);
}

extern "C" void recorder_section(const char* name) {
  std::lock_guard<std::mutex> lock(mutex);
  section = name;
}

extern "C" void recorder_save(const char* path) {
  std::lock_guard<std::mutex> lock(mutex);
  std::ofstream file(path);
  for (const auto& line : lines) file << line.first << "\t" << line.second << "\n";
}
