import Foundation
import Thimble

/// Opening and closing: the model, chats, settings.
extension ChatViewModel {
    /// Begins a new chat; where the one on the screen has no message yet, that is new enough.
    public func newChat() async {
        // At once: what is asked before may wait for the answer's end.
        if !messages.isEmpty { stop() }
        await inTurn {
            guard self.model != nil, !self.messages.isEmpty else { return }
            await self.close(stopping: true)
            await self.openChat(UUID())
        }
    }

    /// Shows a chat from the disk.
    public func openSaved(_ id: UUID) async {
        if id != currentChat { stop() }
        await inTurn {
            guard self.model != nil, id != self.currentChat else { return }
            await self.close(stopping: true)
            await self.openChat(id)
        }
    }

    /// Removes a chat; a new one is on the screen if it was this one.
    public func delete(_ id: UUID) async {
        if id == currentChat { stop() }
        await inTurn {
            let current = id == self.currentChat
            if current { await self.close(stopping: true) }
            do { try self.folder.delete(id) } catch { self.show(error) }
            // They may be this chat's, and say as much.
            try? FileManager.default.removeItem(at: self.folder.keysAndValues)
            self.savedChats = self.folder.savedChats()
            if current { await self.openChat(UUID()) }
        }
    }

    /// Takes over settings, all but the model. A message that is being answered is answered to its end as before.
    public func apply(_ chosen: ChatSettings) async {
        await inTurn {
            let before = self.settings
            var settings = chosen
            settings.model = before.model
            guard settings != before else { return }
            self.change(settings)
            self.chat?.savePower(settings.savesPower(self.device.conditions))
            var power = before
            power.powerSaver = settings.powerSaver
            guard power != settings, self.model != nil else { return }
            // The instructions of a chat stay as they were when it began.
            let id = self.messages.isEmpty ? UUID() : self.currentChat ?? UUID()
            await self.close(stopping: false)
            if settings.smallCache == before.smallCache {
                await self.openChat(id)
            } else {
                await self.openModel(chat: id)
            }
        }
    }

    private func change(_ settings: ChatSettings) {
        self.settings = settings
        do { try settings.write(folder.settings) } catch { show(error) }
    }

    /// Goes on with another model. A message that is being answered is answered to its end by the one before.
    public func choose(_ model: SavedModel) async {
        await inTurn { await self.change(toModel: model.name) }
    }

    private func change(toModel name: String) async {
        guard name != currentModel || model == nil else { return }
        var settings = settings
        settings.model = name
        change(settings)
        let id = currentChat
        await close(stopping: false)
        await openModel(chat: id)
    }

    /// Removes a model; where it was the open one, its answer ends and the model that was imported last is opened.
    public func delete(_ model: SavedModel) async {
        await inTurn {
            let id = self.currentChat
            let current = model.name == self.currentModel
            if current {
                await self.close(stopping: true)
                self.model = nil
            }
            do { try self.folder.deleteModel(model.name) } catch { self.show(error) }
            self.savedModels = self.folder.savedModels()
            if current { await self.openModel(chat: id) }
        }
    }

    /// Shows a model that is in the app's folder now, and opens it where none is open.
    public func modelArrived(_ url: URL) async {
        savedModels = folder.savedModels()
        await inTurn {
            if self.model == nil { await self.change(toModel: url.deletingPathExtension().lastPathComponent) }
        }
    }

    /// Copies a model into the app and opens it; ``importing`` tells how far it is.
    public func importModel(from url: URL) async {
        guard importTask == nil else { return }
        let importer = ModelImporter(into: folder, open: open)
        importing = 0
        let task = Task {
            try await importer.importModel(from: url) { [weak self] share in
                Task { @MainActor in self?.hear(copied: share) }
            }
        }
        importTask = task
        let result = await task.result
        importTask = nil
        importing = nil
        switch result {
        case let .success(url):
            savedModels = folder.savedModels()
            await inTurn { await self.change(toModel: url.deletingPathExtension().lastPathComponent) }
        case let .failure(error):
            show(error)
        }
    }

    /// Stops the copying; nothing is left of it.
    public func cancelImport() {
        importTask?.cancel()
    }

    /// Reports may overtake each other on their way here.
    private func hear(copied share: Double) {
        if importTask != nil, let before = importing { importing = max(before, share) }
    }

    /// Opens the model on disk and a chat: the given one, or the last one, or a new one.
    func openModel(chat id: UUID? = nil) async {
        chat = nil
        model = nil
        savedChats = folder.savedChats()
        savedModels = folder.savedModels()
        let url = folder.model(settings.model)
        currentModel = url?.deletingPathExtension().lastPathComponent
        guard let url else {
            phase = .noModel
            return
        }
        phase = .opening
        do {
            let model = try await open(url, settings.modelOptions(budget: Memory.budget()))
            guard model.info.answersMessages else {
                throw ThimbleError.other(message: "\(model.info.name) continues text and answers no messages.")
            }
            self.model = model
            await openChat(id ?? savedChats.first?.id ?? UUID())
        } catch {
            show(error)
            phase = .noModel
        }
    }

    /// Milliseconds that the screen waits for a chat to be released.
    private static let mostWaits = 2000

    /// Releases the chat on the screen, after its answer. When this returns its journal may be opened again.
    func close(stopping: Bool) async {
        if stopping { stop() }
        await answering?.value
        // An empty chat leaves nothing.
        let empty = messages.isEmpty ? currentChat : nil
        weak var closing = chat
        chat = nil
        currentChat = nil
        messages = []
        // A journal belongs to one chat at a time, and another thread may hold this one for a moment after its answer.
        for _ in 0..<Self.mostWaits where closing != nil { try? await Task.sleep(nanoseconds: 1_000_000) }
        if let empty { try? folder.delete(empty) }
    }

    /// Puts a chat on the screen, from its journal where it has one.
    func openChat(_ id: UUID) async {
        guard let model else { return }
        phase = .opening
        do {
            let chat = try await model.chat(options(id))
            show(chat, id)
        } catch {
            show(error)
            await openInstead(of: id, model)
        }
        savedChats = folder.savedChats()
    }

    /// A chat that cannot be opened must not keep the user from others; its file stays.
    private func openInstead(of id: UUID, _ model: any ChatModel) async {
        let id = UUID()
        do {
            let chat = try await model.chat(options(id))
            show(chat, id)
        } catch {
            phase = .noModel
        }
    }

    private func options(_ id: UUID) -> ChatOptions {
        settings.chatOptions.journaled(at: folder.journal(id)).keepingKeysAndValues(at: folder.keysAndValues)
    }

    private func show(_ chat: any Conversing, _ id: UUID) {
        self.chat = chat
        currentChat = id
        messages = chat.history.map { ChatMessage(fromUser: $0.fromUser, text: $0.text) }
        if draft.isEmpty, let unanswered = chat.unanswered { draft = unanswered }
        chat.savePower(settings.savesPower(device.conditions))
        if isInBackground { chat.pause() }
        phase = .ready
        refreshStats()
    }
}
