// Detect objects in an image with an exported model, by ONNX Runtime.
//
//   detect MODEL_DIR IMAGE [--output FILE] [--threshold SCORE] [--threads N]
//
// MODEL_DIR is a folder that `ppdet export --format onnx` wrote, with or without `--precision int8`. The output is a line
// per detection: name, score, x1, y1, x2, y2 in pixels of the image. --output writes a picture with the boxes.

#include <onnxruntime_cxx_api.h>

#include <array>

#include "../example.h"

namespace {

class Detector {
 public:
  explicit Detector(const example::Arguments& arguments) : session_(nullptr) {
    const std::filesystem::path folder(arguments.model_dir);
    const bool is_int8 = example::ReadSettings(folder)["precision"].as<std::string>("fp32") == "int8";
    const auto path = folder / (is_int8 ? "model_int8.onnx" : "model.onnx");
    if (!std::filesystem::exists(path)) throw std::runtime_error(path.string() + ": no such file");
    if (arguments.gpu) throw std::invalid_argument("--gpu: this example computes on processors only");
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(arguments.threads);
    session_ = Ort::Session(environment_, path.c_str(), options);
  }

  std::vector<example::Detection> Detect(example::Arrays* arrays) {
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    const std::array<int64_t, 4> image_shape{1, 3, arrays->height, arrays->width};
    const std::array<int64_t, 2> pair_shape{1, 2};
    const std::array<const char*, 3> inputs{"image", "scale_factor", "im_shape"};
    const char* output = "bbox";  // (M, 6): class, score, x1, y1, x2, y2
    std::vector<Ort::Value> tensors;
    for (const char* name : inputs) {
      auto& values = (*arrays)[name];
      const bool is_image = &values == &arrays->image;
      tensors.push_back(Ort::Value::CreateTensor<float>(memory, values.data(), values.size(),
                                                        is_image ? image_shape.data() : pair_shape.data(),
                                                        is_image ? image_shape.size() : pair_shape.size()));
    }
    const auto found = session_.Run(Ort::RunOptions{nullptr}, inputs.data(), tensors.data(), tensors.size(), &output, 1);
    const auto shape = found[0].GetTensorTypeAndShapeInfo().GetShape();
    if (shape.size() != 2 || shape[1] != 6) throw std::runtime_error("the output bbox is not (M, 6)");
    return example::ReadRows(found[0].GetTensorData<float>(), size_t(shape[0]));
  }

 private:
  Ort::Env environment_{ORT_LOGGING_LEVEL_ERROR, "detect"};
  Ort::Session session_;
};

}  // namespace

int main(int count, char** values) { return example::Main<Detector>(count, values); }
