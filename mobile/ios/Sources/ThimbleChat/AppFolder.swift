import Foundation
import ThimbleDownloads

/// A chat on disk.
public struct SavedChat: Identifiable, Hashable, Sendable {
    /// Also the name of its journal.
    public let id: UUID
    /// How its first message begins.
    public var title: String
    /// When it was last added to.
    public var changed: Date
}

/// A model on disk.
public struct SavedModel: Identifiable, Hashable, Sendable {
    /// The file's name without `.thimble`; no other model has it.
    public let name: String
    /// Bytes of the file.
    public let bytes: Int64
    /// The name.
    public var id: String { name }
}

/// Where the app keeps its models, its chats and its settings.
///
///     models/NAME.thimble        a model that was imported
///     chats/UUID.journal         a chat, as the library writes it
///     chats/UUID.title           how its first message begins
///     settings.json
///
/// and, among the caches, `open.kv`: keys and values of the chat that was put away last.
public struct AppFolder: Sendable {
    let root: URL
    private let caches: URL

    /// The folder, made if need be; caches lie in another one if there is one.
    public init(_ root: URL, caches: URL? = nil) throws {
        self.root = root
        self.caches = caches ?? root
        for folder in [models, chats, self.caches] {
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        }
    }

    /// In the app's own support folder.
    public static func standard() throws -> AppFolder {
        let folder = { (kind: FileManager.SearchPathDirectory) in
            try FileManager.default.url(for: kind, in: .userDomainMask, appropriateFor: nil, create: true)
                .appendingPathComponent("Thimble", isDirectory: true)
        }
        return try AppFolder(folder(.applicationSupportDirectory), caches: folder(.cachesDirectory))
    }

    /// Where the models are.
    public var models: URL { root.appendingPathComponent("models", isDirectory: true) }
    var chats: URL { root.appendingPathComponent("chats", isDirectory: true) }
    var settings: URL { root.appendingPathComponent("settings.json") }

    /// All models by name.
    public func savedModels() -> [SavedModel] {
        let models = files(models, "thimble").map { url -> SavedModel in
            let attributes = try? FileManager.default.attributesOfItem(atPath: url.path)
            let bytes = (attributes?[.size] as? NSNumber)?.int64Value ?? 0
            return SavedModel(name: url.deletingPathExtension().lastPathComponent, bytes: bytes)
        }
        return models.sorted { ($0.name.lowercased(), $0.name) < ($1.name.lowercased(), $1.name) }
    }

    /// The model of this name or, if it is missing, the one imported last.
    public func model(_ name: String? = nil) -> URL? {
        let all = files(models, "thimble")
        return all.first { $0.deletingPathExtension().lastPathComponent == name }
            ?? all.max { changed($0) < changed($1) }
    }

    /// Removes a model, if it exists.
    func deleteModel(_ name: String) throws {
        let file = models.appendingPathComponent("\(name).thimble")
        if FileManager.default.fileExists(atPath: file.path) { try FileManager.default.removeItem(at: file) }
    }

    /// Where a model goes that was called `name`: beside one that is called so already.
    func unusedModel(_ name: String) -> URL {
        let file = { (name: String) in models.appendingPathComponent("\(name).thimble") }
        var unused = file(name)
        var number = 1
        while FileManager.default.fileExists(atPath: unused.path) {
            number += 1
            unused = file("\(name) (\(number))")
        }
        return unused
    }

    /// Bytes that the system has for something the user asks for; nothing where it does not say.
    func freeBytes() -> Int64? { Storage.freeBytes(at: models) }

    /// Chats on disk, the last one first.
    public func savedChats() -> [SavedChat] {
        let journals = files(chats, "journal").compactMap { url -> SavedChat? in
            guard let id = UUID(uuidString: url.deletingPathExtension().lastPathComponent) else { return nil }
            let title = (try? String(contentsOf: self.title(id), encoding: .utf8)) ?? "New chat"
            return SavedChat(id: id, title: title, changed: changed(url))
        }
        return journals.sorted { ($0.changed, $0.id.uuidString) > ($1.changed, $1.id.uuidString) }
    }

    /// Where a chat's journal is.
    public func journal(_ id: UUID) -> URL { chats.appendingPathComponent("\(id.uuidString).journal") }

    /// Where a chat's keys and values are kept while the app is away.
    var keysAndValues: URL { caches.appendingPathComponent("open.kv") }

    private func title(_ id: UUID) -> URL { chats.appendingPathComponent("\(id.uuidString).title") }

    /// Remembers how a chat begins.
    func name(_ id: UUID, after message: String) throws {
        let line = message.split(whereSeparator: \.isNewline).first.map(String.init) ?? message
        try Data(line.prefix(60).utf8).write(to: title(id), options: .atomic)
    }

    /// Removes a chat. Its title first: a journal without one is still a chat.
    func delete(_ id: UUID) throws {
        try? FileManager.default.removeItem(at: title(id))
        let journal = journal(id)
        if FileManager.default.fileExists(atPath: journal.path) { try FileManager.default.removeItem(at: journal) }
    }

    private func files(_ folder: URL, _ kind: String) -> [URL] {
        let all = try? FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
        return (all ?? []).filter { $0.pathExtension == kind }
    }

    private func changed(_ url: URL) -> Date {
        let attributes = try? FileManager.default.attributesOfItem(atPath: url.path)
        return attributes?[.modificationDate] as? Date ?? .distantPast
    }
}
