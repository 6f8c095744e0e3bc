// Predicts an image with an ONNX export by OpenCV 4.5 or later. Export with
//     --formats=onnx --onnx_for=opencv4 --export_probabilities=false
//
//     g++ -O2 examples/segment.cpp -o segment $(pkg-config --cflags --libs opencv4)
//     ./segment model.onnx 513 513 127.5 photo.jpg mask.png
//
// The numbers are height and width of the file's input and the color that pads smaller images: "padded_to" and
// "padding_color" in metadata.json (one number, or three separated by commas).
#include <algorithm>
#include <cstdio>
#include <exception>
#include <iostream>
#include <opencv2/dnn.hpp>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#include <stdexcept>
#include <string>

int segment(char** words) {
    const int height = std::stoi(words[2]), width = std::stoi(words[3]);
    double red, green, blue;
    if (std::sscanf(words[4], "%lf,%lf,%lf", &red, &green, &blue) != 3) {
        red = green = blue = std::stod(words[4]);
    }
    cv::Mat image = cv::imread(words[5], cv::IMREAD_COLOR);
    if (image.empty()) {
        std::cerr << "error: cannot read " << words[5] << "\n";
        return 1;
    }
    cv::cvtColor(image, image, cv::COLOR_BGR2RGB);
    const double scale = std::min({1.0, double(height) / image.rows, double(width) / image.cols});
    if (scale < 1) {  // a larger image is shrunk to fit
        const cv::Size size(std::max(1, cvRound(scale * image.cols)), std::max(1, cvRound(scale * image.rows)));
        cv::resize(image, image, size, 0, 0, cv::INTER_AREA);
    }
    cv::Mat padded(height, width, CV_32FC3, cv::Scalar(red, green, blue));
    cv::Mat part = padded(cv::Rect(0, 0, image.cols, image.rows));
    image.convertTo(part, CV_32FC3);

    const int input_shape[] = {1, height, width, 3};
    cv::dnn::Net net = cv::dnn::readNetFromONNX(words[1]);
    net.setInput(cv::Mat(4, input_shape, CV_32F, padded.data), "image");
    cv::Mat output = net.forward("SemanticPredictions");  // [1, height, width]

    const cv::Mat found(height, width, output.type(), output.data);
    double largest;
    cv::minMaxLoc(found, nullptr, &largest);
    cv::Mat labels;
    found.convertTo(labels, largest < 256 ? CV_8U : CV_16U);
    if (!cv::imwrite(words[6], labels(cv::Rect(0, 0, image.cols, image.rows)))) {
        std::cerr << "error: cannot write " << words[6] << "\n";
        return 1;
    }
    return 0;
}

int main(int count, char** words) {
    if (count != 7) {
        std::cerr << "usage: segment MODEL HEIGHT WIDTH PADDING PHOTO MASK\n";
        return 2;
    }
    try {
        return segment(words);
    } catch (const std::invalid_argument&) {
        std::cerr << "error: HEIGHT, WIDTH and PADDING must be numbers\n";
        return 2;
    } catch (const std::exception& error) {  // such as a model that OpenCV cannot read
        std::cerr << "error: " << error.what() << "\n";
        return 1;
    }
}
