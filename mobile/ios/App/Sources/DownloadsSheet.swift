import SwiftUI
import ThimbleChat

/// Models to download, and how far they are.
struct DownloadsSheet: View {
    @Bindable var viewModel: DownloadsViewModel
    @Environment(\.dismiss) private var dismiss

    var body: some View {
        NavigationStack {
            Form {
                if let notice = viewModel.notice {
                    Section {
                        Text(notice)
                        Button("OK") { viewModel.notice = nil }
                    } header: {
                        Text("That did not work")
                    }
                }
                if !viewModel.rows.isEmpty { models }
                hub
            }
            .navigationTitle("Download a model")
            .navigationBarTitleDisplayMode(.inline)
            .toolbar {
                ToolbarItem(placement: .cancellationAction) { Button("Close") { dismiss() } }
            }
            .task { await viewModel.refresh() }
        }
    }

    private var models: some View {
        Section {
            ForEach(viewModel.rows) { row in
                DownloadRow(row: row, viewModel: viewModel)
            }
            .onDelete { offsets in
                let rows = offsets.map { viewModel.rows[$0] }
                Task { for row in rows { await viewModel.delete(row) } }
            }
        } header: {
            Text("Models")
        } footer: {
            Text("Downloads use Wi-Fi only and go on while the app is closed. Swipe to delete a model or a download.")
        }
    }

    private var hub: some View {
        Section {
            TextField("owner/name", text: $viewModel.repository, axis: .horizontal)
                .accessibilityLabel("Repository")
            TextField("model.thimble", text: $viewModel.file, axis: .horizontal)
                .accessibilityLabel("File")
            Button("Download", systemImage: "arrow.down.circle", action: viewModel.downloadFromHub)
                .disabled(viewModel.repository.isEmpty || viewModel.file.isEmpty)
        } header: {
            Text("From the Hugging Face hub")
        } footer: {
            Text("A repository, and a .thimble file in it.")
        }
    }
}

/// A model, and what can be done with it.
private struct DownloadRow: View {
    let row: DownloadsViewModel.Row
    let viewModel: DownloadsViewModel

    var body: some View {
        HStack {
            VStack(alignment: .leading, spacing: 4) {
                Text(row.title)
                detail
            }
            Spacer()
            button
        }
    }

    @ViewBuilder
    private var detail: some View {
        switch row.status {
        case .offered:
            if let bytes = row.bytes {
                Text(bytes, format: .byteCount(style: .file)).font(.caption).foregroundStyle(.secondary)
            }
        case let .running(received, total): progress("Downloading…", received, total)
        case .checking: ProgressView("Checking…")
        case let .paused(received, total): progress("Paused", received, total)
        case .here: Label("On this device", systemImage: "checkmark").font(.caption).foregroundStyle(.secondary)
        }
    }

    private func progress(_ title: String, _ received: Int64, _ total: Int64?) -> some View {
        let share = total.map { $0 > 0 ? Double(received) / Double($0) : 0 } ?? 0
        return ProgressView(title, value: share)
            .accessibilityValue(Text(share, format: .percent.precision(.fractionLength(0))))
    }

    @ViewBuilder
    private var button: some View {
        switch row.status {
        case .offered:
            Button("Download", systemImage: "arrow.down.circle") { viewModel.download(row) }.labelStyle(.iconOnly)
        case .paused:
            Button("Continue", systemImage: "arrow.clockwise") { viewModel.download(row) }.labelStyle(.iconOnly)
        case .running:
            Button("Pause", systemImage: "pause.circle") { Task { await viewModel.pause(row) } }
                .labelStyle(.iconOnly)
        case .checking, .here: Spacer()
        }
    }
}
