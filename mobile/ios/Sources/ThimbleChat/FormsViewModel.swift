import Foundation
import Observation
import Thimble

/// What the app can fill in.
public enum FormKind: String, CaseIterable, Sendable, Identifiable {
    /// Something to go to.
    case event
    /// Somebody to reach.
    case contact

    /// The kind itself.
    public var id: Self { self }
}

/// A field of a form.
public struct FormField: Equatable, Sendable, Identifiable {
    /// What it is, for the screen.
    public let label: String
    /// What the text says; empty where it says nothing.
    public var value: String
    /// The label, which no other field of a form has.
    public var id: String { label }
}

/// An event in a text. What the text does not say is missing.
struct EventForm: Codable, Sendable, Equatable {
    let title: String
    let date: String?
    let time: String?
    let place: String?

    var fields: [FormField] {
        [("Title", title), ("Date", date), ("Time", time), ("Place", place)].map(FormField.init)
    }
}

/// A person in a text. What the text does not say is missing.
struct ContactForm: Codable, Sendable, Equatable {
    let name: String
    let phone: String?
    let email: String?
    let company: String?

    var fields: [FormField] {
        [("Name", name), ("Phone", phone), ("Email", email), ("Company", company)].map(FormField.init)
    }
}

extension FormField {
    fileprivate init(_ label: String, _ value: String?) {
        self.label = label
        self.value = value ?? ""
    }
}

/// Fills in forms from texts. A schema keeps the model to the fields of the form.
@MainActor
@Observable
public final class FormsViewModel {
    /// The form to fill in; another one forgets the fields.
    public var kind = FormKind.event {
        didSet { if kind != oldValue { clear() } }
    }
    /// The text to read.
    public var text = ""
    /// The fields, once they are filled in.
    public internal(set) var fields: [FormField] = []
    /// Whether the model reads the text.
    public internal(set) var isWorking = false
    /// What went wrong, as a sentence, until the user has read it.
    public var notice: String?

    @ObservationIgnored private let chats: ChatViewModel
    @ObservationIgnored private var work: Task<Void, Never>?

    /// Longest form in tokens.
    static let maxTokens: UInt32 = 256
    private static let instructions =
        "You take facts from a text, in the words of the text. You leave out what it does not say."

    /// Forms for the model that `chats` has open.
    public init(chats: ChatViewModel) { self.chats = chats }

    /// Whether there is a text to read and a model to read it.
    public var canFill: Bool {
        !isWorking && chats.model != nil && !text.trimmingCharacters(in: .whitespacesAndNewlines).isEmpty
    }

    /// Fills in the form from the text.
    public func fill() {
        guard canFill, let model = chats.model else { return }
        let (kind, text) = (kind, text.trimmingCharacters(in: .whitespacesAndNewlines))
        fields = []
        isWorking = true
        work = Task {
            do {
                fields = try await Self.read(text, kind, model)
            } catch let ThimbleError.incomplete(partial) {
                notice = "The model found no end of the form. It wrote: \(partial)"
            } catch {
                if !(error is CancellationError) { notice = error.localizedDescription }
            }
            isWorking = false
        }
    }

    /// Stops reading.
    public func stop() { work?.cancel() }

    private func clear() {
        stop()
        fields = []
    }

    private static func read(_ text: String, _ kind: FormKind, _ model: any ChatModel) async throws -> [FormField] {
        // The likeliest words are those of the text.
        let options = ChatOptions(
            system: instructions, sampling: Sampling(temperature: 0, repetitionPenalty: 1), maxTokens: maxTokens,
            thinking: false)
        switch kind {
        case .event:
            let question = "Give the title, date, time and place of the event in this text as JSON.\n\n\(text)"
            return try await model.answerOnce(question, as: EventForm.self, options: options).fields
        case .contact:
            let question = "Give the name, phone, email and company of the person in this text as JSON.\n\n\(text)"
            return try await model.answerOnce(question, as: ContactForm.self, options: options).fields
        }
    }
}
