import Foundation

/// A name of kept values, and the model's input or output for them.
public struct Port: Decodable {
    public let state: String
    public let name: String
}

public struct ModelFile: Decodable {
    public let file: String
    public let before: [Port]
    public let after: [Port]
}

public struct Window: Decodable {
    public let model: Int
    public let read: Box
    public let write: Box
    public let share: Double
    public let strip: Int
    public let take: Box?

    private enum CodingKeys: String, CodingKey { case model, read, write, share, strip, take }

    public init(from decoder: Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        model = try fields.decode(Int.self, forKey: .model)
        read = try boxOf(fields.decode([[Int]].self, forKey: .read))
        write = try boxOf(fields.decode([[Int]].self, forKey: .write))
        share = try fields.decode(Double.self, forKey: .share)
        strip = try fields.decode(Int.self, forKey: .strip)
        take = try fields.decodeIfPresent([[Int]].self, forKey: .take).map { try boxOf($0) }
    }

    private init(_ window: Window, read: Box, write: Box) {
        model = window.model
        self.read = read
        self.write = write
        share = window.share
        strip = window.strip
        take = window.take
    }

    /// As many repetitions further on.
    func moved(_ by: Repeat, times: Int) -> Window {
        Window(
            self, read: movedBox(read, dim: by.dim, by: times * by.readBy),
            write: movedBox(write, dim: by.resultDim, by: times * by.writeBy))
    }
}

public struct Repeat: Decodable {
    public let first: Int
    public let windows: Int
    public let times: Int
    public let dim: Int
    public let readBy: Int
    public let resultDim: Int
    public let writeBy: Int

    private enum CodingKeys: String, CodingKey {
        case first, windows, times, dim
        case readBy = "read_by"
        case resultDim = "result_dim"
        case writeBy = "write_by"
    }
}

public struct Stage: Decodable {
    public let models: [ModelFile]
    public let source: String
    public let result: String
    public let input: String
    public let output: String
    public internal(set) var windows: [Window]
    public let averaged: Bool
    public let `repeat`: Repeat?
}

/// A bundle's `plan.json`; export/vectors/README.md says what its fields mean.
public struct Plan: Decodable {
    public struct Shape: Decodable {
        public internal(set) var shape: [Int]
    }

    public let schema: Int
    public internal(set) var tensors: [String: Shape]
    public internal(set) var stages: [Stage]
    public let columns: [String: [Int]]

    /// Each file once.
    public var files: [String] { Array(Set(stages.flatMap { $0.models.map(\.file) })).sorted() }

    /// One file that has all outputs by itself.
    var isOneFile: Bool { !columns.isEmpty && stages.count == 1 && stages[0].windows.count == 1 }

    public static func read(_ data: Data) throws -> Plan {
        let plan: Plan
        do {
            plan = try JSONDecoder().decode(Plan.self, from: data)
        } catch let error as DecodingError {
            throw Fault(description: "the plan is damaged (\(error)); export the model again")
        }
        try plan.check()
        return plan
    }

    func check() throws {
        guard schema == 1 else {
            throw Fault(description: "this host reads plans of schema 1, and this one has \(schema)")
        }
        let isSound = stages.allSatisfy { stage in
            stage.windows.allSatisfy { stage.models.indices.contains($0.model) } && tensors[stage.source] != nil
                && tensors[stage.result] != nil
        }
        guard isSound, !stages.isEmpty else {
            throw Fault(description: "the plan is damaged: a window or a stage names what the plan lacks")
        }
    }
}

private func boxOf(_ spans: [[Int]]) throws -> Box {
    try spans.map { span -> Range<Int> in
        guard span.count == 2, span[0] <= span[1] else {
            throw Fault(description: "the plan is damaged: \(span) is no span")
        }
        return span[0]..<span[1]
    }
}

private func movedBox(_ box: Box, dim: Int, by: Int) -> Box {
    var moved = box
    moved[dim] = box[dim].lowerBound + by..<box[dim].upperBound + by
    return moved
}
