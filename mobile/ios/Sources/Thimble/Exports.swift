// What an app needs from the FFI layer. `Model` and `Chat` are this module's own, for Swift.
@_exported import enum ThimbleFFI.Backend
@_exported import struct ThimbleFFI.ChatOptions
@_exported import struct ThimbleFFI.CompletionOptions
@_exported import enum ThimbleFFI.Finish
@_exported import enum ThimbleFFI.KvCache
@_exported import struct ThimbleFFI.Message
@_exported import struct ThimbleFFI.ModelInfo
@_exported import struct ThimbleFFI.ModelOptions
@_exported import struct ThimbleFFI.Reply
@_exported import struct ThimbleFFI.Sampling
@_exported import struct ThimbleFFI.Stats
