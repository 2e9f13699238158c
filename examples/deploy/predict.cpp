// Predicts one picture with an exported network (`unisal export --format=onnx`), without Python.
//
//     predict NETWORK.onnx PICTURE.ppm MAP.pgm [float32]
//
// reads a binary PPM (P6, 8 bits), writes the density divided by its highest value as a binary PGM
// of the same size, and prints the place of the highest value. OpenVINO computes in bfloat16 where
// the processor has it, unless the fourth argument says otherwise.

#include <algorithm>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include <openvino/openvino.hpp>

struct Picture {
    size_t width = 0, height = 0;
    std::vector<uint8_t> rgb;  // row by row, three levels for each pixel
};

Picture read_ppm(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string kind;
    size_t levels = 0;
    Picture picture;
    file >> kind >> picture.width >> picture.height >> levels;
    if (!file || kind != "P6" || levels != 255) {
        throw std::runtime_error(path + " is no binary PPM of 8 bits");
    }
    file.get();  // the white space after the header
    picture.rgb.resize(3 * picture.width * picture.height);
    if (!file.read(reinterpret_cast<char*>(picture.rgb.data()), picture.rgb.size())) {
        throw std::runtime_error(path + " ends too early");
    }
    return picture;
}

void write_pgm(const std::string& path, const std::vector<uint8_t>& grey, const Picture& picture) {
    std::ofstream file(path, std::ios::binary);
    file << "P5\n" << picture.width << " " << picture.height << "\n255\n";
    file.write(reinterpret_cast<const char*>(grey.data()), grey.size());
    if (!file.flush()) {
        throw std::runtime_error(path + " cannot be written");
    }
}

int run(const std::vector<std::string>& arguments) {
    if (arguments.size() < 3) {
        std::cerr << "predict NETWORK.onnx PICTURE.ppm MAP.pgm [float32]\n";
        return 2;
    }
    Picture picture = read_ppm(arguments[1]);
    ov::AnyMap options;
    if (arguments.size() > 3 && arguments[3] == "float32") {
        options[ov::hint::inference_precision.name()] = ov::element::f32;
    }
    ov::Core core;
    ov::InferRequest request =
        core.compile_model(arguments[0], "CPU", options).create_infer_request();

    // One picture, [batch, height, width, 3] uint8; nothing is copied.
    ov::Shape shape{1, picture.height, picture.width, 3};
    request.set_tensor("picture", ov::Tensor(ov::element::u8, shape, picture.rgb.data()));
    request.infer();

    // [batch, height, width] float32, which sums to 1.
    const float* density = request.get_tensor("density").data<float>();
    size_t n = picture.width * picture.height;
    const float* highest = std::max_element(density, density + n);
    std::vector<uint8_t> grey(n);
    for (size_t i = 0; i < n; ++i) {
        grey[i] = static_cast<uint8_t>(255 * density[i] / *highest + 0.5f);
    }
    write_pgm(arguments[2], grey, picture);
    size_t place = highest - density;
    std::cout << "highest at x " << place % picture.width << ", y " << place / picture.width << "\n";
    return 0;
}

int main(int argc, char** argv) {
    try {
        return run(std::vector<std::string>(argv + 1, argv + argc));
    } catch (const std::exception& error) {
        std::cerr << error.what() << "\n";
        return 1;
    }
}
