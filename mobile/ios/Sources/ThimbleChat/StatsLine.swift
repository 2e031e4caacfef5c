import Foundation
import Thimble

extension Stats {
    /// One line for the screen: `12.3 tokens/s · 87 tokens · 145 MB`.
    func line(memory: UInt64?) -> String {
        var parts: [String] = []
        if tokens > 0 {
            let tenths = (speed * 10).rounded() / 10
            parts.append("\(tenths) tokens/s")
            parts.append("\(tokens) tokens")
        }
        if let memory { parts.append("\(memory / 1_000_000) MB") }
        return parts.joined(separator: " · ")
    }
}
