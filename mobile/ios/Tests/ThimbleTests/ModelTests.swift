import Foundation
import Thimble
import XCTest

/// Files: models and conversations on disk.
final class ModelTests: ModelTestCase {
    func testInfoTellsThePlan() async throws {
        let model = try await openModel()
        let size = try FileManager.default.attributesOfItem(atPath: modelFile().path)[.size] as? UInt64
        XCTAssertEqual(model.info.fileBytes, size)
        XCTAssertEqual(model.info.context, 512)
        XCTAssertTrue(model.info.answersMessages)
        XCTAssertGreaterThan(model.info.stateBytes, 0)
        try await model.verify()
    }

    func testTheBudgetIsKept() async throws {
        let file = try modelFile()
        let error = await thrown {
            _ = try await Model.open(file, options: ModelOptions(budgetBytes: 1_000_000))
        }
        guard case let .tooLarge(needed, budget) = error else { return XCTFail("\(String(describing: error))") }
        XCTAssertEqual(budget, 1_000_000)
        _ = try await Model.open(file, options: ModelOptions(budgetBytes: needed))
        let justUnder = await thrown {
            _ = try await Model.open(file, options: ModelOptions(budgetBytes: needed - 1))
        }
        XCTAssertEqual(justUnder, .tooLarge(needed: needed, budget: needed - 1))
    }

    func testFilesThatAreNoModel() async throws {
        let none = folder.appendingPathComponent("none.thimble")
        let missing = await thrown { _ = try await Model.open(none) }
        XCTAssertEqual(missing, .notFound(path: none.path))
        let text = folder.appendingPathComponent("text.thimble")
        try Data(String(repeating: "This is a text. ", count: 1000).utf8).write(to: text)
        let other = await thrown { _ = try await Model.open(text) }
        XCTAssertEqual(other, .notAModel(path: text.path))
    }

    func testDamageIsFound() async throws {
        let whole = try Data(contentsOf: modelFile())
        let cut = folder.appendingPathComponent("cut.thimble")
        try whole.prefix(whole.count / 2).write(to: cut)
        let half = await thrown { _ = try await Model.open(cut) }
        guard case .damaged = half else { return XCTFail("\(String(describing: half))") }

        var changed = whole
        changed[changed.count - 1000] ^= 1
        let file = folder.appendingPathComponent("changed.thimble")
        try changed.write(to: file)
        let model = try await Model.open(file)
        let bit = await thrown { try await model.verify() }
        guard case .damaged = bit else { return XCTFail("\(String(describing: bit))") }
    }

    func testTokens() async throws {
        let model = try await openModel()
        let ids = try await model.tokens("Hello world")
        XCTAssertEqual(ids, [19556, 905])
    }

    func testACompletionIsThatOfTheCommand() async throws {
        guard let expected = ProcessInfo.processInfo.environment["THIMBLE_RUN_TEXT"] else {
            try missing("THIMBLE_RUN_TEXT is what `thimble run --temperature 0 --max-tokens 40` makes of the prompt")
        }
        let model = try await openModel()
        let sampling = Sampling(temperature: 0, topP: nil, repetitionPenalty: 1)
        let options = CompletionOptions(maxTokens: 40, sampling: sampling)
        let text = try await joined(model.complete("Once upon a time", options: options))
        XCTAssertEqual(text, expected)
        let stop = String(expected.dropFirst(20).prefix(3))
        let short = CompletionOptions(maxTokens: 40, sampling: sampling, stop: [stop])
        var end: Reply?
        for try await event in model.completion(of: "Once upon a time", options: short) {
            if case let .end(reply) = event { end = reply }
        }
        XCTAssertEqual(end?.finish, .stop)
        XCTAssertEqual(end.map { $0.text + stop }, expected.range(of: stop).map { String(expected[..<$0.upperBound]) })
        let senseless = await thrown {
            _ = try await joined(model.complete("a", options: CompletionOptions(stop: [""])))
        }
        guard case .other = senseless else { return XCTFail("\(String(describing: senseless))") }
    }

