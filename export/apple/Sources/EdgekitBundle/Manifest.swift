import Foundation

/// An input or output of the network.
public struct Door: Decodable {
    public let name: String
    public let shape: [Int]
    public let dtype: String
    public let low: Double?
    public let high: Double?
}

/// What an output must reach: decibels if it holds real numbers, a share of equal ones if integers.
public struct Gate: Decodable {
    struct Detections: Decodable {
        let matched: Double
        let meanOverlap: Double
        let cornerPixels: Float
        let scoreDifference: Double
        let decibels: Double?

        private enum CodingKeys: String, CodingKey {
            case matched
            case meanOverlap = "mean_iou"
            case cornerPixels = "corner_px"
            case scoreDifference = "score_difference"
            case decibels = "psnr_db"
        }
    }

    let decibels: Double
    let integersDiffer: Double
    let detections: Detections?

    private enum CodingKeys: String, CodingKey {
        case detections
        case decibels = "psnr_db"
        case integersDiffer = "integers_differ"
    }
}

/// Of a file that suppresses by itself: which candidates it shows.
struct Suppression: Decodable {
    let score: Double
    let iou: Double
    let limit: Int
}

/// Of a network that takes pictures: how its input is made of colours, and what comes out.
public struct ImageContract: Decodable {
    public struct Output: Decodable {
        public let kind: String
        public let names: [String]?
        public let resize: String?
        public let fill: Int?
        public let score: Float?
        public let iou: Float?
        public let limit: Int?
    }

    public let order: String
    public let mean: [Float]
    public let std: [Float]
    public let output: Output
}

/// A bundle's `manifest.json`.
public struct Manifest: Decodable {
    struct Anything: Decodable {}

    public let model: String
    public let format: String
    public let files: [String: String]
    public let inputs: [Door]
    public let outputs: [Door]
    public let gate: Gate
    public let image: ImageContract?
    let suppression: Suppression?
    let split: Anything?
    let takesPixels: Bool?

    private enum CodingKeys: String, CodingKey {
        case model, format, files, inputs, outputs, gate, image, suppression, split
        case takesPixels = "takes_pixels"
    }

    /// Whether boxes can be drawn: floats go in, all candidates come out.
    public var givesCandidates: Bool {
        image?.output.kind == "boxes" && suppression == nil && takesPixels != true
    }

    public static func read(_ bundle: URL) throws -> Manifest {
        let data: Data
        do {
            data = try Data(contentsOf: bundle.appendingPathComponent("manifest.json"))
        } catch {
            throw Fault(description: "\(bundle.lastPathComponent) is no bundle: it has no manifest.json that can be read")
        }
        do {
            return try JSONDecoder().decode(Manifest.self, from: data)
        } catch {
            throw Fault(description: "the manifest of \(bundle.lastPathComponent) is damaged (\(error)); copy the bundle again")
        }
    }
}
