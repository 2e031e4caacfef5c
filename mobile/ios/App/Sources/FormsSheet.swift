import SwiftUI
import ThimbleChat

/// A text, and the form that the model fills in from it.
struct FormsSheet: View {
    @Bindable var viewModel: FormsViewModel
    @Environment(\.dismiss) private var dismiss

    var body: some View {
        NavigationStack {
            Form {
                source
                if let notice = viewModel.notice {
                    Section {
                        Text(notice)
                        Button("OK") { viewModel.notice = nil }
                    } header: {
                        Text("That did not work")
                    }
                }
                if !viewModel.fields.isEmpty { fields }
            }
            .navigationTitle("Fill in a form")
            .navigationBarTitleDisplayMode(.inline)
            .toolbar {
                ToolbarItem(placement: .cancellationAction) {
                    Button("Close") {
                        viewModel.stop()
                        dismiss()
                    }
                }
            }
        }
    }

    private var source: some View {
        Section {
            Picker("Form", selection: $viewModel.kind) {
                ForEach(FormKind.allCases) { kind in Text(title(kind)).tag(kind) }
            }
            TextField("Paste a text, such as an invitation or a signature", text: $viewModel.text, axis: .vertical)
                .lineLimit(3...10)
            if viewModel.isWorking {
                ProgressView("Reading…")
                Button("Stop", systemImage: "stop.circle", action: viewModel.stop)
            } else {
                Button("Fill in", systemImage: "wand.and.stars", action: viewModel.fill).disabled(!viewModel.canFill)
            }
        } header: {
            Text("Text")
        }
    }

    private var fields: some View {
        Section {
            ForEach(viewModel.fields) { field in
                LabeledContent(field.label, value: field.value.isEmpty ? "–" : field.value)
            }
            ShareLink(item: viewModel.fields.map { "\($0.label): \($0.value)" }.joined(separator: "\n"))
        } header: {
            Text(title(viewModel.kind))
        } footer: {
            Text("Compare it with the text: a small model makes mistakes.")
        }
    }

    private func title(_ kind: FormKind) -> String {
        switch kind {
        case .event: return "Event"
        case .contact: return "Contact"
        }
    }
}
