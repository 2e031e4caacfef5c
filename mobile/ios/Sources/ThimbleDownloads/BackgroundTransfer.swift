#if canImport(Darwin)
import Darwin
import Foundation
#if canImport(FoundationNetworking)
import FoundationNetworking
#endif

/// Downloads by the system, also while the app is suspended or gone.
final class BackgroundTransfer: Transfer {
    private let session: URLSession
    private let reports: BackgroundReports
    private let options: DownloadOptions
    private let folder: DownloadFolder

    init(_ identifier: String, folder: DownloadFolder, options: DownloadOptions) {
        let configuration = URLSessionConfiguration.background(withIdentifier: identifier)
        configuration.sessionSendsLaunchEvents = true
        configuration.isDiscretionary = options.isDiscretionary
        configuration.allowsCellularAccess = options.allowsCellular
        configuration.allowsExpensiveNetworkAccess = options.allowsCellular
        configuration.allowsConstrainedNetworkAccess = options.allowsCellular
        reports = BackgroundReports(folder)
        session = URLSession(configuration: configuration, delegate: reports, delegateQueue: nil)
        self.options = options
        self.folder = folder
    }

    /// The session keeps its delegate until then. Its downloads go on.
    deinit { session.finishTasksAndInvalidate() }

    func isUnderWay(_ stem: String) async -> Bool {
        if reports.hasOutcome(stem) { return true }
        return await task(stem) != nil
    }

    func eventsDelivered() async { await reports.eventsDelivered() }

    func fetch(_ job: TransferJob) async throws {
        if Storage.bytes(of: job.part) == job.remote.bytes { return }
        if let outcome = reports.takeOutcome(job.stem) { return try outcome.get() }
        let running = await task(job.stem)
        let task = running ?? make(job)
        let (reports, folder) = (reports, folder)
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                reports.wait(job, continuation)
                task.resume()
            }
        } onCancel: {
            task.cancel { data in folder.keep(data, job.stem) }
        }
    }

    /// The system's task for a file.
    private func task(_ stem: String) async -> URLSessionDownloadTask? {
        for task in await session.allTasks where task.taskDescription == stem && task.state != .canceling {
            if let task = task as? URLSessionDownloadTask, task.state != .completed { return task }
        }
        return nil
    }

    private func make(_ job: TransferJob) -> URLSessionDownloadTask {
        let file = folder.resumeData(job.stem)
        let task: URLSessionDownloadTask
        if let data = try? Data(contentsOf: file) {
            // Used once: data that the system refuses must not be tried again.
            try? FileManager.default.removeItem(at: file)
            task = session.downloadTask(withResumeData: data)
        } else {
            task = session.downloadTask(with: request(job.remote))
        }
        task.taskDescription = job.stem
        task.countOfBytesClientExpectsToReceive = job.remote.bytes
        return task
    }

    /// The system follows redirects by itself, so a request with a token goes where the last redirect led.
    private func request(_ remote: RemoteFile) -> URLRequest {
        guard let token = options.token else { return URLRequest(url: remote.address) }
        var request = URLRequest(url: remote.storage)
        if isSameOrigin(options.endpoint, remote.storage) {
            request.setValue("Bearer \(token)", forHTTPHeaderField: "Authorization")
        }
        return request
    }
}

/// What the system reports of its downloads, also before anybody waits for them.
private final class BackgroundReports: NSObject, URLSessionDownloadDelegate, @unchecked Sendable {
    private let folder: DownloadFolder
    /// Guards the properties below.
    private let lock = NSLock()
    private var waiting: [String: (job: TransferJob, continuation: CheckedContinuation<Void, any Error>)] = [:]
    private var outcomes: [String: Result<Void, any Error>] = [:]
    private var areDelivered = false
    private var listeners: [CheckedContinuation<Void, Never>] = []

    init(_ folder: DownloadFolder) { self.folder = folder }

