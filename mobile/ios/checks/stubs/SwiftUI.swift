// Stand-in for Apple's module of this name, for `check.sh`: what the app uses of it, as Apple documents it, without any
// body. The compiler can then check the screens against the view model on a machine that has no SwiftUI.

@_exported import Foundation
@_exported import Observation
import UniformTypeIdentifiers

func absent<Value>() -> Value { fatalError("a stand-in") }

// MARK: - Views, scenes, the app

@MainActor @preconcurrency
public protocol View {
    associatedtype Body: View
    @ViewBuilder @MainActor @preconcurrency var body: Body { get }
}

extension Never: View {
    public var body: Never { fatalError() }
}

/// A view of the system's own.
@MainActor @preconcurrency
public protocol Leaf: View where Body == Never {}
extension Leaf {
    public var body: Never { fatalError() }
}

public struct Group: Leaf {}
public struct EmptyView: Leaf { public nonisolated init() {} }
public struct Pair<First: View, Second: View>: Leaf {}
extension Optional: View where Wrapped: View {
    public var body: Never { fatalError() }
}

@resultBuilder
public struct ViewBuilder {
    public static func buildBlock() -> EmptyView { absent() }
    public static func buildPartialBlock<Content: View>(first: Content) -> Content { absent() }
    public static func buildPartialBlock<First: View, Second: View>(
        accumulated: First, next: Second
    ) -> Pair<First, Second> { absent() }
    public static func buildExpression<Content: View>(_ content: Content) -> Content { absent() }
    public static func buildIf<Content: View>(_ content: Content?) -> Content? { absent() }
    public static func buildEither<First: View, Second: View>(first: First) -> Pair<First, Second> { absent() }
    public static func buildEither<First: View, Second: View>(second: Second) -> Pair<First, Second> { absent() }
}

@MainActor @preconcurrency
public protocol Scene {
    associatedtype Body: Scene
    @SceneBuilder @MainActor @preconcurrency var body: Body { get }
}
extension Never: Scene {}
@resultBuilder
public struct SceneBuilder {
    public static func buildBlock<Content: Scene>(_ content: Content) -> Content { absent() }
}
public struct WindowGroup<Content: View>: Scene {
    public init(@ViewBuilder content: () -> Content) {}
    public var body: Never { fatalError() }
}

@MainActor @preconcurrency
public protocol App {
    associatedtype Body: Scene
    @SceneBuilder @MainActor @preconcurrency var body: Body { get }
    init()
}
extension App {
    public static func main() {}
}

// MARK: - State

@propertyWrapper
public struct State<Value> {
    public init(wrappedValue: Value) {}
    public init(initialValue: Value) {}
    public var wrappedValue: Value {
        get { absent() }
        nonmutating set {}
    }
    public var projectedValue: Binding<Value> { absent() }
}
extension State where Value: ExpressibleByNilLiteral {
    public init() {}
}

@propertyWrapper @dynamicMemberLookup
public struct Binding<Value> {
    public init(get: @escaping () -> Value, set: @escaping (Value) -> Void) {}
    public var wrappedValue: Value {
        get { absent() }
        nonmutating set {}
    }
    public var projectedValue: Binding<Value> { absent() }
    public subscript<Subject>(dynamicMember path: WritableKeyPath<Value, Subject>) -> Binding<Subject> { absent() }
}

@propertyWrapper @dynamicMemberLookup
public struct Bindable<Value: AnyObject & Observable> {
    public init(wrappedValue: Value) { self.wrappedValue = wrappedValue }
    public var wrappedValue: Value
    public var projectedValue: Bindable<Value> { absent() }
    public subscript<Subject>(dynamicMember path: ReferenceWritableKeyPath<Value, Subject>) -> Binding<Subject> { absent() }
}

@propertyWrapper
public struct FocusState<Value: Hashable> {
    @propertyWrapper
    public struct Binding {
        public init(wrappedValue: Value) {}
        public var wrappedValue: Value {
            get { absent() }
            nonmutating set {}
        }
    }
    public init() where Value == Bool {}
    public var wrappedValue: Value {
        get { absent() }
        nonmutating set {}
    }
    public var projectedValue: FocusState<Value>.Binding { absent() }
}

@propertyWrapper
public struct Environment<Value> {
    public init(_ keyPath: KeyPath<EnvironmentValues, Value>) {}
    public var wrappedValue: Value { absent() }
}
public struct EnvironmentValues {
    public var scenePhase: ScenePhase { absent() }
    public var dismiss: DismissAction { absent() }
}
public enum ScenePhase: Comparable, Sendable { case background, inactive, active }
@MainActor @preconcurrency
public struct DismissAction {
    public func callAsFunction() {}
}

