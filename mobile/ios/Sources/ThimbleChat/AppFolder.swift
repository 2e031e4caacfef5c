import Foundation

/// A chat on disk.
public struct SavedChat: Identifiable, Hashable, Sendable {
    /// Also the name of its journal.
    public let id: UUID
    /// How its first message begins.
    public var title: String
    /// When it was last added to.
    public var changed: Date
}

/// Where the app keeps its model, its chats and its settings.
///
///     models/NAME.thimble        the model that was imported
///     chats/UUID.journal         a chat, as the engine writes it
///     chats/UUID.title           how its first message begins
///     settings.json
public struct AppFolder: Sendable {
    let root: URL

    /// The folder, made if need be.
    public init(_ root: URL) throws {
        self.root = root
        for folder in [models, chats] {
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        }
    }

    /// In the app's own support folder.
    public static func standard() throws -> AppFolder {
        let support = try FileManager.default.url(
            for: .applicationSupportDirectory, in: .userDomainMask, appropriateFor: nil, create: true)
        return try AppFolder(support.appendingPathComponent("Thimble", isDirectory: true))
    }

    var models: URL { root.appendingPathComponent("models", isDirectory: true) }
    var chats: URL { root.appendingPathComponent("chats", isDirectory: true) }
    var settings: URL { root.appendingPathComponent("settings.json") }

    /// The model that was imported last.
    public func model() -> URL? {
        files(models, "thimble").max { changed($0) < changed($1) }
    }

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
