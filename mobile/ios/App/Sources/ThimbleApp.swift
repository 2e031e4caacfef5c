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
            case let .success(models):
                ChatScreen(viewModel: models.chats, downloads: models.downloads, forms: models.forms)
                    .task {
                        await models.chats.start()
                        await models.downloads.start()
                    }
                    .onChange(of: scenePhase) { _, phase in
                        switch phase {
                        case .background: models.chats.enterBackground()
                        case .active: models.chats.enterForeground()
                        default: break
                        }
                    }
            case let .failure(error):
                ContentUnavailableView(
                    "No room for chats", systemImage: "externaldrive.badge.xmark",
                    description: Text(error.localizedDescription))
            }
        }
        .backgroundTask(.urlSession(DownloadsViewModel.sessionIdentifier)) {
            await start.finishBackgroundEvents()
        }
    }
}

/// The app's view models.
@MainActor
private struct ViewModels {
    let chats: ChatViewModel
    let downloads: DownloadsViewModel
    let forms: FormsViewModel

    init() throws {
        chats = ChatViewModel(folder: try AppFolder.standard())
        let catalogue = Bundle.main.url(forResource: "catalogue", withExtension: "json")
        downloads = try DownloadsViewModel(chats: chats, catalogue: catalogue.map { try Data(contentsOf: $0) })
        forms = FormsViewModel(chats: chats)
    }
}

/// The view models, made once; it fails only where the app's own folder cannot be made.
@MainActor
private struct Start {
    let outcome: Result<ViewModels, any Error>

    init() { outcome = Result { try ViewModels() } }

    func finishBackgroundEvents() async {
        if case let .success(models) = outcome { await models.downloads.finishBackgroundEvents() }
    }
}
