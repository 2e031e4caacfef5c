import SwiftUI

/// The way to a first model.
struct NoModelView: View {
    /// Whether there are models, and none of them is open.
    let hasOthers: Bool
    let pick: () -> Void
    let download: () -> Void

    var body: some View {
        ContentUnavailableView {
            Label(hasOthers ? "No model is open" : "No model yet", systemImage: "shippingbox")
        } description: {
            if hasOthers { Text("Choose another one in the settings, or add one.") }
            Text("Download a model, or choose a .thimble file. What you write stays on this device.")
        } actions: {
            Button("Download a model…", action: download).buttonStyle(.borderedProminent)
            Button("Import a model…", action: pick)
        }
    }
}

/// How much of a model was copied.
struct ImportBar: View {
    let share: Double
    let cancel: () -> Void

    var body: some View {
        HStack {
            ProgressView("Importing…", value: share)
                .accessibilityValue(Text(share, format: .percent.precision(.fractionLength(0))))
            Button("Cancel", role: .cancel, action: cancel)
        }
        .padding()
        .background(.bar)
    }
}
