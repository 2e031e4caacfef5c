import SwiftUI
import ThimbleChat

/// The app: one chat screen, and the system's notices.
@main
struct ThimbleApp: App {
    @State private var start = Start()
    @Environment(\.scenePhase) private var scenePhase

    var body: some Scene {
        WindowGroup {
            switch start.outcome {
            case let .success(viewModel):
                ChatScreen(viewModel: viewModel)
                    .task { await viewModel.start() }
                    .onChange(of: scenePhase) { _, phase in
                        switch phase {
                        case .background: viewModel.enterBackground()
                        case .active: viewModel.enterForeground()
                        default: break
                        }
                    }
            case let .failure(error):
                ContentUnavailableView(
                    "No room for chats", systemImage: "externaldrive.badge.xmark",
                    description: Text(error.localizedDescription))
            }
        }
    }
}

/// The view model, made once; it fails only where the app's own folder cannot be made.
@MainActor
private struct Start {
    let outcome: Result<ChatViewModel, any Error>

    init() {
        outcome = Result { ChatViewModel(folder: try AppFolder.standard()) }
    }
}
