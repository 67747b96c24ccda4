#if canImport(CoreML)
    import CoreML
    import CryptoKit
    import Foundation

    public let computeUnits: [String: MLComputeUnits] = [
        "all": .all, "cpuOnly": .cpuOnly, "cpuAndGPU": .cpuAndGPU, "cpuAndNeuralEngine": .cpuAndNeuralEngine,
    ]

    /// One compiled package.
    struct CoreMLModel: PlanModel {
        let model: MLModel

        func run(_ inputs: [String: Tensor]) throws -> [String: Tensor] {
            try tensors(model.prediction(from: features(inputs)))
        }

        func features(_ inputs: [String: Tensor]) throws -> MLFeatureProvider {
            var found: [String: MLFeatureValue] = [:]
            for (name, description) in model.modelDescription.inputDescriptionsByName {
                guard let constraint = description.multiArrayConstraint, let tensor = inputs[name] else {
                    throw Fault(description: "the input '\(name)' is no tensor that was given")
                }
                found[name] = MLFeatureValue(multiArray: try array(tensor, as: constraint.dataType))
            }
            return try MLDictionaryFeatureProvider(dictionary: found)
        }

        func tensors(_ made: MLFeatureProvider) throws -> [String: Tensor] {
            var found: [String: Tensor] = [:]
            for name in made.featureNames {
                guard let array = made.featureValue(for: name)?.multiArrayValue else { continue }
                let values = MLShapedArray<Float>(converting: array)
                found[name] = try Tensor(shape: values.shape, values: Array(values.scalars))
            }
            return found
        }

        private func array(_ tensor: Tensor, as type: MLMultiArrayDataType) throws -> MLMultiArray {
            if type == .float32 { return MLMultiArray(MLShapedArray<Float>(scalars: tensor.values, shape: tensor.shape)) }
            let array = try MLMultiArray(shape: tensor.shape.map { NSNumber(value: $0) }, dataType: type)
            for (index, value) in tensor.values.enumerated() { array[index] = NSNumber(value: value) }
            return array
        }
    }

    /// A Core ML bundle whose files are those that were exported, ready to run whole or by its plan.
    public final class CoreMLBundle {
        public let folder: URL
        public let manifest: Manifest
        let plan: Plan?
        private let packages: [String: URL]
        private let configuration: MLModelConfiguration
        private var models: [String: CoreMLModel] = [:]

        /// Compiles the packages; `load` then opens them.
        public init(folder: URL, units: String) async throws {
            guard let chosen = computeUnits[units] else {
                let known = computeUnits.keys.sorted().joined(separator: ", ")
                throw Fault(description: "there are no units '\(units)': give \(known)")
            }
            let manifest = try Manifest.read(folder)
            guard manifest.format == "coreml", manifest.split == nil else {
                throw Fault(description: "\(folder.lastPathComponent) is no Core ML bundle in one part")
            }
            try requireUnchanged(folder, manifest.files)
            let table = folder.appendingPathComponent("plan.json")
            let isPlanned = FileManager.default.fileExists(atPath: table.path)
            let plan = isPlanned ? try Plan.read(Data(contentsOf: table)) : nil
            var packages: [String: URL] = [:]
            for file in plan?.files ?? [manifest.model] {
                packages[file] = try await MLModel.compileModel(at: folder.appendingPathComponent(file))
            }
            let configuration = MLModelConfiguration()
            configuration.computeUnits = chosen
            self.configuration = configuration
            self.folder = folder
            self.manifest = manifest
            self.plan = plan
            self.packages = packages
        }

        deinit {
            for package in packages.values { try? FileManager.default.removeItem(at: package) }
        }

        public func load() throws {
            models = try packages.mapValues { CoreMLModel(model: try MLModel(contentsOf: $0, configuration: configuration)) }
        }

        public func golden(_ prefix: String) throws -> [String: Tensor] {
            try readSafetensors(folder.appendingPathComponent("golden.safetensors"), prefix: prefix)
        }

        public func run(_ inputs: [String: Tensor]) throws -> [String: Tensor] {
            guard let plan else { return try whole().run(inputs) }
            let runner = PlanRunner(plan: plan, outputs: manifest.outputs.map(\.name), models: models)
            guard let source = inputs[runner.input] else {
                throw Fault(description: "the input '\(runner.input)' is missing")
            }
            return try runner.run(source)
        }

        /// What is timed: of a single file the prediction alone, of a plan its whole loop.
        func timed(_ inputs: [String: Tensor]) throws -> () throws -> Void {
            guard plan == nil else { return { _ = try self.run(inputs) } }
            let model = try whole()
            let features = try model.features(inputs)
            return { _ = try model.model.prediction(from: features) }
        }

        private func whole() throws -> CoreMLModel {
            guard let model = models[manifest.model] else { throw Fault(description: "the bundle has not been loaded") }
            return model
        }
    }

    private func requireUnchanged(_ bundle: URL, _ files: [String: String]) throws {
        for (name, digest) in files {
            let data = try Data(contentsOf: bundle.appendingPathComponent(name))
            let found = SHA256.hash(data: data).map { String(format: "%02x", $0) }.joined()
            if found != digest { throw Fault(description: "\(name) is not the file that was exported; copy it again") }
        }
    }
#endif
