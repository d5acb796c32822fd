// Package.swift: https://github.com/microsoft/onnxruntime-swift-package-manager (product onnxruntime)
import Foundation
import OnnxRuntimeBindings

/// The model of a bundle. Ids of a text come from a tokenizer that reads tokenizer.json (see docs/phones.md).
final class Model {
    private let environment: ORTEnv
    private let session: ORTSession

    /// path: of model.onnx
    init(path: String) throws {
        environment = try ORTEnv(loggingLevel: .warning)
        let options = try ORTSessionOptions()
        try options.setIntraOpNumThreads(2)
        session = try ORTSession(env: environment, modelPath: path, sessionOptions: options)
    }

    /// A vector of length 1.
    func encode(_ ids: [Int64]) throws -> [Float] {
        let inputs = [
            "input_ids": try tensor(ids),
            "attention_mask": try tensor(Array(repeating: 1, count: ids.count)),
        ]
        let outputs = try session.run(withInputs: inputs, outputNames: ["embedding"], runOptions: nil)
        let data = try outputs["embedding"]!.tensorData() as Data
        return data.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
    }

    private func tensor(_ numbers: [Int64]) throws -> ORTValue {
        let data = numbers.withUnsafeBufferPointer { NSMutableData(data: Data(buffer: $0)) }
        let shape: [NSNumber] = [1, NSNumber(value: numbers.count)]
        return try ORTValue(tensorData: data, elementType: .int64, shape: shape)
    }
}
