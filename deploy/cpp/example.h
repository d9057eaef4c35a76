// What the two examples share: the command line, preprocessing as infer_cfg.yml says, and the picture.

#ifndef PPDET_DEPLOY_CPP_EXAMPLE_H_
#define PPDET_DEPLOY_CPP_EXAMPLE_H_

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace example {

struct Arguments {
  std::string model_dir, image, output;
  std::optional<float> threshold;  // none: the model's own, see Threshold
  int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  bool gpu = false;
};

struct Input {
  cv::Mat pixels;  // (H, W, 3) RGB; uint8, and float32 after normalization
  float scale_y = 1, scale_x = 1;
  int height = 0, width = 0;  // of the image, then of the resized image, without padding
};

struct Detection {
  int label;
  float score, x1, y1, x2, y2;
};

// The size after Resize, as in training. With keep_ratio: the largest scale at which the short side is at most the
// smaller number of target_size, and the long side at most the larger one. Otherwise target_size is (height, width).
inline cv::Size NewSize(const YAML::Node& options, int h, int w) {
  const auto target = options["target_size"].as<std::vector<int>>();
  if (!options["keep_ratio"].as<bool>(true)) return cv::Size(target.at(1), target.at(0));
  const auto [low, high] = std::minmax(target.at(0), target.at(1));
  const double scale = std::min(double(low) / std::min(h, w), double(high) / std::max(h, w));
  return cv::Size(std::max(1, int(scale * w + 0.5)), std::max(1, int(scale * h + 0.5)));
}

inline void Resize(const YAML::Node& options, Input* input) {
  const cv::Size size = NewSize(options, input->height, input->width);
  cv::resize(input->pixels, input->pixels, size, 0, 0, options["interp"].as<int>(cv::INTER_LINEAR));
  input->scale_y *= float(size.height) / input->height;
  input->scale_x *= float(size.width) / input->width;
  input->height = size.height;
  input->width = size.width;
}

// Flags for reading an image of this size. A JPEG that is resized to at most half its size is decoded at 1/2, 1/4 or
// 1/8, as ppdet/data/image_files/jpeg.py decides for training.
inline int ReadFlags(const std::string& path, cv::Size size, const YAML::Node& operations) {
  char start[2] = {};
  std::ifstream(path, std::ios::binary).read(start, 2);
  const bool is_jpeg = start[0] == char(0xFF) && start[1] == char(0xD8);
  const YAML::Node first = operations.size() ? operations[0] : YAML::Node();
  const int h = size.height, w = size.width;
  if (!is_jpeg || !first["type"] || first["type"].as<std::string>() != "Resize" || (h != w && std::abs(h - w) < 8) ||
      first["interp"].as<int>(cv::INTER_LINEAR) == cv::INTER_NEAREST) {
    return cv::IMREAD_COLOR;
  }
  const cv::Size upright = NewSize(first, h, w), turned = NewSize(first, w, h);
  const double room = std::min({double(h) / upright.height, double(w) / upright.width, double(w) / turned.height,
                                double(h) / turned.width});
  const auto fits = [&](int factor) { return factor <= room && h % factor == 0 && w % factor == 0; };
  return fits(8) ? cv::IMREAD_REDUCED_COLOR_8
         : fits(4) ? cv::IMREAD_REDUCED_COLOR_4
         : fits(2) ? cv::IMREAD_REDUCED_COLOR_2
                   : cv::IMREAD_COLOR;
}

inline void Normalize(const YAML::Node& options, Input* input) {
  const double scale = options["is_scale"].as<bool>(true) ? 1.0 / 255 : 1.0;
  input->pixels.convertTo(input->pixels, CV_32FC3, scale);
  if (options["channel_order"].as<std::string>("rgb") == "bgr") {
    cv::cvtColor(input->pixels, input->pixels, cv::COLOR_RGB2BGR);
  }
  if (options["norm_type"].as<std::string>("mean_std") == "none") return;
  const auto mean = options["mean"].as<std::vector<double>>();
  const auto std = options["std"].as<std::vector<double>>();
  input->pixels -= cv::Scalar(mean.at(0), mean.at(1), mean.at(2));
  cv::divide(input->pixels, cv::Scalar(std.at(0), std.at(1), std.at(2)), input->pixels);
}

// Pads at the bottom and on the right to `size`.
inline void Pad(cv::Size size, const cv::Scalar& value, Input* input) {
  const int bottom = size.height - input->pixels.rows, right = size.width - input->pixels.cols;
  if (bottom < 0 || right < 0) throw std::runtime_error("the image does not fit into the model's Pad");
  cv::copyMakeBorder(input->pixels, input->pixels, 0, bottom, 0, right, cv::BORDER_CONSTANT, value);
}

inline void PadStride(const YAML::Node& options, Input* input) {
  const int stride = std::max(1, options["stride"].as<int>(0));
  const auto least = options["size"].as<std::vector<int>>(std::vector<int>{1, 1});
  const auto rounded = [stride](int side) { return (side + stride - 1) / stride * stride; };
  const int h = std::max(least.at(0), input->pixels.rows), w = std::max(least.at(1), input->pixels.cols);
  Pad(cv::Size(rounded(w), rounded(h)), cv::Scalar::all(0), input);
}

// Applies the list Preprocess of infer_cfg.yml, except Permute: the channels come first when the tensor is made.
// `pixels` may be decoded at reduced size; `size` is the size of the image itself.
inline Input Preprocess(const cv::Mat& pixels, cv::Size size, const YAML::Node& operations) {
  Input input;
  cv::cvtColor(pixels, input.pixels, cv::COLOR_BGR2RGB);
  input.height = size.height;
  input.width = size.width;
  for (const auto& operation : operations) {
    const auto type = operation["type"].as<std::string>();
    if (type == "Resize") {
      Resize(operation, &input);
    } else if (type == "NormalizeImage") {
      Normalize(operation, &input);
    } else if (type == "Pad") {
      const auto size = operation["size"].as<std::vector<int>>();
      const auto fill = operation["fill_value"].as<std::vector<double>>(std::vector<double>{114, 114, 114});
      Pad(cv::Size(size.at(1), size.at(0)), cv::Scalar(fill.at(0), fill.at(1), fill.at(2)), &input);
    } else if (type == "PadStride") {
      PadStride(operation, &input);
    } else if (type != "Permute") {
      throw std::runtime_error("infer_cfg.yml: Preprocess has " + type + ", which this example does not know");
    }
  }
  input.pixels.convertTo(input.pixels, CV_32FC3);
  return input;
}

// infer_cfg.yml of an exported folder.
inline YAML::Node ReadSettings(const std::filesystem::path& folder) {
  const YAML::Node settings = YAML::LoadFile((folder / "infer_cfg.yml").string());
  if (settings["output"].as<std::string>("detections") != "detections") {
    throw std::runtime_error("the graph does not end with detections: export it with export.nms true");
  }
  return settings;
}

// Pads to the input size of a graph of fixed size.
inline void FitGraph(const YAML::Node& settings, Input* input) {
  const auto shape = settings["image_shape"];
  if (settings["use_dynamic_shape"].as<bool>(true) || !shape) return;
  const int height = shape[shape.size() - 2].as<int>(), width = shape[shape.size() - 1].as<int>();
  if (input->pixels.rows > height || input->pixels.cols > width) {
    throw std::runtime_error(cv::format("the image is %dx%d after resizing, but the graph takes %dx%d at most",
                                        input->pixels.rows, input->pixels.cols, height, width));
  }
  Pad(cv::Size(width, height), cv::Scalar::all(0), input);
}

// The arrays that the graph takes for one image, by the names of its inputs.
struct Arrays {
  std::vector<float> image;         // (1, 3, height, width)
  int height = 0, width = 0;        // with padding
  std::vector<float> scale_factor;  // (1, 2): y, x
  std::vector<float> im_shape;      // (1, 2): height and width without padding

  std::vector<float>& operator[](const std::string& name) {
    return name == "image" ? image : name == "im_shape" ? im_shape : scale_factor;
  }
};

// `image` is the file at `path`, BGR.
inline Arrays Prepare(const YAML::Node& settings, const std::string& path, const cv::Mat& image) {
  const auto operations = settings["Preprocess"];
  const int flags = ReadFlags(path, image.size(), operations);
  const cv::Mat pixels = flags == cv::IMREAD_COLOR ? image : cv::imread(path, flags);
  Input input = Preprocess(pixels, image.size(), operations);
  FitGraph(settings, &input);
  const int h = input.pixels.rows, w = input.pixels.cols;
  Arrays arrays{std::vector<float>(size_t(3) * h * w), h, w, {input.scale_y, input.scale_x},
                {float(input.height), float(input.width)}};
  // Channels first: the planes are views of the image's values.
  std::vector<cv::Mat> planes;
  for (int i = 0; i < 3; ++i) planes.emplace_back(h, w, CV_32FC1, arrays.image.data() + size_t(i) * h * w);
  cv::split(input.pixels, planes);
  return arrays;
}

// Detections from `count` rows of class, score, x1, y1, x2, y2.
inline std::vector<Detection> ReadRows(const float* v, size_t count) {
  std::vector<Detection> found;
  for (; count > 0; --count, v += 6) {
    if (v[0] >= 0) found.push_back({int(v[0]), v[1], v[2], v[3], v[4], v[5]});
  }
  return found;
}

inline std::string Name(const YAML::Node& settings, int label) {
  const auto names = settings["label_list"];
  return names && size_t(label) < names.size() ? names[label].as<std::string>() : std::to_string(label);
}

// The least score of a class that infer_cfg.yml says: in class_thresholds by its name, or else draw_threshold.
inline float Threshold(const YAML::Node& settings, const std::string& name) {
  const auto by_class = settings["class_thresholds"];
  if (by_class.IsDefined() && by_class.IsMap() && by_class[name]) return by_class[name].as<float>();
  return settings["draw_threshold"].as<float>(0.5f);
}

inline void Draw(const Detection& found, const std::string& name, cv::Mat* picture) {
  // Steps of the golden ratio around the color circle give every class a hue of its own.
  cv::Mat color(1, 1, CV_8UC3, cv::Scalar(int(found.label * 0.61803398875 * 180) % 180, 217, 242));
  cv::cvtColor(color, color, cv::COLOR_HSV2BGR);
  const auto pixel = color.at<cv::Vec3b>(0, 0);
  const cv::Scalar bgr(pixel[0], pixel[1], pixel[2]);
  cv::rectangle(*picture, cv::Point2f(found.x1, found.y1), cv::Point2f(found.x2, found.y2), bgr, 2);
  const cv::Point2f corner(found.x1, std::max(12.0f, found.y1 - 4));
  // OpenCV 4 draws question marks for characters that are not ASCII.
  const bool ascii = std::all_of(name.begin(), name.end(), [](unsigned char c) { return c < 128; });
  const std::string text = ascii ? name : "class " + std::to_string(int(found.label));
  cv::putText(*picture, text + cv::format(" %.2f", found.score), corner, cv::FONT_HERSHEY_SIMPLEX, 0.45, bgr, 1,
              cv::LINE_AA);
}

inline Arguments Parse(int count, char** values) {
  Arguments arguments;
  std::vector<std::string> places;
  for (int i = 1; i < count; ++i) {
    const std::string text = values[i];
    const auto value = [&]() -> std::string {
      if (++i == count) throw std::invalid_argument(text + " needs a value");
      return values[i];
    };
    const auto number = [&]() -> float {
      try {
        return std::stof(value());
      } catch (const std::logic_error&) {
        throw std::invalid_argument(text + " needs a number");
      }
    };
    if (text == "--output") {
      arguments.output = value();
    } else if (text == "--threshold") {
      arguments.threshold = number();
    } else if (text == "--threads") {
      arguments.threads = std::max(1, int(number()));
    } else if (text == "--gpu") {
      arguments.gpu = true;
    } else if (text.rfind("--", 0) == 0) {
      throw std::invalid_argument("unknown option " + text);
    } else {
      places.push_back(text);
    }
  }
  if (places.size() != 2) {
    throw std::invalid_argument(
        "usage: detect MODEL_DIR IMAGE [--output FILE] [--threshold SCORE] [--threads N] [--gpu]");
  }
  arguments.model_dir = places[0];
  arguments.image = places[1];
  return arguments;
}

// Detects in the image that the command line names, prints a line per detection, and writes the picture.
template <class Detector>
void Run(const Arguments& arguments) {
  cv::Mat image = cv::imread(arguments.image, cv::IMREAD_COLOR);
  if (image.empty()) throw std::runtime_error(arguments.image + ": not a readable image");
  const YAML::Node settings = ReadSettings(arguments.model_dir);
  Detector detector(arguments);
  Arrays arrays = Prepare(settings, arguments.image, image);
  auto found = detector.Detect(&arrays);
  // Boxes with high scores are drawn last, on top.
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.score < b.score; });
  for (const auto& one : found) {
    const std::string name = Name(settings, one.label);
    if (one.score < (arguments.threshold ? *arguments.threshold : Threshold(settings, name))) continue;
    std::printf("%s %.5f %.3f %.3f %.3f %.3f\n", name.c_str(), one.score, one.x1, one.y1, one.x2, one.y2);
    Draw(one, name, &image);
  }
  if (!arguments.output.empty() && !cv::imwrite(arguments.output, image)) {
    throw std::runtime_error(arguments.output + ": cannot be written");
  }
}

// The whole program: an error is one line and exit code 2.
template <class Detector>
int Main(int count, char** values) {
  try {
    Run<Detector>(Parse(count, values));
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << std::endl;
    return 2;
  }
  return 0;
}

}  // namespace example

#endif  // PPDET_DEPLOY_CPP_EXAMPLE_H_
