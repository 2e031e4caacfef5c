plugins {
    alias(libs.plugins.android.application)
    alias(libs.plugins.kotlin.android)
    alias(libs.plugins.kotlin.serialization)
}

android {
    namespace = "ai.thimble.app"
    compileSdk = 35

    defaultConfig {
        applicationId = "ai.thimble.app"
        minSdk = 26
        targetSdk = 35
        versionCode = 1
        versionName = "0.1"
        // JNA's AAR has more of them.
        ndk { abiFilters += listOf("arm64-v8a", "x86_64") }
    }

    buildTypes {
        release {
            isMinifyEnabled = true
            isShrinkResources = true
            proguardFiles(getDefaultProguardFile("proguard-android-optimize.txt"))
            // So that the shrunk app can be tried; a store wants a key of its own.
            signingConfig = signingConfigs.getByName("debug")
        }
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }

}

kotlin {
    jvmToolchain(17)
}

dependencies {
    implementation(project(":thimble"))
    implementation(libs.coroutines.android)
    implementation(libs.serialization.json)
}
