// swift-tools-version: 5.9
import PackageDescription

// What `generate.sh` and `build-xcframework.sh` write: the C side of the FFI is a framework for Apple's systems and a
// shared library for Linux.
#if os(Linux)
let library = "\(Context.packageDirectory)/build/lib"
let ffi = Target.systemLibrary(name: "thimble_ffiFFI", path: "build/ffi")
let linking: [LinkerSetting] = [
    .linkedLibrary("thimble_ffi"),
    .unsafeFlags(["-L\(library)", "-Xlinker", "-rpath", "-Xlinker", library]),
]
// Swift 6.0's Observation for Linux wants a symbol that nothing has (swiftlang/swift issue 75670), and never calls it.
let observation: [LinkerSetting] = [.unsafeFlags(["-Xlinker", "--allow-shlib-undefined"])]
#else
let ffi = Target.binaryTarget(name: "thimble_ffiFFI", path: "build/ThimbleFFI.xcframework")
let linking: [LinkerSetting] = []
let observation: [LinkerSetting] = []
#endif

/// Everything written by hand is checked for data races as Swift 6 does it.
let strict: [SwiftSetting] = [.enableExperimentalFeature("StrictConcurrency")]

let package = Package(
    name: "Thimble",
    platforms: [.iOS(.v17), .macOS(.v14)],
    products: [
        .library(name: "Thimble", targets: ["Thimble"]),
        .library(name: "ThimbleChat", targets: ["ThimbleChat"]),
        .library(name: "ThimbleDownloads", targets: ["ThimbleDownloads"]),
    ],
    targets: [
        ffi,
        .target(name: "ThimbleFFI", dependencies: ["thimble_ffiFFI"], linkerSettings: linking),
        .target(name: "Thimble", dependencies: ["ThimbleFFI"], swiftSettings: strict),
        .target(name: "ThimbleDownloads", swiftSettings: strict),
        .target(
            name: "ThimbleChat", dependencies: ["Thimble", "ThimbleDownloads"], swiftSettings: strict,
            linkerSettings: observation),
        .testTarget(name: "ThimbleTests", dependencies: ["Thimble", "ThimbleFFI"], swiftSettings: strict),
        .testTarget(name: "ThimbleDownloadsTests", dependencies: ["ThimbleDownloads"], swiftSettings: strict),
        .testTarget(name: "ThimbleChatTests", dependencies: ["ThimbleChat"], swiftSettings: strict),
    ]
)