// MARK: - Values

public struct Color: Leaf, ShapeStyle {
    public init(_ color: UIColor) {}
    public static var accentColor: Color { absent() }
    public func opacity(_ opacity: Double) -> Color { absent() }
}
public final class UIColor: @unchecked Sendable {
    public static var secondarySystemBackground: UIColor { absent() }
}
@MainActor
public final class UIPasteboard {
    public static var general: UIPasteboard { absent() }
    public var string: String? {
        get { absent() }
        set {}
    }
}
public protocol ShapeStyle: Sendable {}
public struct HierarchicalShapeStyle: ShapeStyle {}
extension ShapeStyle where Self == HierarchicalShapeStyle {
    public static var secondary: HierarchicalShapeStyle { absent() }
}
public struct Material: ShapeStyle {}
extension ShapeStyle where Self == Material {
    public static var bar: Material { absent() }
}
public protocol Shape: View, Sendable {}
public struct RoundedRectangle: Shape, Leaf {
    public nonisolated init(cornerRadius: Double) {}
}
public struct Font: Sendable {
    public static var caption: Font { absent() }
    public static var footnote: Font { absent() }
    public static var title: Font { absent() }
}
public enum HorizontalAlignment { case leading, center, trailing }
public enum VerticalAlignment { case top, center, bottom }
public enum Alignment { case center }
public struct UnitPoint { public static var bottom: UnitPoint { absent() } }
public struct Axis { public struct Set: OptionSet {
    public let rawValue: Int
    public init(rawValue: Int) { self.rawValue = rawValue }
}
    public static var horizontal: Axis { absent() }
    public static var vertical: Axis { absent() }
}
public struct Edge { public struct Set: OptionSet, Sendable {
    public let rawValue: Int
    public init(rawValue: Int) { self.rawValue = rawValue }
    public static let all = Set(rawValue: 1)
    public static let horizontal = Set(rawValue: 2)
    public static let vertical = Set(rawValue: 4)
} }
public struct ButtonRole: Sendable {
    public static let cancel: ButtonRole = absent()
    public static let destructive: ButtonRole = absent()
}
public struct KeyEquivalent: Sendable { public static let `return`: KeyEquivalent = absent() }
public struct EventModifiers: OptionSet, Sendable {
    public let rawValue: Int
    public init(rawValue: Int) { self.rawValue = rawValue }
    public static let command = EventModifiers(rawValue: 1)
}
public struct AccessibilityTraits: SetAlgebra, Sendable {
    public typealias Element = AccessibilityTraits
    public static let isSelected: AccessibilityTraits = absent()
    public static let updatesFrequently: AccessibilityTraits = absent()
    public init() {}
    public func contains(_ member: AccessibilityTraits) -> Bool { absent() }
    public func union(_ other: AccessibilityTraits) -> AccessibilityTraits { absent() }
    public func intersection(_ other: AccessibilityTraits) -> AccessibilityTraits { absent() }
    public func symmetricDifference(_ other: AccessibilityTraits) -> AccessibilityTraits { absent() }
    public mutating func insert(_ new: AccessibilityTraits) -> (inserted: Bool, memberAfterInsert: AccessibilityTraits) { absent() }
    public mutating func remove(_ member: AccessibilityTraits) -> AccessibilityTraits? { absent() }
    public mutating func update(with new: AccessibilityTraits) -> AccessibilityTraits? { absent() }
    public mutating func formUnion(_ other: AccessibilityTraits) {}
    public mutating func formIntersection(_ other: AccessibilityTraits) {}
    public mutating func formSymmetricDifference(_ other: AccessibilityTraits) {}
}
public struct AccessibilityChildBehavior: Sendable {
    public static let ignore: AccessibilityChildBehavior = absent()
    public static let combine: AccessibilityChildBehavior = absent()
}
public enum AccessibilityNotification {
    public struct Announcement {
        public init(_ announcement: String) {}
        public func post() {}
    }
}

// MARK: - The system's own views

