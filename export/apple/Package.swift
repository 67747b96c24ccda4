// swift-tools-version:5.9
import PackageDescription

let package = Package(
    name: "edgekit-measure",
    platforms: [.macOS(.v13), .iOS(.v16)],
    products: [
        .library(name: "Measuring", targets: ["Measuring"]),
        .executable(name: "edgekit-measure", targets: ["edgekit-measure"]),
    ],
    targets: [
        .target(name: "Measuring"),
        .executableTarget(name: "edgekit-measure", dependencies: ["Measuring"]),
    ]
)
