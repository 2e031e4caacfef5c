import SwiftUI
import ThimbleChat
import UniformTypeIdentifiers

/// The conversation, the message that is being written, and the way to everything else.
struct ChatScreen: View {
    @Bindable var viewModel: ChatViewModel
    let downloads: DownloadsViewModel
    let forms: FormsViewModel
    @State private var sheet: Sheet?
    @State private var isPicking = false
    @FocusState private var isWriting: Bool

    private enum Sheet: String, Identifiable {
        case chats
        case settings
        case downloads
        case forms
        var id: String { rawValue }
    }

    var body: some View {
        NavigationStack {
            VStack(spacing: 0) {
                if let share = viewModel.importing { ImportBar(share: share, cancel: viewModel.cancelImport) }
                switch viewModel.phase {
                case .noModel:
                    NoModelView(hasOthers: !viewModel.savedModels.isEmpty) {
                        isPicking = true
                    } download: {
                        sheet = .downloads
                    }
                case .opening: ProgressView("Opening…").frame(maxWidth: .infinity, maxHeight: .infinity)
                case .ready, .answering: conversation
                }
            }
            .navigationTitle("Thimble")
            .navigationBarTitleDisplayMode(.inline)
            .toolbar { toolbar }
        }
        .sheet(item: $sheet) { sheet in
            switch sheet {
            case .chats: ChatsSheet(viewModel: viewModel)
            case .settings: SettingsSheet(viewModel: viewModel) { isPicking = true }
            case .downloads: DownloadsSheet(viewModel: downloads)
            case .forms: FormsSheet(viewModel: forms)
            }
        }
        .fileImporter(isPresented: $isPicking, allowedContentTypes: [.thimble, .data]) { result in
            switch result {
            case let .success(url): Task { await viewModel.importModel(from: url) }
            case let .failure(error): viewModel.notice = error.localizedDescription
            }
        }
        .alert("That did not work", isPresented: isNoticing) {
            Button("OK", role: .cancel) {}
        } message: {
            Text(viewModel.notice ?? "")
        }
    }

    private var isNoticing: Binding<Bool> {
        Binding(get: { viewModel.notice != nil }, set: { if !$0 { viewModel.notice = nil } })
    }

    @ToolbarContentBuilder
    private var toolbar: some ToolbarContent {
        ToolbarItem(placement: .topBarLeading) {
            Button("Chats", systemImage: "list.bullet") { sheet = .chats }
                .disabled(viewModel.phase == .noModel)
        }
        ToolbarItem(placement: .topBarLeading) {
            Button("Models", systemImage: "arrow.down.circle") { sheet = .downloads }
        }
        ToolbarItem(placement: .topBarTrailing) {
            Button("Fill in a form", systemImage: "list.clipboard") { sheet = .forms }
                .disabled(viewModel.phase == .noModel)
        }
        ToolbarItem(placement: .topBarTrailing) {
            Button("Settings", systemImage: "gearshape") { sheet = .settings }
        }
        ToolbarItem(placement: .topBarTrailing) {
            Button("New chat", systemImage: "square.and.pencil") { Task { await viewModel.newChat() } }
                .disabled(viewModel.messages.isEmpty)
        }
    }

    private var conversation: some View {
        VStack(spacing: 0) {
            MessageList(viewModel: viewModel)
            if !viewModel.statsLine.isEmpty {
                Text(viewModel.statsLine)
                    .font(.caption)
                    .foregroundStyle(.secondary)
                    .padding(.vertical, 4)
                    .accessibilityLabel("Last answer: \(viewModel.statsLine)")
            }
            composer
        }
        .onChange(of: viewModel.phase) { before, now in
            // VoiceOver reads the whole answer once it is there, rather than each piece.
            if before == .answering, now == .ready, let answer = viewModel.messages.last, !answer.fromUser {
                AccessibilityNotification.Announcement(answer.text).post()
            }
        }
    }

    private var composer: some View {
        HStack(alignment: .bottom, spacing: 8) {
            TextField("Message", text: $viewModel.draft, axis: .vertical)
                .lineLimit(1...6)
                .textFieldStyle(.roundedBorder)
                .focused($isWriting)
                .accessibilityLabel("Message")
            if viewModel.phase == .answering {
                Button("Stop", systemImage: "stop.circle.fill", action: viewModel.stop)
                    .labelStyle(.iconOnly)
                    .font(.title)
                    .accessibilityHint("Stops the answer")
            } else {
                Button("Send", systemImage: "arrow.up.circle.fill", action: viewModel.send)
                    .labelStyle(.iconOnly)
                    .font(.title)
                    .disabled(!viewModel.canSend)
                    .keyboardShortcut(.return, modifiers: .command)
            }
        }
        .padding()
    }
}

extension UTType {
    /// Model files; any file may be chosen too, and the import says what it is not.
    static let thimble = UTType(filenameExtension: "thimble") ?? .data
}
