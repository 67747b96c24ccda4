import Foundation

/// Whether the outputs of the golden input are what the bundle promises, by the rules of the runner for boards.
public struct GoldenCheck {
    public struct Row {
        public let name: String
        /// 999 if identical, nil if not comparable.
        public let decibels: Double?
        public let largestError: Double?
        public let passed: Bool
    }

    public let gateDecibels: Double
    public let rows: [Row]
    public var passed: Bool { !rows.isEmpty && rows.allSatisfy(\.passed) }

    public init(_ manifest: Manifest, expected: [String: Tensor], found: [String: Tensor]) throws {
        let gate = manifest.gate
        let least = gate.detections?.decibels ?? gate.decibels
        let rowsMayMove = manifest.suppression != nil  // rows of near scores may change places
        gateDecibels = least
        rows = try manifest.outputs.filter { !rowsMayMove || $0.name == "scores" }.map { door -> Row in
            guard let wanted = expected[door.name] else {
                throw Fault(description: "the golden pair has no '\(door.name)'; copy the bundle again")
            }
            guard let got = found[door.name], got.shape == wanted.shape, got.values.allSatisfy(\.isFinite) else {
                return Row(name: door.name, decibels: nil, largestError: nil, passed: false)
            }
            var pairs = Array(zip(wanted.values, got.values))
            if rowsMayMove {
                pairs = Array(zip(wanted.values.sorted(), got.values.sorted()))
            } else if gate.detections != nil && door.name == "scores" {
                let shown = pairs.filter { $0.0 != 0 }
                guard shown.count <= 2 * shown.filter({ $0.1 != 0 }).count else {  // most of them
                    return Row(name: door.name, decibels: nil, largestError: nil, passed: false)
                }
                pairs = pairs.filter { ($0.0 == 0) == ($0.1 == 0) }  // a peak that falls the other way is a decision, no error
            }
            return Self.judged(door, pairs, leastDecibels: least, integersDiffer: gate.integersDiffer)
        }
    }

    private static func judged(
        _ door: Door, _ pairs: [(Float, Float)], leastDecibels: Double, integersDiffer: Double
    ) -> Row {
        var squares = 0.0
        var largest = 0.0
        var furthest = 0.0
        for (wanted, got) in pairs {
            let off = abs(Double(got) - Double(wanted))
            squares += off * off
            furthest = max(furthest, off)
            largest = max(largest, abs(Double(wanted)))
        }
        var peak = largest > 0 ? largest : 1
        if let low = door.low, let high = door.high, high > low { peak = high - low }
        let decibels = squares > 0 ? 20 * log10(peak) - 10 * log10(squares / Double(pairs.count)) : 999
        let passed: Bool
        if door.dtype.hasPrefix("float") {
            passed = decibels >= leastDecibels
        } else {
            passed = Double(pairs.filter { $0.0 != $0.1 }.count) <= integersDiffer * Double(pairs.count)
        }
        return Row(name: door.name, decibels: decibels, largestError: furthest, passed: passed)
    }
}
