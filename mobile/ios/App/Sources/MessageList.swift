import SwiftUI
import ThimbleChat

/// The messages, with the last one in sight while it grows.
struct MessageList: View {
    let viewModel: ChatViewModel

    var body: some View {
        ScrollViewReader { proxy in
            ScrollView {
                LazyVStack(alignment: .leading, spacing: 12) {
                    ForEach(viewModel.messages) { message in
                        MessageRow(message: message, isGrowing: isGrowing(message), reading: viewModel.reading)
                            .id(message.id)
                    }
                    if viewModel.canRetry {
                        Button("Answer again", systemImage: "arrow.clockwise", action: viewModel.retry)
                            .font(.footnote)
                    }
                }
                .padding()
            }
            .scrollDismissesKeyboard(.interactively)
            .overlay {
                if viewModel.messages.isEmpty {
                    ContentUnavailableView(
                        "Ask anything", systemImage: "bubble.left.and.bubble.right",
                        description: Text("Everything stays on this device."))
                }
            }
            .onChange(of: viewModel.messages.last?.text) { _, _ in
                if let last = viewModel.messages.last { proxy.scrollTo(last.id, anchor: .bottom) }
            }
        }
    }

    private func isGrowing(_ message: ChatMessage) -> Bool {
        viewModel.phase == .answering && message.id == viewModel.messages.last?.id
    }
}

/// A message of the person or of the model.
struct MessageRow: View {
    let message: ChatMessage
    let isGrowing: Bool
    let reading: Double?

    var body: some View {
        HStack {
            if message.fromUser { Spacer(minLength: 40) }
            content
                .padding(.horizontal, 12)
                .padding(.vertical, 8)
                .background(background, in: RoundedRectangle(cornerRadius: 16))
            if !message.fromUser { Spacer(minLength: 40) }
        }
        .accessibilityElement(children: .ignore)
        .accessibilityLabel(message.fromUser ? "You" : "Model")
        .accessibilityValue(message.text)
        .accessibilityAddTraits(isGrowing ? .updatesFrequently : [])
        .contextMenu {
            Button("Copy", systemImage: "doc.on.doc") { UIPasteboard.general.string = message.text }
            ShareLink(item: message.text)
        }
    }

    @ViewBuilder
    private var content: some View {
        if message.text.isEmpty, isGrowing {
            // How far a long message was read, or that the model thinks.
            if let reading {
                ProgressView("Reading…", value: reading)
            } else {
                ProgressView()
            }
        } else {
            Text(message.text).textSelection(.enabled)
        }
    }

    private var background: Color {
        message.fromUser ? Color.accentColor.opacity(0.2) : Color(.secondarySystemBackground)
    }
}
