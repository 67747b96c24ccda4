#if canImport(SwiftUI) && canImport(CoreML)
    import EdgekitBundle
    import SwiftUI

    /// What the page shows.
    @MainActor final class Demo: ObservableObject {
        @Published private(set) var words = "No bundle is open."
        @Published private(set) var frames: [CGImage] = []
        @Published private(set) var picture: CGImage?
        @Published private(set) var found: [Detection] = []
        @Published private(set) var isBusy = false
        @Published private var bundle: CoreMLBundle?

        private let seconds = 5.0

        var drawsBoxes: Bool { bundle?.manifest.givesCandidates == true }

        func name(_ label: Int) -> String {
            let names = bundle?.manifest.image?.output.names ?? []
            return names.indices.contains(label) ? names[label] : "\(label)"
        }

        func open(_ folder: URL) async {
            (frames, picture, found, bundle) = ([], nil, [], nil)
            words = "Checking and measuring \(folder.lastPathComponent) …"
            await busy(folder) {
                let report = try await measure(bundle: folder, units: "all", seconds: self.seconds)
                self.words = try Self.summary(report)
                let opened = try await CoreMLBundle(folder: folder, units: "all")
                try opened.load()
                let outputs = try opened.run(opened.golden("input."))
                for door in opened.manifest.outputs {
                    guard let output = outputs[door.name], let low = door.low, let high = door.high else { continue }
                    self.frames += EdgekitPage.frames(output, low: low, high: high)
                }
                self.bundle = opened
            }
        }

        func detect(_ file: URL) async {
            guard let bundle, let contract = bundle.manifest.image, let door = bundle.manifest.inputs.first else { return }
            await busy(file) {
                let picture = try readPicture(file)
                let (height, width) = (door.shape[door.shape.count - 2], door.shape[door.shape.count - 1])
                let placement = Placement(
                    width: picture.width, height: picture.height, inputWidth: width, inputHeight: height,
                    resize: contract.output.resize ?? "letterbox")
                let pixels = try fitted(picture, placement, width: width, height: height, fill: contract.output.fill ?? 0)
                let outputs = try bundle.run([door.name: contract.normalised(pixels, width: width, height: height)])
                guard let boxes = outputs["boxes"], let scores = outputs["scores"] else {
                    throw Fault(description: "the file gave no boxes and scores")
                }
                self.picture = picture
                self.found = contract.chosen(boxes: boxes, scores: scores).map { placement.toPicture($0) }
            }
        }

        private func busy(_ file: URL, _ work: () async throws -> Void) async {
            isBusy = true
            let isScoped = file.startAccessingSecurityScopedResource()
            do {
                try await work()
            } catch {
                words = "\(error)"
            }
            if isScoped { file.stopAccessingSecurityScopedResource() }
            isBusy = false
        }

        private struct Told: Decodable {
            struct Golden: Decodable {
                let passed: Bool
            }

            struct Latency: Decodable {
                let samples: [Double]
            }

            let golden: Golden
            let latency: Latency

            private enum CodingKeys: String, CodingKey {
                case golden
                case latency = "latency_ms"
            }
        }

        private static func summary(_ report: Data) throws -> String {
            let told = try JSONDecoder().decode(Told.self, from: report)
            let verdict = told.golden.passed ? "computes what was exported" : "DOES NOT compute what was exported"
            let latency = [50.0, 90, 99].map { String(format: "p%.0f %.2f ms", $0, percentile(told.latency.samples, $0)) }
            return "It \(verdict).\n\(latency.joined(separator: ", ")) of \(told.latency.samples.count) runs"
        }
    }
#endif
