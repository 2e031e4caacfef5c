plugins {
    alias(libs.plugins.android.library)
    alias(libs.plugins.kotlin.android)
}

android {
    namespace = "ai.thimble"
    compileSdk = 35
    // 28 and later align what they link to pages of 16 KiB by themselves; the linker is told so below all the same.
    ndkVersion = "28.2.13676358"

    defaultConfig {
        minSdk = 26
        consumerProguardFiles("consumer-rules.pro")
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }

    packaging {
        // Stored, not compressed, and mapped from the APK: needs the alignment that the plugin gives them.
        jniLibs.useLegacyPackaging = false
    }
}

kotlin {
    jvmToolchain(17)
}

dependencies {
    api(libs.coroutines.core)
    // For the package ai.thimble.serialization alone: an app that uses it brings the library itself.
    compileOnly(libs.serialization.json)
    // The AAR brings JNA's own libraries for every ABI; an app ships those of its ABIs.
    implementation(variantOf(libs.jna) { artifactType("aar") })
}

/** Builds libthimble_ffi.so for every ABI: `cargo install cargo-ndk`, and the two Rust targets, are needed. */
abstract class CargoNdk @Inject constructor(private val process: ExecOperations) : DefaultTask() {
    @get:Internal
    abstract val workspace: DirectoryProperty

    @get:InputFiles
    @get:PathSensitive(PathSensitivity.RELATIVE)
    abstract val sources: ConfigurableFileCollection

    @get:Input
    abstract val abis: ListProperty<String>

    @get:Input
    abstract val minSdk: Property<Int>

    @get:OutputDirectory
    abstract val libraries: DirectoryProperty

    @TaskAction
    fun build() {
        val targets = abis.get().flatMap { listOf("--target", it) }
        process.exec {
            workingDir = workspace.get().asFile
            environment("RUSTFLAGS", "-C link-arg=-Wl,-z,max-page-size=16384")
            commandLine(
                listOf("cargo", "ndk") + targets +
                    listOf("--platform", minSdk.get().toString(), "--output-dir", libraries.get().asFile.path) +
                    listOf("build", "--profile", "mobile", "--locked", "--package", "thimble-ffi"),
            )
        }
    }
}

/** Writes uniffi's Kotlin. The library of the build machine says the same as those of the ABIs. */
abstract class Bindgen @Inject constructor(private val process: ExecOperations) : DefaultTask() {
    @get:Internal
    abstract val workspace: DirectoryProperty

    @get:InputFiles
    @get:PathSensitive(PathSensitivity.RELATIVE)
    abstract val sources: ConfigurableFileCollection

    @get:InputFile
    @get:PathSensitive(PathSensitivity.RELATIVE)
    abstract val config: RegularFileProperty

    @get:OutputDirectory
    abstract val kotlin: DirectoryProperty

    @TaskAction
    fun generate() {
        val folder = workspace.get().asFile
        process.exec {
            workingDir = folder
            commandLine("cargo", "build", "--locked", "--package", "thimble-ffi", "--features", "bindgen")
        }
        val target = System.getenv("CARGO_TARGET_DIR")?.let(::File) ?: folder.resolve("target")
        val name = System.mapLibraryName("thimble_ffi")
        process.exec {
            workingDir = folder
            commandLine(
                target.resolve("debug/uniffi-bindgen").path, "generate",
                "--library", target.resolve("debug/$name").path,
                "--language", "kotlin", "--no-format",
                "--config", config.get().asFile.path,
                "--out-dir", kotlin.get().asFile.path,
            )
        }
    }
}

// From here, not from the build's root: that is an app's own where the module is taken into one.
val rustWorkspace: File = projectDir.resolve("../../..").canonicalFile

/** Whatever changes the library. */
val rust = fileTree(rustWorkspace) {
    include("Cargo.toml", "Cargo.lock", "bindings/**/*.rs", "bindings/Cargo.toml")
    include("runtime/**/*.rs", "runtime/**/Cargo.toml")
}

val cargoNdk by tasks.registering(CargoNdk::class) {
    workspace.set(rustWorkspace)
    sources.from(rust)
    abis.set(listOf("arm64-v8a", "x86_64"))
    minSdk.set(26)
    libraries.set(layout.buildDirectory.dir("rust/jniLibs"))
}

val bindgen by tasks.registering(Bindgen::class) {
    workspace.set(rustWorkspace)
    sources.from(rust)
    config.set(layout.projectDirectory.file("../uniffi.toml"))
    kotlin.set(layout.buildDirectory.dir("generated/uniffi"))
}

androidComponents {
    onVariants { variant ->
        variant.sources.jniLibs?.addGeneratedSourceDirectory(cargoNdk, CargoNdk::libraries)
        variant.sources.kotlin?.addGeneratedSourceDirectory(bindgen, Bindgen::kotlin)
    }
}
