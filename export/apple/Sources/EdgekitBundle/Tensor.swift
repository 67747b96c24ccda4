import Foundation

/// What a user is told, in a sentence.
public struct Fault: Error, CustomStringConvertible {
    public let description: String

    public init(description: String) { self.description = description }
}

/// From `lowerBound` to before `upperBound`, along each dimension.
public typealias Box = [Range<Int>]

/// Elements in C order, as single-precision numbers whatever type a model has at its doors.
public struct Tensor {
    public let shape: [Int]
    public internal(set) var values: [Float]

    public init(shape: [Int], values: [Float]) throws {
        guard shape.reduce(1, *) == values.count else {
            throw Fault(description: "\(values.count) numbers are no tensor of the shape \(shape)")
        }
        self.shape = shape
        self.values = values
    }

    static func zeros(_ shape: [Int]) throws -> Tensor {
        try Tensor(shape: shape, values: [Float](repeating: 0, count: shape.reduce(1, *)))
    }

    var whole: Box { shape.map { 0..<$0 } }

    /// The box as a tensor of its own, or this one where the box is all of it.
    func part(_ box: Box) throws -> Tensor {
        if box == whole { return self }
        var copied: [Float] = []
        copied.reserveCapacity(box.reduce(1) { $0 * $1.count })
        for row in try rows(box) { copied.append(contentsOf: values[row]) }
        return try Tensor(shape: box.map(\.count), values: copied)
    }

    mutating func put(_ part: Tensor, at box: Box) throws {
        guard part.shape == box.map(\.count) else {
            throw Fault(description: "a model gave the shape \(part.shape) for the box \(box)")
        }
        var start = 0
        for row in try rows(box) {
            values.replaceSubrange(row, with: part.values[start..<start + row.count])
            start += row.count
        }
    }

    /// Where the rows of a box lie among the values, in order.
    private func rows(_ box: Box) throws -> [Range<Int>] {
        let fits = box.count == shape.count && zip(box, shape).allSatisfy { $0.lowerBound >= 0 && $0.upperBound <= $1 }
        guard fits, let last = box.last else {
            throw Fault(description: "the box \(box) is not within the shape \(shape)")
        }
        var starts = [0]
        for (span, size) in zip(box, shape).dropLast() {
            starts = starts.flatMap { start in span.map { start * size + $0 } }
        }
        let width = shape[shape.count - 1]
        return starts.map { $0 * width + last.lowerBound..<$0 * width + last.upperBound }
    }
}