public struct Text: Leaf {
    public struct DateStyle { public static var relative: DateStyle { absent() } }
    public init<S: StringProtocol>(_ content: S) {}
    public init(_ date: Date, style: DateStyle) {}
    public init<F: FormatStyle>(_ input: F.FormatInput, format: F) where F.FormatOutput == String {}
}
public struct Label: Leaf {
    public init(_ title: String, systemImage: String) {}
}
public struct Button<Content: View>: Leaf {
    public init(action: @escaping @MainActor () -> Void, @ViewBuilder label: () -> Content) {}
}
extension Button where Content == Text {
    public init(_ title: String, action: @escaping @MainActor () -> Void) {}
    public init(_ title: String, role: ButtonRole?, action: @escaping @MainActor () -> Void) {}
}
extension Button where Content == Label {
    public init(_ title: String, systemImage: String, action: @escaping @MainActor () -> Void) {}
}
public struct ProgressView: Leaf {
    public init() {}
    public init(_ title: String) {}
    public init<V: BinaryFloatingPoint>(_ title: String, value: V?, total: V = 1.0) {}
}
public struct Spacer: Leaf { public init(minLength: Double? = nil) {} }
public struct VStack<Content: View>: Leaf {
    public init(alignment: HorizontalAlignment = .center, spacing: Double? = nil, @ViewBuilder content: () -> Content) {}
}
public struct LazyVStack<Content: View>: Leaf {
    public init(alignment: HorizontalAlignment = .center, spacing: Double? = nil, @ViewBuilder content: () -> Content) {}
}
public struct HStack<Content: View>: Leaf {
    public init(alignment: VerticalAlignment = .center, spacing: Double? = nil, @ViewBuilder content: () -> Content) {}
}
public struct ScrollView<Content: View>: Leaf { public init(@ViewBuilder content: () -> Content) {} }
public struct ScrollViewReader<Content: View>: Leaf {
    public init(@ViewBuilder content: @escaping (ScrollViewProxy) -> Content) {}
}
@MainActor
public struct ScrollViewProxy {
    public func scrollTo<ID: Hashable>(_ id: ID, anchor: UnitPoint? = nil) {}
}
public struct ForEach<Data: RandomAccessCollection, ID: Hashable, Content: View>: Leaf {
    public init(_ data: Data, @ViewBuilder content: @escaping (Data.Element) -> Content)
    where Data.Element: Identifiable, ID == Data.Element.ID {}
    public init(_ data: Data, id: KeyPath<Data.Element, ID>, @ViewBuilder content: @escaping (Data.Element) -> Content) {}
    public func onDelete(perform action: ((IndexSet) -> Void)?) -> some View { EmptyView() }
}
public struct List<Content: View>: Leaf { public init(@ViewBuilder content: () -> Content) {} }
public struct Form<Content: View>: Leaf { public init(@ViewBuilder content: () -> Content) {} }
public struct Section<Parent: View, Content: View, Footer: View>: Leaf {
    public init(
        @ViewBuilder content: () -> Content, @ViewBuilder header: () -> Parent, @ViewBuilder footer: () -> Footer
    ) {}
}
extension Section where Footer == EmptyView {
    public init(@ViewBuilder content: () -> Content, @ViewBuilder header: () -> Parent) {}
}
public struct NavigationStack<Root: View>: Leaf { public init(@ViewBuilder root: () -> Root) {} }
public struct TextField: Leaf {
    public init(_ title: String, text: Binding<String>, axis: Axis) {}
}
public struct Toggle: Leaf { public init(_ title: String, isOn: Binding<Bool>) {} }
public struct Slider<Content: View>: Leaf {
    public init<V: BinaryFloatingPoint>(
        value: Binding<V>, in bounds: ClosedRange<V>, step: V.Stride = 1, @ViewBuilder label: () -> Content
    ) where V.Stride: BinaryFloatingPoint {}
}
public struct Picker<Value: Hashable, Content: View>: Leaf {
    public init(_ title: String, selection: Binding<Value>, @ViewBuilder content: () -> Content) {}
}
public struct LabeledContent<Content: View>: Leaf {
    public init(_ title: String, @ViewBuilder content: () -> Content) {}
}
extension LabeledContent where Content == Text {
    public init<S: StringProtocol>(_ title: String, value: S) {}
    public init<F: FormatStyle>(_ title: String, value: F.FormatInput, format: F)
    where F.FormatInput: Equatable, F.FormatOutput == String {}
}
public struct ContentUnavailableView<Title: View, Description: View, Actions: View>: Leaf {
    public init(
        @ViewBuilder label: () -> Title, @ViewBuilder description: () -> Description, @ViewBuilder actions: () -> Actions
    ) {}
}
extension ContentUnavailableView where Title == Label, Description == Text?, Actions == EmptyView {
    public init(_ title: String, systemImage: String, description: Text? = nil) {}
}
public struct ShareLink: Leaf { public init(item: String) {} }

// MARK: - Bars and modifiers