    func hasOutcome(_ stem: String) -> Bool { locked { outcomes[stem] != nil } }

    func takeOutcome(_ stem: String) -> Result<Void, any Error>? { locked { outcomes.removeValue(forKey: stem) } }

    /// Resumes `continuation` with the outcome of a file; it may be there already.
    func wait(_ job: TransferJob, _ continuation: CheckedContinuation<Void, any Error>) {
        let outcome = locked { () -> Result<Void, any Error>? in
            if let outcome = outcomes.removeValue(forKey: job.stem) { return outcome }
            waiting[job.stem] = (job, continuation)
            return nil
        }
        if let outcome { continuation.resume(with: outcome) }
    }

    func eventsDelivered() async {
        await withCheckedContinuation { continuation in
            let now = locked { () -> Bool in
                if !areDelivered { listeners.append(continuation) }
                defer { areDelivered = false }
                return areDelivered
            }
            if now { continuation.resume() }
        }
    }

    func urlSessionDidFinishEvents(forBackgroundURLSession session: URLSession) {
        let heard = locked { () -> [CheckedContinuation<Void, Never>] in
            defer { listeners = [] }
            areDelivered = listeners.isEmpty
            return listeners
        }
        for continuation in heard { continuation.resume() }
    }

    func urlSession(
        _ session: URLSession, downloadTask: URLSessionDownloadTask, didWriteData bytesWritten: Int64,
        totalBytesWritten: Int64, totalBytesExpectedToWrite: Int64
    ) {
        guard let stem = downloadTask.taskDescription else { return }
        locked { waiting[stem]?.job.progress }?(totalBytesWritten)
    }

    // The file is gone when this returns.
    func urlSession(_ session: URLSession, downloadTask: URLSessionDownloadTask, didFinishDownloadingTo location: URL) {
        guard let stem = downloadTask.taskDescription else { return }
        let status = (downloadTask.response as? HTTPURLResponse)?.statusCode ?? 0
        let outcome = Result<Void, any Error> {
            guard (200..<300).contains(status) else {
                throw TransientFailure(reason: "the server answered \(status)")
            }
            folder.discardBytes(stem)
            do {
                try FileManager.default.moveItem(at: location, to: folder.part(stem))
            } catch {
                throw DownloadFolder.failure(error, folder.part(stem), needed: downloadTask.countOfBytesReceived)
            }
        }
        locked { outcomes[stem] = outcome }
    }

    func urlSession(_ session: URLSession, task: URLSessionTask, didCompleteWithError error: (any Error)?) {
        guard let stem = task.taskDescription else { return }
        let found = locked { () -> (CheckedContinuation<Void, any Error>?, Result<Void, any Error>) in
            if let error { outcomes[stem] = .failure(failure(error, stem)) }
            let outcome = outcomes[stem] ?? .failure(TransientFailure(reason: "the answer had no file"))
            guard let waiting = waiting.removeValue(forKey: stem) else {
                outcomes[stem] = outcome
                return (nil, outcome)
            }
            outcomes[stem] = nil
            return (waiting.continuation, outcome)
        }
        found.0?.resume(with: found.1)
    }

    /// Keeps what the system can continue from.
    private func failure(_ error: any Error, _ stem: String) -> any Error {
        let details = (error as NSError).userInfo
        folder.keep(details[NSURLSessionDownloadTaskResumeData] as? Data, stem)
        // When the user ends the app, the system cancels its downloads: that is not this app's doing.
        let isSystems = details[NSURLErrorBackgroundTaskCancelledReasonKey] != nil
        let isCancelled = (error as? URLError)?.code == .cancelled
        return isCancelled && !isSystems ? CancellationError() : TransientFailure(reason: error.localizedDescription)
    }

    private func locked<Value>(_ work: () -> Value) -> Value {
        lock.lock()
        defer { lock.unlock() }
        return work()
    }
}
#endif
