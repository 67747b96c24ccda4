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
        try self.init(
            doors: manifest.outputs, gate: manifest.gate, suppression: manifest.suppression, expected: expected, found: found)
    }

    init(doors: [Door], gate: Gate, suppression: Suppression?, expected: [String: Tensor], found: [String: Tensor]) throws {
        let least = gate.detections?.decibels ?? gate.decibels
        gateDecibels = least
        if let suppression = suppression {
            rows = try Self.boxRows(doors, gate, suppression, expected, found, leastDecibels: least)
            return
        }
        rows = try doors.map { door -> Row in
            let wanted = try Self.golden(door, expected)
            guard let got = found[door.name], Self.areComparable(wanted, got) else { return Self.unmeasured(door) }
            var pairs = Array(zip(wanted.values, got.values))
            if gate.detections != nil && door.name == "scores" {
                let shown = pairs.filter { $0.0 != 0 }
                guard shown.count <= 2 * shown.filter({ $0.1 != 0 }).count else {  // most of them
                    return Self.unmeasured(door)
                }
                pairs = pairs.filter { ($0.0 == 0) == ($0.1 == 0) }  // a peak that falls the other way is a decision, no error
            }
            return Self.judged(door, pairs, leastDecibels: least, integersDiffer: gate.integersDiffer)
        }
    }

    /// Of a file that suppresses by itself, whose rows of near scores may change places: by boxes that belong together.
    private static func boxRows(
        _ doors: [Door], _ gate: Gate, _ suppression: Suppression, _ expected: [String: Tensor], _ found: [String: Tensor],
        leastDecibels: Double
    ) throws -> [Row] {
        let areComparable = try doors.allSatisfy { door in
            let wanted = try golden(door, expected)
            return found[door.name].map { Self.areComparable(wanted, $0) } ?? false
        }
        guard areComparable, let asked = gate.detections,
            let boxes = MatchedBoxes(expected: expected, found: found, gate: asked, within: suppression)
        else { return doors.map(unmeasured) }
        return doors.map { door in
            if door.name == "labels" && !boxes.isComplete { return unmeasured(door) }
            let row = judged(
                door, boxes.values(door.name), leastDecibels: leastDecibels, integersDiffer: gate.integersDiffer)
            let passed = row.passed && boxes.isNear(door.name)
            return Row(name: row.name, decibels: row.decibels, largestError: row.largestError, passed: passed)
        }
    }

    private static func golden(_ door: Door, _ expected: [String: Tensor]) throws -> Tensor {
        guard let wanted = expected[door.name] else {
            throw Fault(description: "the golden pair has no '\(door.name)'; copy the bundle again")
        }
        return wanted
    }

    private static func areComparable(_ wanted: Tensor, _ got: Tensor) -> Bool {
        got.shape == wanted.shape && got.values.allSatisfy(\.isFinite)
    }

    private static func unmeasured(_ door: Door) -> Row {
        Row(name: door.name, decibels: nil, largestError: nil, passed: false)
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
