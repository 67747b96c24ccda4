#if canImport(SwiftUI) && canImport(CoreML)
    import EdgekitBundle
    import SwiftUI
    import UniformTypeIdentifiers

    /// Opens a bundle's folder, measures it, and shows its decoded frames or boxes on a picture.
    public struct BundlePage: View {
        private enum Choice {
            case bundle, picture
        }

        @StateObject private var demo = Demo()
        @State private var choice = Choice.bundle
        @State private var isChoosing = false
        @State private var frame = 0.0

        public init() {}

        public var body: some View {
            ScrollView {
                VStack(alignment: .leading, spacing: 12) {
                    Button("Open a bundle") { choose(.bundle) }
                    Text(demo.words).font(.body.monospaced())
                    if demo.frames.count > 1 {
                        Slider(value: $frame, in: 0...Double(demo.frames.count - 1), step: 1)
                    }
                    if !demo.frames.isEmpty { shown(demo.frames[min(Int(frame), demo.frames.count - 1)]) }
                    if demo.drawsBoxes { Button("Boxes on a picture") { choose(.picture) } }
                    if let picture = demo.picture { shown(picture).overlay { boxes(on: picture) } }
                }
                .padding()
            }
            .disabled(demo.isBusy)
            .fileImporter(isPresented: $isChoosing, allowedContentTypes: choice == .bundle ? [.folder] : [.image]) { result in
                guard case .success(let file) = result else { return }
                Task {
                    switch choice {
                    case .bundle: await demo.open(file)
                    case .picture: await demo.detect(file)
                    }
                }
            }
        }

        private func choose(_ what: Choice) {
            choice = what
            isChoosing = true
        }

        private func shown(_ picture: CGImage) -> some View {
            Image(decorative: picture, scale: 1).resizable().aspectRatio(contentMode: .fit)
        }

        private func boxes(on picture: CGImage) -> some View {
            Canvas { context, size in
                let scale = size.width / CGFloat(picture.width)
                for box in demo.found {
                    let corners = box.corners.map { CGFloat($0) * scale }
                    let area = CGRect(
                        x: corners[0], y: corners[1], width: corners[2] - corners[0], height: corners[3] - corners[1])
                    context.stroke(Path(area), with: .color(.green), lineWidth: 2)
                    let label = Text("\(demo.name(box.label)) \(box.score, specifier: "%.2f")").foregroundColor(.green)
                    context.draw(label, at: area.origin, anchor: .topLeading)
                }
            }
        }
    }
#endif
