// What the app uses of SwiftUI's background tasks.

public struct BackgroundTask<Request, Response>: Sendable {}
extension BackgroundTask where Request == Void, Response == Void {
    public static func urlSession(_ identifier: String) -> BackgroundTask<Void, Void> { absent() }
}
public struct WithBackgroundTask: Scene {
    public var body: Never { fatalError() }
}
extension Scene {
    public nonisolated func backgroundTask<Request, Response>(
        _ task: BackgroundTask<Request, Response>, action: @escaping @Sendable (Request) async -> Response
    ) -> WithBackgroundTask { absent() }
}
