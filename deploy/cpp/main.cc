// Detect objects in an image with an exported model, by Paddle Inference.
//
//   detect MODEL_DIR IMAGE [--output FILE] [--threshold SCORE] [--threads N] [--gpu]
//
// MODEL_DIR is a folder that `ppdet export` wrote. The output is a line per detection: name, score, x1, y1, x2, y2 in
// pixels of the image. --output writes a picture with the boxes.

#include <paddle_inference_api.h>

#include <memory>

#include "example.h"

namespace {

// Paddle 3 calls oneDNN by its name; Paddle 2.6 has only the older function, which later versions call deprecated.
template <class Config>
auto EnableOneDNN(Config* config, int) -> decltype(config->EnableONEDNN()) {
  config->EnableONEDNN();
}

template <class Config>
void EnableOneDNN(Config* config, long) {
  config->EnableMKLDNN();
}

class Detector {
 public:
  explicit Detector(const example::Arguments& arguments) {
    const std::filesystem::path folder(arguments.model_dir);
    const bool json = std::filesystem::exists(folder / "model.json");  // Paddle 3; model.pdmodel is Paddle 2's
    const auto graph = folder / (json ? "model.json" : "model.pdmodel");
    if (!std::filesystem::exists(graph)) throw std::runtime_error(graph.string() + ": no such file");
    paddle_infer::Config config(graph.string(), (folder / "model.pdiparams").string());
    config.DisableGlogInfo();
    if (arguments.gpu) {
      config.EnableUseGpu(200, 0);
    } else {
      config.DisableGpu();
      config.SetCpuMathLibraryNumThreads(arguments.threads);
      EnableOneDNN(&config, 0);
    }
    predictor_ = paddle_infer::CreatePredictor(config);
  }

  std::vector<example::Detection> Detect(example::Arrays* arrays) {
    for (const auto& name : predictor_->GetInputNames()) {
      const auto tensor = predictor_->GetInputHandle(name);
      tensor->Reshape(name == "image" ? std::vector<int>{1, 3, arrays->height, arrays->width} : std::vector<int>{1, 2});
      tensor->CopyFromCpu((*arrays)[name].data());
    }
    if (!predictor_->Run()) throw std::runtime_error("Paddle Inference cannot run the graph");
    const auto rows = predictor_->GetOutputHandle(predictor_->GetOutputNames().at(0));
    const auto size = rows->shape();  // (M, 6): class, score, x1, y1, x2, y2
    if (size.size() != 2 || size[1] != 6) throw std::runtime_error("the graph's first output is not (M, 6)");
    std::vector<float> values(size_t(size[0]) * 6);
    if (!values.empty()) rows->CopyToCpu(values.data());
    return example::ReadRows(values.data(), size_t(size[0]));
  }

 private:
  std::shared_ptr<paddle_infer::Predictor> predictor_;
};

}  // namespace

int main(int count, char** values) { return example::Main<Detector>(count, values); }