@MainActor @preconcurrency
public protocol ToolbarContent {}
public struct ToolbarItemPlacement {
    public static let topBarLeading: ToolbarItemPlacement = absent()
    public static let topBarTrailing: ToolbarItemPlacement = absent()
    public static let cancellationAction: ToolbarItemPlacement = absent()
    public static let confirmationAction: ToolbarItemPlacement = absent()
    public static let primaryAction: ToolbarItemPlacement = absent()
}
public struct ToolbarItem<Content: View>: ToolbarContent {
    public init(placement: ToolbarItemPlacement, @ViewBuilder content: () -> Content) {}
}
public struct ToolbarPair: ToolbarContent {}
@resultBuilder
public struct ToolbarContentBuilder {
    public static func buildPartialBlock<Content: ToolbarContent>(first: Content) -> Content { absent() }
    public static func buildPartialBlock<First: ToolbarContent, Second: ToolbarContent>(
        accumulated: First, next: Second
    ) -> ToolbarPair { absent() }
}
public enum NavigationBarItem { public enum TitleDisplayMode { case inline, large } }
public struct RoundedBorderTextFieldStyle {
    public static var roundedBorder: RoundedBorderTextFieldStyle { absent() }
}
public struct ButtonStyle { public static var borderedProminent: ButtonStyle { absent() } }
public struct LabelStyle { public static var iconOnly: LabelStyle { absent() } }
public struct TextSelectability { public static var enabled: TextSelectability { absent() } }
public enum ScrollDismissesKeyboardMode { case interactively }

extension View {
    public func font(_ font: Font?) -> some View { self }
    public func foregroundStyle<S: ShapeStyle>(_ style: S) -> some View { self }
    public func padding(_ edges: Edge.Set = .all, _ length: Double? = nil) -> some View { self }
    public func frame(maxWidth: Double? = nil, maxHeight: Double? = nil, alignment: Alignment = .center) -> some View { self }
    public func background<S: ShapeStyle>(_ style: S) -> some View { self }
    public func background<S: ShapeStyle, T: Shape>(_ style: S, in shape: T) -> some View { self }
    public func overlay<V: View>(@ViewBuilder content: () -> V) -> some View { self }
    public func disabled(_ disabled: Bool) -> some View { self }
    public func id<ID: Hashable>(_ id: ID) -> some View { self }
    public func tag<V: Hashable>(_ tag: V) -> some View { self }
    public func lineLimit(_ limit: ClosedRange<Int>) -> some View { self }
    public func lineLimit(_ number: Int?) -> some View { self }
    public func textFieldStyle(_ style: RoundedBorderTextFieldStyle) -> some View { self }
    public func buttonStyle(_ style: ButtonStyle) -> some View { self }
    public func labelStyle(_ style: LabelStyle) -> some View { self }
    public func textSelection(_ selectability: TextSelectability) -> some View { self }
    public func focused(_ condition: FocusState<Bool>.Binding) -> some View { self }
    public func keyboardShortcut(_ key: KeyEquivalent, modifiers: EventModifiers = .command) -> some View { self }
    public func scrollDismissesKeyboard(_ mode: ScrollDismissesKeyboardMode) -> some View { self }
    public func contextMenu<Items: View>(@ViewBuilder menuItems: () -> Items) -> some View { self }
    public func task(_ action: @escaping @Sendable @MainActor () async -> Void) -> some View { self }
    public func onChange<V: Equatable>(of value: V, _ action: @escaping (V, V) -> Void) -> some View { self }
    public func navigationTitle(_ title: String) -> some View { self }
    public func navigationBarTitleDisplayMode(_ mode: NavigationBarItem.TitleDisplayMode) -> some View { self }
    public func toolbar<Content: ToolbarContent>(@ToolbarContentBuilder content: () -> Content) -> some View { self }
    public func sheet<Item: Identifiable, Content: View>(
        item: Binding<Item?>, onDismiss: (() -> Void)? = nil, @ViewBuilder content: @escaping (Item) -> Content
    ) -> some View { self }
    public func fileImporter(
        isPresented: Binding<Bool>, allowedContentTypes: [UTType],
        onCompletion: @escaping (Result<URL, any Error>) -> Void
    ) -> some View { self }
    public func alert<Actions: View, Message: View>(
        _ title: String, isPresented: Binding<Bool>, @ViewBuilder actions: () -> Actions,
        @ViewBuilder message: () -> Message
    ) -> some View { self }
    public func accessibilityLabel(_ label: String) -> some View { self }
    public func accessibilityValue(_ value: String) -> some View { self }
    public func accessibilityValue(_ value: Text) -> some View { self }
    public func accessibilityHint(_ hint: String) -> some View { self }
    public func accessibilityElement(children: AccessibilityChildBehavior) -> some View { self }
    public func accessibilityAddTraits(_ traits: AccessibilityTraits) -> some View { self }
}
