import CoreML
import Foundation

private let steadyRuns = 5
private let steadyShare = 0.03
private let warmUpShare = 0.5
private let leastRuns = 10

private let computeUnits: [String: MLComputeUnits] = [
    "all": .all, "cpuOnly": .cpuOnly, "cpuAndGPU": .cpuAndGPU, "cpuAndNeuralEngine": .cpuAndNeuralEngine,
]

/// A report by export/board/report.schema.json, as JSON.
public func measure(bundle: URL, units: String, seconds: Double) async throws -> Data {
    guard let chosen = computeUnits[units] else {
        throw Fault(description: "there are no units '\(units)': give \(computeUnits.keys.sorted().joined(separator: ", "))")
    }
    let manifest = try read(bundle.appendingPathComponent("manifest.json"))
    guard let files = manifest["files"] as? [String: String], let name = manifest["model"] as? String,
        manifest["format"] as? String == "coreml"
    else { throw Fault(description: "\(bundle.path) is no Core ML bundle of edgekit") }
    try requireUnchanged(bundle, files)

    let configuration = MLModelConfiguration()
    configuration.computeUnits = chosen
    let compiled = try await MLModel.compileModel(at: bundle.appendingPathComponent(name))
    defer { try? FileManager.default.removeItem(at: compiled) }
    let started = now()
    let model = try MLModel(contentsOf: compiled, configuration: configuration)
    let opened = now()
    let inputs = try golden(bundle, model)
    let beforeRun = now()
    let outputs = try model.prediction(from: inputs)
    let ran = now()
    _ = try MLModel(contentsOf: compiled, configuration: configuration)
    let warm = now() - ran

    let warmUp = try warmedUp(model, inputs, seconds: warmUpShare * seconds)
    var samples: [Double] = []
    let end = now() + seconds * 1e3
    while samples.count < leastRuns || now() < end { samples.append(try timed(model, inputs)) }
    let sizes = try files.keys.filter { $0 != "golden.safetensors" }.map {
        try FileManager.default.attributesOfItem(atPath: bundle.appendingPathComponent($0).path)[.size] as? Int ?? 0
    }
    let report: [String: Any] = [
        "schema": 1, "complete": true, "bundle": bundle.lastPathComponent, "files": files,
        "disk_bytes": sizes.reduce(0, +), "device": device(units),
        "golden": try judged(bundle, manifest, outputs),
        "load_ms": [
            "cold_ms": opened - started, "first_run_ms": ran - beforeRun, "warm_ms": warm, "is_cold": false,
        ] as [String: Any],
        "warm_up": warmUp, "latency_ms": ["samples": samples],
    ]
    return try JSONSerialization.data(withJSONObject: report, options: [.sortedKeys])
}

private func golden(_ bundle: URL, _ model: MLModel) throws -> MLFeatureProvider {
    let tensors = try readGolden(bundle.appendingPathComponent("golden.safetensors"), prefix: "input.")
    var features: [String: MLFeatureValue] = [:]
    for (name, description) in model.modelDescription.inputDescriptionsByName {
        guard let constraint = description.multiArrayConstraint, let tensor = tensors[name] else {
            throw Fault(description: "the input '\(name)' is no tensor of the golden pair")
        }
        features[name] = MLFeatureValue(multiArray: try tensor.array(as: constraint.dataType))
    }
    return try MLDictionaryFeatureProvider(dictionary: features)
}

private func judged(_ bundle: URL, _ manifest: [String: Any], _ found: MLFeatureProvider) throws -> [String: Any] {
    let expected = try readGolden(bundle.appendingPathComponent("golden.safetensors"), prefix: "output.")
    let gate = manifest["gate"] as? [String: Any] ?? [:]
    let ofBoxes = (gate["detections"] as? [String: Any])?["psnr_db"] as? Double
    let least = ofBoxes ?? gate["psnr_db"] as? Double ?? 0
    var rows: [[String: Any]] = []
    for spec in manifest["outputs"] as? [[String: Any]] ?? [] {
        guard let name = spec["name"] as? String, let wanted = expected[name] else { continue }
        var span: Double?
        if let low = spec["low"] as? Double, let high = spec["high"] as? Double, high > low { span = high - low }
        let reached = found.featureValue(for: name)?.multiArrayValue.flatMap { decibels(wanted, $0, span: span) }
        let shown: Any = reached.map { $0 as Any } ?? NSNull()
        rows.append(["name": name, "psnr_db": shown, "passed": (reached ?? -.infinity) >= least])
    }
    let passed = !rows.isEmpty && rows.allSatisfy { $0["passed"] as? Bool == true }
    return ["passed": passed, "gate_db": least, "outputs": rows]
}

private func warmedUp(_ model: MLModel, _ inputs: MLFeatureProvider, seconds: Double) throws -> [String: Any] {
    var taken = [try timed(model, inputs)]
    var isSteady = false
    let end = now() + seconds * 1e3
    while !isSteady && now() < end {
        taken.append(try timed(model, inputs))
        if taken.count > 2 * steadyRuns {
            let before = median(taken.suffix(2 * steadyRuns).prefix(steadyRuns))
            isSteady = abs(median(taken.suffix(steadyRuns)) / before - 1) < steadyShare
        }
    }
    return ["runs": taken.count, "is_steady": isSteady, "first_ms": taken[0]]
}

private func timed(_ model: MLModel, _ inputs: MLFeatureProvider) throws -> Double {
    try autoreleasepool {
        let started = now()
        _ = try model.prediction(from: inputs)
        return now() - started
    }
}

private func median(_ values: ArraySlice<Double>) -> Double { values.sorted()[values.count / 2] }

/// Milliseconds of a clock that only runs forward.
private func now() -> Double { Double(DispatchTime.now().uptimeNanoseconds) / 1e6 }

private func read(_ file: URL) throws -> [String: Any] {
    let value = try JSONSerialization.jsonObject(with: Data(contentsOf: file))
    guard let fields = value as? [String: Any] else { throw Fault(description: "\(file.path) is no JSON object") }
    return fields
}

private func device(_ units: String) -> [String: Any] {
    let process = ProcessInfo.processInfo
    let heat = ["nominal", "fair", "serious", "critical"][min(3, max(0, process.thermalState.rawValue))]
    let brand = hardware("machdep.cpu.brand_string")  // of Macs; phones and tablets have their model only
    return [
        "processor": brand ?? hardware("hw.machine") ?? "unknown", "architecture": hardware("hw.machine") ?? "unknown",
        "system": "\(process.operatingSystemVersionString), thermal state \(heat)",
        "cpus": process.activeProcessorCount, "runtime": "Core ML, units \(units)", "threads": 0,
    ]
}

private func hardware(_ name: String) -> String? {
    var size = 0
    guard sysctlbyname(name, nil, &size, nil, 0) == 0, size > 0 else { return nil }
    var text = [CChar](repeating: 0, count: size)
    guard sysctlbyname(name, &text, &size, nil, 0) == 0 else { return nil }
    return String(cString: text)
}
