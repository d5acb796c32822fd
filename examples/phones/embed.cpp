// g++ -std=c++17 embed.cpp -I INCLUDE -L LIB -lonnxruntime, with a release of onnxruntime for C
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>
#include "onnxruntime_c_api.h"

static const OrtApi* api = OrtGetApiBase()->GetApi(ORT_API_VERSION);

static void check(OrtStatus* status) {
  if (status == nullptr) return;
  std::fprintf(stderr, "%s\n", api->GetErrorMessage(status));
  std::exit(1);
}

// embed MODEL ID...: the vector of a text whose token ids are known, one number a line
int main(int count, char** given) {
  if (count < 3) {
    std::fprintf(stderr, "usage: embed MODEL ID...\n");
    return 2;
  }
  OrtEnv* env;
  OrtSessionOptions* options;
  OrtSession* session;
  OrtMemoryInfo* memory;
  check(api->CreateEnv(ORT_LOGGING_LEVEL_WARNING, "edge_embed", &env));
  check(api->CreateSessionOptions(&options));
  check(api->SetIntraOpNumThreads(options, 1));
  check(api->CreateSession(env, given[1], options, &session));  // on Windows the path is wchar_t
  check(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));

  std::vector<int64_t> ids, mask;
  for (int i = 2; i < count; i++) ids.push_back(std::stoll(given[i])), mask.push_back(1);
  const int64_t shape[] = {1, static_cast<int64_t>(ids.size())};
  const size_t bytes = ids.size() * sizeof(int64_t);
  OrtValue *inputs[2], *output = nullptr;
  const auto kind = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
  check(api->CreateTensorWithDataAsOrtValue(memory, ids.data(), bytes, shape, 2, kind, &inputs[0]));
  check(api->CreateTensorWithDataAsOrtValue(memory, mask.data(), bytes, shape, 2, kind, &inputs[1]));
  const char* names[] = {"input_ids", "attention_mask"};
  const char* wanted[] = {"embedding"};
  check(api->Run(session, nullptr, names, inputs, 2, wanted, 1, &output));

  OrtTensorTypeAndShapeInfo* info;
  size_t dim;
  float* vector;
  check(api->GetTensorTypeAndShape(output, &info));
  check(api->GetTensorShapeElementCount(info, &dim));
  check(api->GetTensorMutableData(output, reinterpret_cast<void**>(&vector)));
  for (size_t i = 0; i < dim; i++) std::printf("%.6f\n", vector[i]);
}
