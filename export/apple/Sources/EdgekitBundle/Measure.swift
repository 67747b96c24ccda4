#if canImport(CoreML)
    import CoreML
    import Foundation

    private let steadyRuns = 5
    private let steadyShare = 0.03
    private let warmUpShare = 0.5
    private let leastRuns = 10

    /// A report by export/board/report.schema.json, as JSON.
    public func measure(bundle folder: URL, units: String, seconds: Double) async throws -> Data {
        let bundle = try await CoreMLBundle(folder: folder, units: units)
        let inputs = try bundle.golden("input.")
        let started = now()
        try bundle.load()
        let opened = now()
        let outputs = try bundle.run(inputs)
        let ran = now()
        try bundle.load()
        let warm = now() - ran
        let golden = try GoldenCheck(bundle.manifest, expected: bundle.golden("output."), found: outputs)

        let run = try bundle.timed(inputs)
        let warmUp = try warmedUp(run, seconds: warmUpShare * seconds)
        var samples: [Double] = []
        let end = now() + seconds * 1e3
        while samples.count < leastRuns || now() < end { samples.append(try timed(run)) }
        let files = bundle.manifest.files
        let sizes = try files.keys.filter { $0 != "golden.safetensors" }.map { name -> Int in
            let path = folder.appendingPathComponent(name).path
            return try FileManager.default.attributesOfItem(atPath: path)[.size] as? Int ?? 0
        }
        let report: [String: Any] = [
            "schema": 1, "complete": true, "bundle": folder.lastPathComponent, "files": files,
            "disk_bytes": sizes.reduce(0, +), "device": device(units), "golden": told(golden),
            "load_ms": [
                "cold_ms": opened - started, "first_run_ms": ran - opened, "warm_ms": warm, "is_cold": false,
            ] as [String: Any],
            "warm_up": warmUp, "latency_ms": ["samples": samples],
        ]
        return try JSONSerialization.data(withJSONObject: report, options: [.sortedKeys])
    }

    private func told(_ golden: GoldenCheck) -> [String: Any] {
        let rows = golden.rows.map { row -> [String: Any] in
            let decibels: Any = row.decibels.map { $0 as Any } ?? NSNull()
            let largest: Any = row.largestError.map { $0 as Any } ?? NSNull()
            return ["name": row.name, "psnr_db": decibels, "max_abs": largest, "passed": row.passed]
        }
        return ["passed": golden.passed, "gate_db": golden.gateDecibels, "outputs": rows]
    }

    private func warmedUp(_ run: () throws -> Void, seconds: Double) throws -> [String: Any] {
        var taken = [try timed(run)]
        var isSteady = false
        let end = now() + seconds * 1e3
        while !isSteady && now() < end {
            taken.append(try timed(run))
            if taken.count > 2 * steadyRuns {
                let before = percentile(Array(taken.suffix(2 * steadyRuns).prefix(steadyRuns)), 50)
                isSteady = abs(percentile(Array(taken.suffix(steadyRuns)), 50) / before - 1) < steadyShare
            }
        }
        return ["runs": taken.count, "is_steady": isSteady, "first_ms": taken[0]]
    }

    private func timed(_ run: () throws -> Void) throws -> Double {
        try autoreleasepool {
            let started = now()
            try run()
            return now() - started
        }
    }

    /// Milliseconds of a clock that only runs forward.
    private func now() -> Double { Double(DispatchTime.now().uptimeNanoseconds) / 1e6 }

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
#endif
