import Foundation

public struct Detection {
    public let label: Int
    public let score: Float
    /// x1 y1 x2 y2 in pixels.
    public let corners: [Float]

    /// Intersection over union.
    func overlap(_ other: Detection) -> Float {
        let width = min(corners[2], other.corners[2]) - max(corners[0], other.corners[0])
        let height = min(corners[3], other.corners[3]) - max(corners[1], other.corners[1])
        guard width > 0, height > 0 else { return 0 }
        return width * height / (area + other.area - width * height)
    }

    private var area: Float { (corners[2] - corners[0]) * (corners[3] - corners[1]) }
}

/// Where a picture lies in a network's input, and how its boxes come back.
public struct Placement {
    let width: Int
    let height: Int
    public let left: Int
    public let top: Int
    public let innerWidth: Int
    public let innerHeight: Int

    /// A letterboxed picture is as large as fits, in the middle; else it is stretched.
    public init(width: Int, height: Int, inputWidth: Int, inputHeight: Int, resize: String) {
        let scale = min(Double(inputWidth) / Double(width), Double(inputHeight) / Double(height))
        let keepsShape = resize != "stretch"
        self.width = width
        self.height = height
        innerWidth = keepsShape ? min(inputWidth, max(1, Int((Double(width) * scale).rounded(.toNearestOrEven)))) : inputWidth
        innerHeight = keepsShape ? min(inputHeight, max(1, Int((Double(height) * scale).rounded(.toNearestOrEven)))) : inputHeight
        left = (inputWidth - innerWidth) / 2
        top = (inputHeight - innerHeight) / 2
    }

    /// In pixels of the picture, cut at its borders.
    public func toPicture(_ found: Detection) -> Detection {
        let across = { (x: Float) in min(max((x - Float(left)) * Float(width) / Float(innerWidth), 0), Float(width)) }
        let down = { (y: Float) in min(max((y - Float(top)) * Float(height) / Float(innerHeight), 0), Float(height)) }
        let corners = [across(found.corners[0]), down(found.corners[1]), across(found.corners[2]), down(found.corners[3])]
        return Detection(label: found.label, score: found.score, corners: corners)
    }
}

extension ImageContract {
    /// Of pixels red, green, blue, unused, row by row: 1 3 H W, (x - mean) / std of x in [0, 1].
    public func normalised(_ pixels: [UInt8], width: Int, height: Int) throws -> Tensor {
        var values: [Float] = []
        values.reserveCapacity(3 * width * height)
        for channel in 0..<3 {
            let colour = order == "RGB" ? channel : 2 - channel
            for index in 0..<width * height {
                values.append((Float(pixels[4 * index + colour]) / 255 - mean[channel]) / std[channel])
            }
        }
        return try Tensor(shape: [1, 3, height, width], values: values)
    }

    /// Of boxes 1 A 4 with scores 1 A C: the best that no better one of their class covers, best first.
    public func chosen(boxes: Tensor, scores: Tensor) -> [Detection] {
        guard let least = output.score, let iou = output.iou, let limit = output.limit, let classes = scores.shape.last
        else { return [] }
        var kept: [Detection] = []
        for label in 0..<classes {
            let queue = (0..<scores.values.count / classes)
                .filter { scores.values[$0 * classes + label] > least }
                .map { Self.candidate(boxes, $0, label, scores.values[$0 * classes + label]) }
                .filter { $0.corners.allSatisfy(\.isFinite) }
                .sorted { $0.score > $1.score }
            var ofClass: [Detection] = []
            for box in queue where ofClass.count < limit && ofClass.allSatisfy({ $0.overlap(box) <= iou }) {
                ofClass.append(box)
            }
            kept += ofClass
        }
        return Array(kept.sorted { $0.score > $1.score }.prefix(limit))
    }

    private static func candidate(_ boxes: Tensor, _ row: Int, _ label: Int, _ score: Float) -> Detection {
        let corners = Array(boxes.values[4 * row..<4 * row + 4])
        let ordered = [
            min(corners[0], corners[2]), min(corners[1], corners[3]), max(corners[0], corners[2]), max(corners[1], corners[3]),
        ]
        return Detection(label: label, score: score, corners: ordered)
    }
}
