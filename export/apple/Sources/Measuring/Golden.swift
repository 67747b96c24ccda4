import CoreML
import CryptoKit
import Foundation

public struct Fault: Error, CustomStringConvertible {
    public let description: String
}

/// A tensor of a bundle's golden pair, as single-precision numbers.
struct Tensor {
    let shape: [Int]
    let values: [Float]

    /// For a model's input, in the type that it declares.
    func array(as type: MLMultiArrayDataType) throws -> MLMultiArray {
        let array = try MLMultiArray(shape: shape.map { NSNumber(value: $0) }, dataType: type)
        for (index, value) in values.enumerated() { array[index] = NSNumber(value: value) }
        return array
    }
}

/// The tensors of a safetensors file whose names begin with `prefix`: a length, a table in JSON, the bytes.
func readGolden(_ file: URL, prefix: String) throws -> [String: Tensor] {
    let data = try Data(contentsOf: file)
    guard data.count > 8 else { throw Fault(description: "\(file.path) is cut short") }
    let length = data.prefix(8).enumerated().reduce(0) { $0 | Int($1.element) << (8 * $1.offset) }
    guard length > 0, 8 + length <= data.count,
        let table = try JSONSerialization.jsonObject(with: data[8..<8 + length]) as? [String: Any]
    else { throw Fault(description: "\(file.path) is no safetensors file") }
    var found: [String: Tensor] = [:]
    for (key, entry) in table where key.hasPrefix(prefix) {
        guard let entry = entry as? [String: Any], let shape = entry["shape"] as? [Int],
            let span = entry["data_offsets"] as? [Int], let type = entry["dtype"] as? String, span.count == 2,
            8 + length + span[1] <= data.count
        else { throw Fault(description: "\(file.path) has no sound entry for \(key)") }
        let bytes = Data(data[8 + length + span[0]..<8 + length + span[1]])
        found[String(key.dropFirst(prefix.count))] = Tensor(shape: shape, values: try numbers(bytes, type, key))
    }
    return found
}

private func numbers(_ bytes: Data, _ type: String, _ key: String) throws -> [Float] {
    func read<Element>(_: Element.Type) -> [Element] {
        bytes.withUnsafeBytes { raw in
            (0..<raw.count / MemoryLayout<Element>.stride).map {
                raw.loadUnaligned(fromByteOffset: $0 * MemoryLayout<Element>.stride, as: Element.self)
            }
        }
    }
    switch type {
    case "F32": return read(Float.self)
    case "I64": return read(Int64.self).map(Float.init)
    case "I32": return read(Int32.self).map(Float.init)
    case "U8": return read(UInt8.self).map(Float.init)
    default: throw Fault(description: "\(key) has the type \(type), which this tool does not read")
    }
}

/// Decibels against the declared range, or the largest magnitude expected; 999 if identical, nil if not comparable.
func decibels(_ expected: Tensor, _ found: MLMultiArray, span: Double?) -> Double? {
    let values = MLShapedArray<Float>(converting: found).scalars
    guard values.count == expected.values.count, values.allSatisfy(\.isFinite) else { return nil }
    var squares = 0.0
    var largest = 0.0
    for (wanted, got) in zip(expected.values, values) {
        squares += pow(Double(got) - Double(wanted), 2)
        largest = max(largest, abs(Double(wanted)))
    }
    guard squares > 0 else { return 999 }
    let peak = span ?? (largest > 0 ? largest : 1)
    return 20 * log10(peak) - 10 * log10(squares / Double(values.count))
}

func requireUnchanged(_ bundle: URL, _ files: [String: String]) throws {
    for (name, digest) in files {
        let data = try Data(contentsOf: bundle.appendingPathComponent(name))
        let found = SHA256.hash(data: data).map { String(format: "%02x", $0) }.joined()
        if found != digest { throw Fault(description: "\(name) is not the file that was exported; copy it again") }
    }
}
