import Foundation
import XCTest

@testable import EdgekitBundle

/// Every file of export/vectors, whose README says what it holds.
final class VectorsTests: XCTestCase {
    private struct Vector: Decodable {
        let plan: Plan
        let outputs: [String]
        let models: [String: StandInFile]
        let runs: [Run]
    }

    private struct StandInFile: Decodable {
        let number: Int
        let outputs: [String: [Int]]
    }

    private struct Values: Decodable {
        let name: String
        let shape: [Int]
        let values: [Float]
    }

    private struct Run: Decodable {
        struct Given: Decodable {
            let shape: [Int]
            let weighted: Double
        }

        struct Call: Decodable {
            let model: String
            let inputs: [String: Given]
        }

        let input: Values
        let refused: Bool?
        let calls: [Call]?
        let outputs: [Values]?
    }

    private final class Calls {
        var made: [(model: String, inputs: [String: Tensor])] = []
    }

    private struct StandIn: PlanModel {
        let file: String
        let model: StandInFile
        let calls: Calls

        func run(_ inputs: [String: Tensor]) throws -> [String: Tensor] {
            calls.made.append((model: file, inputs: inputs))
            var level = 0.0
            var shares = 0.0
            for (place, name) in inputs.keys.sorted().enumerated() {
                level += Double(place + 1) * weighted(inputs[name]!)
                shares += Double(place + 1)
            }
            level /= shares
            var made: [String: Tensor] = [:]
            for (place, name) in model.outputs.keys.sorted().enumerated() {
                let shape = model.outputs[name]!
                let first = level + Double(model.number + place) / 2
                let values = (0..<shape.reduce(1, *)).map { Float(first + Double($0 % 8) / 8) }
                made[name] = try Tensor(shape: shape, values: values)
            }
            return made
        }
    }

    func testEveryVectorIsCalledAndComesOutAsItSays() throws {
        let here = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        let folder = here.appendingPathComponent("../../../vectors").standardizedFileURL
        let files = try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
            .filter { $0.pathExtension == "json" }
        XCTAssertFalse(files.isEmpty)
        for file in files {
            let vector = try JSONDecoder().decode(Vector.self, from: Data(contentsOf: file))
            try vector.plan.check()
            for (number, run) in vector.runs.enumerated() {
                try check(vector, run, "\(file.lastPathComponent), run \(number)")
            }
        }
    }

    private func check(_ vector: Vector, _ run: Run, _ place: String) throws {
        let calls = Calls()
        var models: [String: PlanModel] = [:]
        for (file, model) in vector.models { models[file] = StandIn(file: file, model: model, calls: calls) }
        let runner = PlanRunner(plan: vector.plan, outputs: vector.outputs, models: models)
        let source = try Tensor(shape: run.input.shape, values: run.input.values)
        guard let expected = run.calls, let outputs = run.outputs else {
            XCTAssertThrowsError(try runner.run(source), place)
            return
        }
        let found = try runner.run(source)
        XCTAssertEqual(calls.made.map { $0.model }, expected.map { $0.model }, place)
        for (made, wanted) in zip(calls.made, expected) {
            XCTAssertEqual(made.inputs.keys.sorted(), wanted.inputs.keys.sorted(), place)
            for (name, given) in wanted.inputs {
                let tensor = try XCTUnwrap(made.inputs[name])
                XCTAssertEqual(tensor.shape, given.shape, place)
                XCTAssertEqual(weighted(tensor), given.weighted, accuracy: 1e-4 * max(1, abs(given.weighted)), place)
            }
        }
        for wanted in outputs {
            let output = try XCTUnwrap(found[wanted.name])
            XCTAssertEqual(output.shape, wanted.shape, place)
            for (one, other) in zip(output.values, wanted.values) {
                XCTAssertEqual(one, other, accuracy: 1e-4 * max(1, abs(other)), place)
            }
        }
    }
}

/// With the weights 1 2 3 4 5 1 2 3 4 5 ...
private func weighted(_ tensor: Tensor) -> Double {
    var sum = 0.0
    var weights = 0.0
    for (index, value) in tensor.values.enumerated() {
        sum += Double(index % 5 + 1) * Double(value)
        weights += Double(index % 5 + 1)
    }
    return sum / weights
}
