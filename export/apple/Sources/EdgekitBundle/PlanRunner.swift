import Foundation

/// A model file that a runtime has opened.
public protocol PlanModel {
    func run(_ inputs: [String: Tensor]) throws -> [String: Tensor]
}

/// Runs a plan's stages, whatever runs the models. `models` are by file, `outputs` the network's in order.
public struct PlanRunner {
    let plan: Plan
    let outputs: [String]
    let models: [String: PlanModel]

    public init(plan: Plan, outputs: [String], models: [String: PlanModel]) {
        self.plan = plan
        self.outputs = outputs
        self.models = models
    }

    /// The network's only input; in a stream it may be longer or shorter than the plan's.
    public var input: String { plan.stages[0].source }

    public func run(_ source: Tensor) throws -> [String: Tensor] {
        let plan = try self.plan.forInput(source.shape)
        if plan.isOneFile {
            let file = plan.stages[0].models[0].file
            return try model(file).run([plan.stages[0].input: source])
        }
        var tensors = [input: source]
        for (index, stage) in plan.stages.enumerated() {
            guard let given = tensors[stage.source], let shape = plan.tensors[stage.result]?.shape else {
                throw Fault(description: "the plan is damaged: nothing has made '\(stage.source)'")
            }
            tensors[stage.result] = try run(stage, given, shape)
            let isReadLater = plan.stages[(index + 1)...].contains { $0.source == stage.source }
            if !isReadLater && !outputs.contains(stage.source) { tensors[stage.source] = nil }
        }
        return try results(plan, tensors)
    }

    private func results(_ plan: Plan, _ tensors: [String: Tensor]) throws -> [String: Tensor] {
        var found: [String: Tensor] = [:]
        for name in outputs {
            if let columns = plan.columns[name], columns.count == 2, let last = tensors[plan.stages[plan.stages.count - 1].result] {
                found[name] = try last.part(Array(last.whole.dropLast()) + [columns[0]..<columns[1]])
            } else if let tensor = tensors[name] {
                found[name] = tensor
            } else {
                throw Fault(description: "the plan is damaged: nothing makes the output '\(name)'")
            }
        }
        return found
    }

    private func run(_ stage: Stage, _ source: Tensor, _ shape: [Int]) throws -> Tensor {
        var result = try Tensor.zeros(shape)
        var kept: [Int: [String: Tensor]] = [:]  // by strip, then by state
        let strips = stage.windows.map(\.strip)
        let stripsTakeTurns = strips != strips.sorted()
        for window in stage.windows {
            if !stripsTakeTurns { kept = kept.filter { $0.key == window.strip } }
            let part = try run(window, of: stage, source, &kept[window.strip, default: [:]])
            if stage.averaged {
                result.addMean(of: part, share: window.share)
            } else {
                try result.put(part, at: window.write)
            }
        }
        return result
    }

    private func run(
        _ window: Window, of stage: Stage, _ source: Tensor, _ kept: inout [String: Tensor]
    ) throws -> Tensor {
        let file = stage.models[window.model]
        var given: [String: Tensor] = [:]
        for port in file.before {
            guard let value = kept[port.state] else { throw Fault(description: "nothing was kept of '\(port.state)'") }
            given[port.name] = value
        }
        if window.read.allSatisfy({ !$0.isEmpty }) { given[stage.input] = try source.part(window.read) }
        let made = try model(file.file).run(given)
        for port in file.after { kept[port.state] = try output(port.name, made, file) }
        let written = try output(stage.output, made, file)
        return try window.take.map { try written.part($0) } ?? written
    }

    private func output(_ name: String, _ made: [String: Tensor], _ file: ModelFile) throws -> Tensor {
        guard let tensor = made[name] else { throw Fault(description: "\(file.file) gave no '\(name)'") }
        return tensor
    }

    private func model(_ file: String) throws -> PlanModel {
        guard let model = models[file] else {
            throw Fault(description: "the plan names the file \(file), which was not opened")
        }
        return model
    }
}

extension Tensor {
    /// Adds `share` of the mean over all dimensions behind the second.
    fileprivate mutating func addMean(of part: Tensor, share: Double) {
        let rest = part.shape.dropFirst(2).reduce(1, *)
        for row in values.indices {
            let sum = part.values[row * rest..<(row + 1) * rest].reduce(0.0) { $0 + Double($1) }
            values[row] += Float(sum / Double(rest) * share)
        }
    }
}

extension Plan {
    /// The plan for an input of another length, as far as its stream goes on.
    func forInput(_ shape: [Int]) throws -> Plan {
        let stage = stages[0]
        guard let planned = tensors[stage.source]?.shape, shape != planned else { return self }
        guard let by = stage.repeat, stages.count == 1, shape.count == planned.count else {
            throw Fault(description: "'\(stage.source)' has the shape \(planned), and \(shape) was given")
        }
        let longer = shape[by.dim] - planned[by.dim]
        let more = longer / by.readBy
        let isSame = shape.indices.allSatisfy { $0 == by.dim || shape[$0] == planned[$0] }
        guard longer == more * by.readBy, isSame, more >= -by.times, shape[by.dim] > 0 else {
            let shortest = planned[by.dim] - by.times * by.readBy
            throw Fault(
                description: "'\(stage.source)' streams at the shape \(planned) with \(shortest) + n * \(by.readBy) along "
                    + "dimension \(by.dim), and \(shape) was given")
        }
        var plan = self
        plan.tensors[stage.source]?.shape = shape
        plan.tensors[stage.result]?.shape[by.resultDim] += more * by.writeBy
        plan.stages[0].windows = stage.repeated(by, more)
        return plan
    }
}

extension Stage {
    fileprivate func repeated(_ by: Repeat, _ more: Int) -> [Window] {
        let end = by.first + by.windows * by.times
        let once = windows[by.first..<by.first + by.windows]
        let steady = (0..<by.times + more).flatMap { number in once.map { $0.moved(by, times: number) } }
        return Array(windows[..<by.first]) + steady + windows[end...].map { $0.moved(by, times: more) }
    }
}
