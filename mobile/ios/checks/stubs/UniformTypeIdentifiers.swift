// Stand-in for Apple's module of this name, for `check.sh`: what the app uses of it, as Apple documents it.

public struct UTType: Sendable {
    public init?(filenameExtension: String) {}
    public static var data: UTType { UTType(filenameExtension: "")! }
}
