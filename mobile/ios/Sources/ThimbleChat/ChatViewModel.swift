import Foundation
import Observation
import Thimble

/// A message on the screen.
public struct ChatMessage: Identifiable, Equatable, Sendable {
    /// Stays the same while the text grows.
    public let id: UUID
    /// Whether the user wrote it, and not the model.
    public let fromUser: Bool
    /// The text so far.
    public internal(set) var text: String

    init(fromUser: Bool, text: String) {
        id = UUID()
        self.fromUser = fromUser
        self.text = text
    }
}

/// Everything the chat screen shows and does, without a screen.
@MainActor
@Observable
public final class ChatViewModel {
    /// What the screen can do now.
    public enum Phase: Equatable, Sendable {
        /// There is no model: let the user import one.
        case noModel
        /// The model or a chat is being opened.
        case opening
        /// Waits for a message.
        case ready
        /// An answer is being made.
        case answering
    }

    /// What the screen can do now.
    public internal(set) var phase = Phase.opening
    /// The conversation, oldest first; the last one grows while an answer is made.
    public internal(set) var messages: [ChatMessage] = []
    /// The message that is being written.
    public var draft = ""
    /// The share of a long prompt that was read, 0 to 1, before the answer begins.
    public internal(set) var reading: Double?
    /// Speed and memory, in one line.
    public internal(set) var statsLine = ""
    /// What went wrong, as a sentence, until the user has read it.
    public var notice: String?
    /// Chats on disk, the last one first.
    public internal(set) var savedChats: [SavedChat] = []
    /// Models on disk, by name.
    public internal(set) var savedModels: [SavedModel] = []
    /// The name of the one that is open, or that could not be opened.
    public internal(set) var currentModel: String?
    /// The one on the screen.
    public internal(set) var currentChat: UUID?
    /// The share of a model file that was copied, 0 to 1.
    public internal(set) var importing: Double?
    /// What the user chose; ``apply(_:)`` and ``choose(_:)`` change it.
    public internal(set) var settings: ChatSettings
    /// What there is to know about the model.
    public var modelInfo: ModelInfo? { model?.info }

    @ObservationIgnored let folder: AppFolder
    @ObservationIgnored let open: ModelOpener
    @ObservationIgnored let device: DeviceMonitor
    @ObservationIgnored var model: (any ChatModel)?
    @ObservationIgnored var chat: (any Conversing)?
    @ObservationIgnored var answering: Task<Void, Never>?
    @ObservationIgnored var importTask: Task<URL, any Error>?
    @ObservationIgnored private var lastTurn: Task<Void, Never>?
    @ObservationIgnored var isInBackground = false

    /// A view model on `folder`; nothing is opened before ``start()``.
    ///
    /// - Parameters:
    ///   - open: Opens a model file; tests have another way.
    ///   - device: Tells heat, low-power mode and short memory.
    public init(
        folder: AppFolder,
        open: @escaping ModelOpener = { try await Model.open($0, options: $1) },
        device: DeviceMonitor = DeviceMonitor()
    ) {
        self.folder = folder
        self.open = open
        self.device = device
        settings = ChatSettings.read(folder.settings)
        device.observe { [weak self] event in
            guard let self else { return false }
            Task { @MainActor in self.hear(event) }
            return true
        }
    }

    /// Opens the model and the last chat, where there are any and none is open yet.
    public func start() async {
        await inTurn { if self.model == nil { await self.openModel() } }
    }

    /// One thing after the other: what opens and closes waits for what was asked before.
    func inTurn(_ work: @escaping @MainActor () async -> Void) async {
        let before = lastTurn
        let turn = Task {
            await before?.value
            await work()
        }
        lastTurn = turn
        await turn.value
    }

    // MARK: - Messages

    /// Whether there is something to send and someone to answer.
    public var canSend: Bool { phase == .ready && !trimmedDraft.isEmpty }

    /// Whether the last message can be answered again.
    public var canRetry: Bool { phase == .ready && !messages.isEmpty }

    private var trimmedDraft: String { draft.trimmingCharacters(in: .whitespacesAndNewlines) }

    /// Sends the draft; the answer grows in ``messages``.
    public func send() {
        guard canSend, let chat else { return }
        let text = trimmedDraft
        draft = ""
        if messages.isEmpty, let currentChat { try? folder.name(currentChat, after: text) }
        messages.append(ChatMessage(fromUser: true, text: text))
        messages.append(ChatMessage(fromUser: false, text: ""))
        follow(chat.answer(text), ofTurn: .new(text))
    }

    /// Answers the last message again.
    public func retry() {
        guard canRetry, let chat, let last = messages.last else { return }
        messages[messages.count - 1] = ChatMessage(fromUser: false, text: "")
        follow(chat.answerAgain(), ofTurn: .again(before: last.text))
    }

    /// Stops the answer; what was shown of it stays.
    public func stop() {
        chat?.cancel()
    }

    /// What to go back to where there is no answer.
    private enum Turn {
        /// A message, for the draft.
        case new(String)
        /// The answer before.
        case again(before: String)
    }

    private func follow(_ events: AsyncThrowingStream<AnswerEvent, any Error>, ofTurn turn: Turn) {
        phase = .answering
        answering = Task {
            var answered = false
            do {
                for try await event in events { answered = self.hear(event) || answered }
            } catch {
                self.show(error)
            }
            self.ended(answered, turn)
        }
    }

    /// Shows an event; whether it is the end of an answer that is remembered.
    private func hear(_ event: AnswerEvent) -> Bool {
        switch event {
        case let .reading(done, of):
            reading = of > 0 ? Double(done) / Double(of) : nil
        case .reasoning:
            // The app shows answers only.
            reading = nil
        case let .piece(text):
            reading = nil
            messages[messages.count - 1].text += text
        case let .end(reply):
            // The worker remembers no turn that was stopped before its first character.
            return reply.finish != .cancelled || !reply.text.isEmpty
        }
        return false
    }

    private func ended(_ answered: Bool, _ turn: Turn) {
        // What was shown before an error stays, where the chat remembers it.
        let shown = messages.last?.text ?? ""
        let remembered = answered || (!shown.isEmpty && chat?.history.last?.text == shown)
        if !remembered {
            switch turn {
            case let .new(text):
                messages.removeLast(2)
                if draft.isEmpty { draft = text }
            case let .again(before):
                messages[messages.count - 1].text = before
            }
        }
        reading = nil
        answering = nil
        phase = .ready
        refreshStats()
        savedChats = folder.savedChats()
    }

    func refreshStats() {
        statsLine = chat?.stats.line(memory: Memory.used()) ?? ""
    }

    /// Shows what went wrong; that the user stopped something is not wrong.
    func show(_ error: any Error) {
        if error is CancellationError || error as? ThimbleError == .cancelled { return }
        notice = error.localizedDescription
    }

    // MARK: - The device

    /// Pauses work in the background, so that the system has no reason to end the app.
    public func enterBackground() {
        isInBackground = true
        chat?.pause()
    }

    /// Continues where it was.
    public func enterForeground() {
        isInBackground = false
        chat?.resume()
    }

    private func hear(_ event: DeviceEvent) {
        switch event {
        case let .conditions(conditions): chat?.savePower(settings.savesPower(conditions))
        case .memoryIsShort: chat?.freeMemory()
        }
    }
}
