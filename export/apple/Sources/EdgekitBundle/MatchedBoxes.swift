/// Boxes that overlap by less are not the same.
private let sameOverlap: Float = 0.5
/// A box that covers another by so much less than suppression asks for may suppress it elsewhere.
private let overlapMargin = 0.05

/// Which rows of two outputs of a file that suppresses by itself are the same boxes, by the rule of export/vectors/README.md.
struct MatchedBoxes {
    private struct Used {
        let row: Int
        let label: Float
        let score: Float
        let corners: [Float]

        func overlap(_ other: Used) -> Float { ordered.overlap(other.ordered) }

        func apart(_ other: Used) -> Float { zip(corners, other.corners).map { abs($0 - $1) }.max() ?? 0 }

        func numbers(_ output: String) -> [Float] {
            switch output {
            case "boxes": return corners
            case "scores": return [score]
            default: return [label]
            }
        }

        private var ordered: Detection {
            let left = min(corners[0], corners[2])
            let right = max(corners[0], corners[2])
            let top = min(corners[1], corners[3])
            let bottom = max(corners[1], corners[3])
            return Detection(label: Int(label), score: score, corners: [left, top, right, bottom])
        }
    }

    /// Whether few enough boxes of either side lack their twin.
    let isComplete: Bool
    private let boxesAreNear: Bool
    private let scoresAreNear: Bool
    private let pairs: [(Used, Used)]

    /// Nil where an output is missing.
    init?(expected: [String: Tensor], found: [String: Tensor], gate: Gate.Detections, within: Suppression) {
        guard let ours = Self.rowsInUse(expected), let theirs = Self.rowsInUse(found) else { return nil }
        let twins = Self.twins(ours, theirs)
        let far = twins.filter { $0.0.apart($0.1) > gate.cornerPixels }.map { Double($0.0.overlap($0.1)) }
        pairs = twins
        boxesAreNear = far.isEmpty || far.reduce(0, +) / Double(far.count) >= gate.meanOverlap
        scoresAreNear = twins.allSatisfy { abs(Double($0.0.score) - Double($0.1.score)) <= gate.scoreDifference }
        isComplete =
            Self.fewLackTwins(ours, Set(twins.map { $0.0.row }), theirs, gate, within)
            && Self.fewLackTwins(theirs, Set(twins.map { $0.1.row }), ours, gate, within)
    }

    func isNear(_ output: String) -> Bool {
        switch output {
        case "boxes": return boxesAreNear
        case "scores": return scoresAreNear
        default: return isComplete
        }
    }

    /// Numbers of pairs, expected and found.
    func values(_ output: String) -> [(Float, Float)] {
        pairs.flatMap { Array(zip($0.0.numbers(output), $0.1.numbers(output))) }
    }

    private static func rowsInUse(_ outputs: [String: Tensor]) -> [Used]? {
        guard let boxes = outputs["boxes"], let scores = outputs["scores"], let labels = outputs["labels"] else { return nil }
        return labels.values.indices.filter { labels.values[$0] >= 0 }.map { row in
            let corners = Array(boxes.values[4 * row..<4 * row + 4])
            return Used(row: row, label: labels.values[row], score: scores.values[row], corners: corners)
        }
    }

    /// Each expected row, best score first, with the free one of its label that covers it best.
    private static func twins(_ ours: [Used], _ theirs: [Used]) -> [(Used, Used)] {
        var taken: Set<Int> = []
        var pairs: [(Used, Used)] = []
        for one in ours {
            var best: Used?
            for other in theirs where other.label == one.label && !taken.contains(other.row) {
                let most = best.map { one.overlap($0) } ?? -1
                let overlap = one.overlap(other)
                if overlap >= sameOverlap && overlap > most { best = other }
            }
            guard let twin = best else { continue }
            taken.insert(twin.row)
            pairs.append((one, twin))
        }
        return pairs
    }

    /// But for those that the other side lost by all but equal scores, or just does not show.
    private static func fewLackTwins(
        _ side: [Used], _ paired: Set<Int>, _ other: [Used], _ gate: Gate.Detections, _ within: Suppression
    ) -> Bool {
        let lowest = other.count >= within.limit ? other.map { Double($0.score) }.min() ?? 0 : 0
        let least = max(within.score, lowest) + gate.scoreDifference
        let lacking = side.filter { one in
            let isCovered = side.contains { before in  // so that suppression would have taken it
                before.row < one.row && before.label == one.label
                    && Double(before.overlap(one)) > within.iou + overlapMargin
            }
            let isLost = other.contains { better in
                better.label == one.label && Double(better.score) >= Double(one.score) - gate.scoreDifference
                    && Double(one.overlap(better)) > within.iou - overlapMargin
            }
            return !paired.contains(one.row) && Double(one.score) > least && (!isLost || isCovered)
        }
        return Double(lacking.count) <= (1 - gate.matched) * Double(side.count)
    }
}
