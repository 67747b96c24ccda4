// swift-tools-version:5.9
import PackageDescription

let package = Package(
    name: "edgekit-apple",
    platforms: [.macOS(.v13), .iOS(.v16)],
    products: [
        .library(name: "EdgekitBundle", targets: ["EdgekitBundle"]),
        .library(name: "EdgekitPage", targets: ["EdgekitPage"]),
        .executable(name: "edgekit-measure", targets: ["edgekit-measure"]),
    ],
    targets: [
        .target(name: "EdgekitBundle"),
        .target(name: "EdgekitPage", dependencies: ["EdgekitBundle"]),
        .executableTarget(name: "edgekit-measure", dependencies: ["EdgekitBundle"]),
        .testTarget(name: "EdgekitBundleTests", dependencies: ["EdgekitBundle"]),
    ]
)
