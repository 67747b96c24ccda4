import EdgekitBundle
import Foundation

#if canImport(CoreML)
    func value(of option: String, default fallback: String) -> String {
        guard let at = CommandLine.arguments.firstIndex(of: option), at + 1 < CommandLine.arguments.count
        else { return fallback }
        return CommandLine.arguments[at + 1]
    }

    guard CommandLine.arguments.count > 1, let seconds = Double(value(of: "--seconds", default: "10")) else {
        FileHandle.standardError.write(Data("usage: edgekit-measure BUNDLE [--units all] [--seconds 10]\n".utf8))
        exit(2)
    }
    do {
        let report = try await measure(
            bundle: URL(fileURLWithPath: CommandLine.arguments[1]),
            units: value(of: "--units", default: "all"), seconds: seconds)
        FileHandle.standardOutput.write(report + Data("\n".utf8))
    } catch {
        FileHandle.standardError.write(Data("edgekit-measure: \(error)\n".utf8))
        exit(1)
    }
#else
    FileHandle.standardError.write(Data("edgekit-measure: there is no Core ML here\n".utf8))
    exit(1)
#endif
