import Foundation

/// The tensors of a safetensors file whose names begin with `prefix`: a length, a table in JSON, the bytes.
public func readSafetensors(_ file: URL, prefix: String) throws -> [String: Tensor] {
    let data = try Data(contentsOf: file)
    guard data.count > 8 else { throw Fault(description: "\(file.lastPathComponent) is cut short") }
    let length = data.prefix(8).enumerated().reduce(0) { $0 | Int($1.element) << (8 * $1.offset) }
    guard length > 0, length <= data.count - 8,
        let table = try JSONSerialization.jsonObject(with: data[8..<8 + length]) as? [String: Any]
    else { throw Fault(description: "\(file.lastPathComponent) is no safetensors file") }
    var found: [String: Tensor] = [:]
    for (key, entry) in table where key.hasPrefix(prefix) {
        guard let entry = entry as? [String: Any], let shape = entry["shape"] as? [Int],
            let span = entry["data_offsets"] as? [Int], let type = entry["dtype"] as? String, span.count == 2,
            0 <= span[0], span[0] <= span[1], span[1] <= data.count - 8 - length
        else { throw Fault(description: "\(file.lastPathComponent) has no sound entry for \(key)") }
        let bytes = Data(data[8 + length + span[0]..<8 + length + span[1]])
        found[String(key.dropFirst(prefix.count))] = try Tensor(shape: shape, values: numbers(bytes, type, key))
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
    case "I64": return read(Int64.self).map { Float($0) }
    case "I32": return read(Int32.self).map { Float($0) }
    case "U8": return read(UInt8.self).map { Float($0) }
    default: throw Fault(description: "\(key) has the type \(type), which this host does not read")
    }
}
