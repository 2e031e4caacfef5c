import SwiftUI

/// The way to a first model.
struct NoModelView: View {
    /// Whether there are models, and none of them is open.
    let hasOthers: Bool
    let pick: () -> Void

    var body: some View {
        ContentUnavailableView {
            Label(hasOthers ? "No model is open" : "No model yet", systemImage: "shippingbox")
        } description: {
            if hasOthers { Text("Choose another one in the settings, or import one.") }
            Text("Choose a .thimble file. It is copied into the app, and nothing leaves this device.")
        } actions: {
            Button("Import a model…", action: pick).buttonStyle(.borderedProminent)
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
