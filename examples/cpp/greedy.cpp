// Greedy decoding of token ids with ONNX Runtime's C++ interface.
//
//     greedy MODEL.onnx COUNT ID...
//
// Prints the COUNT tokens that follow the given ones, always the likeliest. The cache is handed to the
// graph as what was (past) and as what will be (present): so it appends in place, and no step copies
// keys or values.

#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cstdint>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

using Ids = std::vector<std::int64_t>;

template <typename Number>
Ort::Value tensor(std::vector<Number>& numbers, const Ids& shape) {
    static const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    return Ort::Value::CreateTensor<Number>(memory, numbers.data(), numbers.size(), shape.data(), shape.size());
}

class Decoder {
public:
    Decoder(Ort::Env& env, const std::string& path, std::int64_t room)
        : session_(env, path.c_str(), Ort::SessionOptions()), mask_(room) {
        Ort::AllocatorWithDefaultOptions allocator;
        for (std::size_t i = 0; i < session_.GetInputCount(); ++i) {
            const std::string name = session_.GetInputNameAllocated(i, allocator).get();
            if (name.rfind("past_key_values.", 0) != 0) continue;
            pasts_.push_back(name);
            presents_.push_back("present" + name.substr(name.find('.')));
            auto shape = session_.GetInputTypeInfo(i).GetTensorTypeAndShapeInfo().GetShape();
            shape_ = {1, shape.at(1), room, shape.at(3)};
        }
        if (pasts_.empty()) throw std::runtime_error(path + " is no graph of PocketGPT's: it takes no past_key_values");
        cache_.assign(pasts_.size(), std::vector<float>(shape_[1] * shape_[2] * shape_[3]));
    }

    // Append tokens to the text; return the token that is likeliest to follow.
    std::int64_t append(Ids tokens) {
        const Ids row{1, static_cast<std::int64_t>(tokens.size())};
        Ids positions(tokens.size());
        for (auto& position : positions) {
            position = held_;
            mask_.at(held_++) = 1;
        }
        Ids seen(mask_.begin(), mask_.begin() + held_);
        std::vector<const char*> given{"input_ids", "position_ids", "attention_mask"}, wanted{"logits"};
        std::vector<Ort::Value> inputs, outputs;
        inputs.push_back(tensor(tokens, row));
        inputs.push_back(tensor(positions, row));
        inputs.push_back(tensor(seen, {1, held_}));
        outputs.emplace_back(nullptr);  // the logits: ONNX Runtime makes room for them
        for (std::size_t i = 0; i < cache_.size(); ++i) {
            given.push_back(pasts_[i].c_str());
            wanted.push_back(presents_[i].c_str());
            inputs.push_back(tensor(cache_[i], shape_));
            outputs.push_back(tensor(cache_[i], shape_));
        }
        session_.Run(Ort::RunOptions(), given.data(), inputs.data(), inputs.size(), wanted.data(), outputs.data(),
                     outputs.size());
        const float* logits = outputs.front().GetTensorData<float>();
        const auto count = outputs.front().GetTensorTypeAndShapeInfo().GetElementCount();
        return std::max_element(logits, logits + count) - logits;
    }

private:
    Ort::Session session_;
    Ids mask_, shape_;
    std::int64_t held_ = 0;
    std::vector<std::string> pasts_, presents_;
    std::vector<std::vector<float>> cache_;
};

int main(int argc, char** argv) {
    if (argc < 4) {
        std::cerr << "usage: greedy MODEL.onnx COUNT ID...\n";
        return 2;
    }
    try {
        Ids tokens;
        const auto count = std::stoll(argv[2]);
        for (int i = 3; i < argc; ++i) tokens.push_back(std::stoll(argv[i]));
        Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "greedy");
        Decoder decoder(env, argv[1], static_cast<std::int64_t>(tokens.size()) + count);
        for (std::int64_t i = 0; i < count; ++i) {
            tokens = {decoder.append(tokens)};
            std::cout << tokens.front() << (i + 1 < count ? ' ' : '\n') << std::flush;
        }
    } catch (const std::exception& error) {
        std::cerr << "greedy: " << error.what() << '\n';
        return 1;
    }
}
