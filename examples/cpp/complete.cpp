// complete FOLDER VARIANT TOKENS ID...: print the ids of the tokens that follow, always the likeliest.
//
// ONNX Runtime's C++ interface, with the cache in place: past and present are one buffer, to which the
// graph appends, so a step computes one token and copies nothing.
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <numeric>
#include <regex>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using Ids = std::vector<int64_t>;

template <typename Number>
Ort::Value tensor(std::vector<Number>& numbers, const Ids& shape) {  // of this very memory
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    return Ort::Value::CreateTensor<Number>(memory, numbers.data(), numbers.size(), shape.data(), shape.size());
}

Ort::Value row(Ids& numbers) { return tensor(numbers, {1, static_cast<int64_t>(numbers.size())}); }

class Model {
public:
    Model(const std::string& folder, const std::string& variant)
        : session_(env_, path(folder, variant).c_str(), options()), end_(end_of_text(folder)) {
        Ort::AllocatorWithDefaultOptions allocator;
        for (size_t i = 0; i < session_.GetInputCount(); ++i) {
            const std::string name = session_.GetInputNameAllocated(i, allocator).get();
            if (name.rfind("past_key_values.", 0) != 0) continue;
            const auto type = session_.GetInputTypeInfo(i);
            shape_ = type.GetTensorTypeAndShapeInfo().GetShape();  // [1, heads, positions, head size]
            if (type.GetTensorTypeAndShapeInfo().GetElementType() != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT)
                throw std::runtime_error("the cache is not in 32 bits: take fp32, int8, q8 or q4");
            inputs_.push_back(name);
            outputs_.push_back("present" + name.substr(std::string("past_key_values").size()));
        }
        const auto metadata = session_.GetModelMetadata();
        const auto positions = metadata.LookupCustomMetadataMapAllocated("pocketgpt.n_positions", allocator);
        if (!positions || inputs_.empty()) throw std::runtime_error("no graph that PocketGPT exported");
        shape_[0] = 1;
        shape_[2] = std::stoll(positions.get());
        const size_t size = shape_[1] * shape_[2] * shape_[3];
        cache_.assign(inputs_.size(), std::vector<float>(size));
    }

    // The ids after a prompt: so many, or fewer where the text or the context ends.
    Ids complete(const Ids& prompt, size_t tokens) {
        const auto positions = static_cast<size_t>(shape_[2]);
        if (prompt.empty() || prompt.size() > positions)
            throw std::runtime_error("the prompt should have 1 to " + std::to_string(positions) + " ids");
        Ids made, chunk = prompt, mask(positions, 0);
        size_t held = 0;
        while (made.size() < tokens && prompt.size() + made.size() < positions) {
            std::fill_n(mask.begin() + held, chunk.size(), 1);
            const int64_t next = step(chunk, held, mask);
            held += chunk.size();
            made.push_back(next);
            if (next == end_) break;
            chunk = {next};
        }
        return made;
    }

private:
    int64_t step(Ids& chunk, size_t held, Ids& mask) {
        Ids places(chunk.size());
        std::iota(places.begin(), places.end(), held);
        std::vector<const char*> in{"input_ids", "position_ids", "attention_mask"}, out{"logits"};
        std::vector<Ort::Value> fed, found;
        fed.push_back(row(chunk));
        fed.push_back(row(places));
        fed.push_back(row(mask));
        found.emplace_back(nullptr);  // allocated by the session
        for (size_t i = 0; i < cache_.size(); ++i) {
            in.push_back(inputs_[i].c_str());
            out.push_back(outputs_[i].c_str());
            fed.push_back(tensor(cache_[i], shape_));
            found.push_back(tensor(cache_[i], shape_));
        }
        session_.Run(Ort::RunOptions{nullptr}, in.data(), fed.data(), in.size(), out.data(), found.data(), out.size());
        const float* logits = found[0].GetTensorData<float>();  // of the last token alone
        const size_t vocabulary = found[0].GetTensorTypeAndShapeInfo().GetElementCount();
        return std::max_element(logits, logits + vocabulary) - logits;
    }

    static std::string path(const std::string& folder, const std::string& variant) {
        const std::string suffix = variant == "fp32" ? "" : variant == "q8" ? "_quantized" : "_" + variant;
        return folder + "/onnx/model" + suffix + ".onnx";
    }

    static Ort::SessionOptions options() {
        Ort::SessionOptions options;
        options.SetLogSeverityLevel(3);
        return options;
    }

    static int64_t end_of_text(const std::string& folder) {
        std::ifstream file(folder + "/config.json");
        const std::string text{std::istreambuf_iterator<char>(file), {}};
        std::smatch found;
        return std::regex_search(text, found, std::regex("\"eos_token_id\":\\s*(\\d+)")) ? std::stoll(found[1]) : -1;
    }

    Ort::Env env_{ORT_LOGGING_LEVEL_ERROR, "complete"};
    Ort::Session session_;
    int64_t end_;
    Ids shape_;
    std::vector<std::string> inputs_, outputs_;
    std::vector<std::vector<float>> cache_;
};

}  // namespace

int main(int count, char** arguments) {
    const std::vector<std::string> given(arguments + 1, arguments + count);
    if (given.size() < 4) {
        std::cerr << "complete FOLDER VARIANT TOKENS ID...\n";
        return 2;
    }
#ifndef _WIN32
    setenv("ORT_DISABLE_TELEMETRY", "1", 0);  // before the library's first call
#endif
    try {
        Ids prompt;
        std::transform(given.begin() + 3, given.end(), std::back_inserter(prompt), [](auto& id) { return std::stoll(id); });
        for (const int64_t id : Model(given[0], given[1]).complete(prompt, std::stoul(given[2]))) std::cout << id << ' ';
        std::cout << '\n';
    } catch (const std::exception& error) {
        std::cerr << "complete: " << error.what() << '\n';
        return 1;
    }
    return 0;
}
