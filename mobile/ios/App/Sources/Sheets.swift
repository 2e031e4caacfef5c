import SwiftUI
import ThimbleChat

/// Chats on disk.
struct ChatsSheet: View {
    let viewModel: ChatViewModel
    @Environment(\.dismiss) private var dismiss

    var body: some View {
        NavigationStack {
            List {
                ForEach(viewModel.savedChats) { chat in
                    Button {
                        dismiss()
                        Task { await viewModel.openSaved(chat.id) }
                    } label: {
                        row(chat)
                    }
                    .accessibilityAddTraits(chat.id == viewModel.currentChat ? .isSelected : [])
                }
                .onDelete { offsets in
                    let chats = offsets.map { viewModel.savedChats[$0].id }
                    Task { for chat in chats { await viewModel.delete(chat) } }
                }
            }
            .navigationTitle("Chats")
            .navigationBarTitleDisplayMode(.inline)
            .toolbar {
                ToolbarItem(placement: .cancellationAction) { Button("Close") { dismiss() } }
                ToolbarItem(placement: .primaryAction) {
                    Button("New chat", systemImage: "square.and.pencil") {
                        dismiss()
                        Task { await viewModel.newChat() }
                    }
                }
            }
        }
    }

    private func row(_ chat: SavedChat) -> some View {
        VStack(alignment: .leading) {
            Text(chat.title).lineLimit(2)
            Text(chat.changed, style: .relative).font(.caption).foregroundStyle(.secondary)
        }
        .accessibilityElement(children: .combine)
    }
}

/// The user's settings, applied when the sheet closes.
struct SettingsSheet: View {
    let viewModel: ChatViewModel
    let pickModel: () -> Void
    @State private var settings: ChatSettings
    @Environment(\.dismiss) private var dismiss

    init(viewModel: ChatViewModel, pickModel: @escaping () -> Void) {
        self.viewModel = viewModel
        self.pickModel = pickModel
        _settings = State(initialValue: viewModel.settings)
    }

    var body: some View {
        NavigationStack {
            Form {
                answers
                device
                model
                figures
            }
            .navigationTitle("Settings")
            .navigationBarTitleDisplayMode(.inline)
            .toolbar {
                ToolbarItem(placement: .cancellationAction) { Button("Cancel") { dismiss() } }
                ToolbarItem(placement: .confirmationAction) {
                    Button("Done") {
                        dismiss()
                        Task { await viewModel.apply(settings) }
                    }
                }
            }
        }
    }

    private var answers: some View {
        Section {
            LabeledContent("Temperature") {
                Text(settings.temperature, format: .number.precision(.fractionLength(1)))
            }
            Slider(value: $settings.temperature, in: ChatSettings.temperatures, step: 0.1) {
                Text("Temperature")
            }
            Picker("Longest answer", selection: $settings.maxTokens) {
                ForEach(ChatSettings.lengths, id: \.self) { Text("\($0) tokens") }
            }
            TextField("Instructions for new chats", text: $settings.systemPrompt, axis: .vertical)
                .lineLimit(2...6)
        } header: {
            Text("Answers")
        } footer: {
            Text("At temperature 0 the likeliest word is always taken.")
        }
    }

    private var device: some View {
        Section {
            Picker("Save power", selection: $settings.powerSaver) {
                Text("When hot or low").tag(ChatSettings.PowerSaver.automatic)
                Text("Always").tag(ChatSettings.PowerSaver.on)
                Text("Never").tag(ChatSettings.PowerSaver.off)
            }
            Toggle("Half the memory for long chats", isOn: $settings.smallCache)
        } header: {
            Text("Device")
        }
    }

    private var model: some View {
        Section {
            ForEach(viewModel.savedModels) { model in
                Button {
                    Task { await viewModel.choose(model) }
                } label: {
                    row(model)
                }
                .accessibilityAddTraits(model.name == viewModel.currentModel ? .isSelected : [])
            }
            .onDelete { offsets in
                let models = offsets.map { viewModel.savedModels[$0] }
                Task { for model in models { await viewModel.delete(model) } }
            }
            Button("Import a model…", systemImage: "square.and.arrow.down") {
                dismiss()
                pickModel()
            }
        } header: {
            Text("Models")
        } footer: {
            Text("Tap a model to use it; swipe to delete it.")
        }
    }

    private func row(_ model: SavedModel) -> some View {
        HStack {
            Label(model.name, systemImage: model.name == viewModel.currentModel ? "checkmark.circle.fill" : "circle")
            Spacer()
            Text(model.bytes, format: .byteCount(style: .file)).foregroundStyle(.secondary)
        }
        .accessibilityElement(children: .combine)
    }

    private var figures: some View {
        Section {
            if let info = viewModel.modelInfo {
                LabeledContent("Name", value: info.name)
                LabeledContent("Memory of a chat", value: Int64(info.stateBytes), format: .byteCount(style: .memory))
                LabeledContent("Context", value: "\(info.context) tokens")
            }
        } header: {
            Text("The model in use")
        }
    }
}
