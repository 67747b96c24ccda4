import Foundation
import XCTest

@testable import EdgekitBundle

/// `export/vectors/boxes`: which boxes are those that were promised.
final class BoxVectorsTests: XCTestCase {
    private struct Promise: Decodable {
        let outputs: [Door]
        let gate: Gate
        let suppression: Suppression
    }

    private struct Row: Decodable {
        let name: String
        let psnr_db: Double?
        let max_abs: Double?
        let passed: Bool
    }

    private struct Case: Decodable {
        let about: String
        let manifest: Promise
        let expected: [String: [Float]]
        let found: [String: [Float]]
        let passed: Bool
        let outputs: [Row]
    }

    func testTheGoldenCheckSaysWhatEdgekitSays() throws {
        let here = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        let file = here.appendingPathComponent("../../../vectors/boxes/suppressed.json").standardizedFileURL
        let cases = try JSONDecoder().decode([Case].self, from: Data(contentsOf: file))
        XCTAssertGreaterThan(cases.count, 20)
        for one in cases {
            let check = try GoldenCheck(
                doors: one.manifest.outputs, gate: one.manifest.gate, suppression: one.manifest.suppression,
                expected: tensors(one.expected, one.manifest), found: tensors(one.found, one.manifest))
            XCTAssertEqual(check.passed, one.passed, one.about)
            for (row, wanted) in zip(check.rows, one.outputs) {
                XCTAssertEqual(row.name, wanted.name, one.about)
                XCTAssertEqual(row.passed, wanted.passed, "\(row.name) where \(one.about)")
                XCTAssertEqual(row.decibels ?? -1, wanted.psnr_db ?? -1, accuracy: 0.01, one.about)
                XCTAssertEqual(row.largestError ?? -1, wanted.max_abs ?? -1, accuracy: 1e-4, one.about)
            }
        }
    }

    private func tensors(_ values: [String: [Float]], _ manifest: Promise) throws -> [String: Tensor] {
        var made: [String: Tensor] = [:]
        for door in manifest.outputs { made[door.name] = try Tensor(shape: door.shape, values: values[door.name] ?? []) }
        return made
    }
}