    func testACompletionWaitsAndGoesOn() async throws {
        let model = try await openModel()
        let sampling = Sampling(temperature: 0, topP: nil, repetitionPenalty: 1)
        let options = CompletionOptions(maxTokens: 30, sampling: sampling)
        let expected = try await joined(model.complete("Once upon a time", options: options))

        let completion = model.complete("Once upon a time", options: options)
        completion.savePower(true)
        var text = ""
        var pieces = 0
        for try await piece in completion {
            text += piece
            pieces += 1
            if pieces % 5 == 0 {
                completion.pause()
                await Task.yield()
                completion.resume()
            }
        }
        XCTAssertEqual(text, expected, "a pause and fewer threads change nothing")

        // Paused before its first token it does not come to an end, until it is cancelled.
        let paused = model.completion(of: "Once upon a time", options: options)
        paused.pause()
        paused.cancel()
        var last: AnswerEvent?
        for try await event in paused { last = event }
        guard case let .end(reply) = last else { return XCTFail("a completion without an end") }
        XCTAssertEqual(reply.finish, .cancelled)
    }

    func testSaveAndRestore() async throws {
        let model = try await openModel()
        let chat = try await Chat(model, options: greedy(maxTokens: 30, system: "Be brief."))
        _ = try await joined(chat.send("What is the capital of France?"))
        let file = folder.appendingPathComponent("chat.json")
        try await chat.save(to: file)
        let expected = try await joined(chat.send("And of Italy?"))

        let other = try await Chat(model, options: greedy(maxTokens: 30))
        try await other.restore(from: file)
        XCTAssertEqual(other.history, Array(chat.history.prefix(2)))
        let text = try await joined(other.send("And of Italy?"))
        XCTAssertEqual(text, expected, "the instructions are restored too")

        let none = folder.appendingPathComponent("none.json")
        let missing = await thrown { try await other.restore(from: none) }
        XCTAssertEqual(missing, .notFound(path: none.path))
        XCTAssertEqual(other.history.count, 4, "what cannot be restored changes nothing")
    }

    func testAJournalGoesOnWhereItWas() async throws {
        let model = try await openModel()
        let options = greedy(maxTokens: 30).journaled(at: folder.appendingPathComponent("chat.journal"))
        func answerOnce() async throws -> [Message] {
            let chat = try await Chat(model, options: options)
            _ = try await joined(chat.send("What is the capital of France?"))
            return chat.history
        }
        let first = try await answerOnce()

        var shown = ""
        func breakOff() async throws {
            let again = try await Chat(model, options: options)
            XCTAssertEqual(again.history, first)
            var pieces = again.send("Count from 1 to 100.").makeAsyncIterator()
            for _ in 0..<5 { shown += try await pieces.next() ?? "" }
        }
        try await breakOff()
        let last = try await Chat(model, options: options)
        XCTAssertEqual(last.history.count, 4)
        XCTAssertEqual(last.history[2].text, "Count from 1 to 100.")
        XCTAssertTrue(last.history[3].text.hasPrefix(shown), "\(last.history[3].text) begins with \(shown)")
    }

    func testWhatIsNoJournalIsLeftAlone() async throws {
        let file = folder.appendingPathComponent("notes.txt")
        try Data("my notes\n".utf8).write(to: file)
        let model = try await openModel()
        let error = await thrown { _ = try await Chat(model, options: ChatOptions().journaled(at: file)) }
        guard case .damaged = error else { return XCTFail("\(String(describing: error))") }
        XCTAssertEqual(try String(contentsOf: file, encoding: .utf8), "my notes\n")
    }

    func testErrorsAreSentences() {
        XCTAssertEqual(
            ThimbleError.tooLarge(needed: 200_000_000, budget: 100_000_000).localizedDescription,
            "The model needs 200 MB of memory, and 100 MB are free for it.")
        XCTAssertEqual(
            ThimbleError.notAModel(path: "/a/b.gguf").localizedDescription, "b.gguf is not a .thimble file.")
    }
}
